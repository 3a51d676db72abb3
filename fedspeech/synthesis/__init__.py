"""The formant synthesizer: words to waveforms."""

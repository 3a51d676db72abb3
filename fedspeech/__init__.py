"""Federated on-device personalization for speech: the library under the simulator.

The flow, left to right: waveform, features, local dataset, adapter training, delta, clip, encode,
noise, mask, sum, decode, server optimiser, evaluation, export. `fedspeech.round` tells it in one
page.
"""

__version__ = "0.1.0"

"""The formant voice: from a word to samples that somebody might have spoken."""

"""Federated on-device personalization for speech: the library under the simulator.

The flow, left to right: waveform, features, local dataset, adapter training, delta, clip, encode,
noise, mask, sum, decode, server optimizer, evaluation, export. `fedspeech.round` tells it in one
page.
"""

import os

__version__ = "0.1.0"

# MKL, which multiplies matrices for torch, lets the last bits of a product depend on the alignment
# of its operands unless it is told otherwise before its first call: on some processors a phone's
# bits then depend on its place in a block. (Intel oneMKL developer guide, "conditional numerical
# reproducibility".) A setting of the user's own is kept.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

"""The standardization of a network, folded into its first convolution.

A microcontroller quantizes log-mel once, with one scale for all bands; what would standardize them
afterwards is then no operator of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import Network


def standardized_inside(network: Network) -> Network:
    """The same function of log-mel that is not standardized, whose mean is 0 and deviation 1."""
    stem = network.encoder.stem
    # In double: what is subtracted is larger than what is left.
    weight = stem.weight.astype(np.float64) / network.feature_std[:, None]
    bias = stem.bias - (weight * network.feature_mean[:, None]).sum(axis=(1, 2))
    folded = FoldedConv(weight.astype(np.float32), bias.astype(np.float32), stem.stride)
    return replace(
        network,
        encoder=replace(network.encoder, stem=folded),
        feature_mean=np.zeros_like(network.feature_mean),
        feature_std=np.ones_like(network.feature_std),
    )

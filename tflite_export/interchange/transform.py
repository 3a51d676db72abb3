"""The Fourier transform as a convolution, and the mel filters beside it, as plain arrays.

Every runtime has convolutions; transforms they lack or compute less exactly: onnxruntime's STFT is
five times further from torch on a lone tone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tflite_export.arrays import FloatArray, Network


def waves(network: Network) -> tuple[FloatArray, FloatArray]:
    """Windowed cosines and sines of the bins under the filters, each (bins, 1, window)."""
    length = network.frontend.window_samples
    # Reduced to one period while they are integers: an angle of thousands would lose digits.
    turns = np.outer(covered_bins(network), np.arange(length)) % length
    angles = 2 * np.pi * turns / length
    window = network.window.astype(np.float64)
    cosines, sines = (
        (wave(angles) * window)[:, np.newaxis].astype(np.float32) for wave in (np.cos, np.sin)
    )
    return cosines, sines


def filters(network: Network) -> FloatArray:
    """Mel filters over those bins, (mels, bins)."""
    bins = covered_bins(network)
    dense = np.zeros((network.frontend.num_mels, len(bins)), np.float32)
    for mel, (places, weights) in enumerate(
        zip(network.mel_bins, network.mel_weights, strict=True)
    ):
        dense[mel, np.searchsorted(bins, places[weights > 0])] = weights[weights > 0]
    return dense


def covered_bins(network: Network) -> NDArray[np.int32]:
    """Bins of the spectrum under any filter, ascending."""
    return np.unique(network.mel_bins[network.mel_weights > 0])

"""The front end of Google's speech embedding: 32 mel bands, 100 frames a second, in decibels.

`melspectrogram.tflite`, which the wheel `pyopen-wakeword` has beside the embedding, computes the
same, but cuts 80 dB under the maximum of whatever it is given: a whole clip and a stream of pieces
would then differ wherever the one is silent and the other is not. Here the floor is one number.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WINDOW_SAMPLES = 400
FFT_SAMPLES = 512
HOP_SAMPLES = 160
RATE_HZ = 16_000
NUM_MELS = 32
LOW_HZ, HIGH_HZ = 60.0, 3_800.0

FLOOR_DB = 10.0
"""Of a band's energy at 16-bit scale. On recorded words, ten decibels answer as many right as 80 dB
under each clip's maximum do."""

_FULL_SCALE = 32_768.0


class SpeechEmbeddingMel(nn.Module):
    """max(10 log10(band energy), floor) / 10 + 2, energies at 16-bit scale."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        pad = (FFT_SAMPLES - WINDOW_SAMPLES) // 2
        angle = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
        window = np.pad(0.5 - 0.5 * np.cos(angle), (pad, pad)) * _FULL_SCALE
        self.register_buffer("window", torch.from_numpy(window.astype(np.float32)))
        self.register_buffer("filters", torch.from_numpy(slaney_filters().astype(np.float32)))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Maps (n, samples), full scale 1, to (n, frames, 32); frame t begins at 160 t."""
        frames = waveforms.unfold(1, FFT_SAMPLES, HOP_SAMPLES)
        spectrum = torch.fft.rfft(frames * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        decibels = 10 * torch.log10(torch.clamp(power @ self.filters, min=10 ** (FLOOR_DB / 10)))
        return decibels / 10 + 2


def slaney_filters() -> NDArray[np.float64]:
    """Returns triangles of area 1 per hertz on Slaney's mel scale, shape (257, 32).

    Slaney 1998, Auditory Toolbox: linear below 1,000 Hz (200 / 3 Hz a mel), above it 27 mels to a
    factor of 6.4.
    """
    edges = _hertz(np.linspace(_mels(LOW_HZ), _mels(HIGH_HZ), NUM_MELS + 2))
    bins = np.arange(FFT_SAMPLES // 2 + 1) * RATE_HZ / FFT_SAMPLES
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - lower) / (center - lower)
    falling = (upper - bins[:, None]) / (upper - center)
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters * 2 / (upper - lower)


_KNEE_HZ, _KNEE_MELS = 1_000.0, 15.0
_STEP = np.log(6.4) / 27


def _mels(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return 3 * hertz / 200
    return float(_KNEE_MELS + np.log(hertz / _KNEE_HZ) / _STEP)


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    above: NDArray[np.float64] = _KNEE_HZ * np.exp(_STEP * (mels - _KNEE_MELS))
    return np.where(mels < _KNEE_MELS, 200 * mels / 3, above)

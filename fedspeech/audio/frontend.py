"""Waveform to log-mel, frame by frame: no statistic over the clip, no padding, no centring.

Frame t needs samples `t * hop` to `t * hop + window - 1` and nothing else, so a phone computes it
as soon as its last sample has arrived.

    frontend = LogMel(FrontendSpec())
    features = frontend(waveforms)      # (n, 16000) -> (n, 49, 40)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.audio.spec import FrontendSpec


def hann_window(num_samples: int) -> NDArray[np.float32]:
    """Returns the periodic Hann window, shape (num_samples,): sin^2(pi k / num_samples)."""
    k = np.arange(num_samples)
    return (np.sin(np.pi * k / num_samples) ** 2).astype(np.float32)


def mel_matrix(spec: FrontendSpec) -> NDArray[np.float32]:
    """Returns the filters, shape (window / 2 + 1, mels): triangles of height 1 on the mel scale.

    HTK's scale and shape (Young et al., The HTK Book, 5.4): mel(f) = 2595 log10(1 + f / 700), edges
    equally spaced in mel, each triangle linear in mel. `tf.signal.linear_to_mel_weight_matrix`
    computes the same.

    Raises:
      ValueError: if a filter is so narrow that no bin of the spectrum falls into it.
    """
    bins_hz = np.arange(spec.window_samples // 2 + 1) * spec.rate_hz / spec.window_samples
    low, high = _mel(np.array([spec.low_hz, spec.high_hz]))
    edges = np.linspace(low, high, spec.num_mels + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(bins_hz)[:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=0) == 0)
    if empty.size:
        raise ValueError(
            f"num_mels={spec.num_mels} is too many for window_samples={spec.window_samples} at "
            f"rate_hz={spec.rate_hz}: filter {empty[0]} holds no bin of the spectrum"
        )
    single: NDArray[np.float32] = filters.astype(np.float32)
    return single


def _mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """HTK's mel scale."""
    mel: NDArray[np.float64] = 2595.0 * np.log10(1.0 + frequency_hz / 700.0)
    return mel


class LogMel(nn.Module):
    """log(filter energies + floor), energies in squared full scale.

    The power spectrum is divided by the squared sum of the window, so that a sine of amplitude a
    peaks at a^2 / 4 whatever the window's length.

    Attributes:
      window: shape (window,), already divided by its sum.
      filters: shape (window / 2 + 1, mels).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        """Computes window and filters once.

        Raises:
          ValueError: if the filters do not fit the spectrum; see `mel_matrix`.
        """
        super().__init__()
        self.spec = spec
        window = hann_window(spec.window_samples).astype(np.float64)
        scaled = (window / window.sum()).astype(np.float32)
        self.register_buffer("window", torch.from_numpy(scaled), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_matrix(spec)), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Computes the features of whole clips or of any piece of a stream.

        Args:
          waveforms: shape (n, samples), float32, full scale 1; at least one window long.

        Returns:
          Shape (n, frames, mels) with frames = 1 + (samples - window) // hop. The last bits of a
          clip may depend on how many clips share the call (matrix products choose their kernel by
          size); callers that must repeat bits use blocks of one size.

        Raises:
          ValueError: if the shape is wrong or a waveform is shorter than a window.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] < self.spec.window_samples:
            raise ValueError(
                f"waveforms must have shape (n, at least {self.spec.window_samples} samples), got "
                f"{tuple(waveforms.shape)}"
            )
        frames = waveforms.unfold(1, self.spec.window_samples, self.spec.hop_samples) * self.window
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power @ self.filters + self.spec.floor)

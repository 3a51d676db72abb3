"""Waveform to log-mel or cepstra, frame by frame: no statistic over the clip, no centering.

Frame t needs samples `t * hop` to `t * hop + window - 1` and nothing else, so a phone computes it
as soon as its last sample has arrived. (The kind "pcan" also remembers the noise before them.)

    frontend = LogMel(FrontendSpec())
    features = frontend(waveforms)      # (n, 16000) -> (n, 49, 40)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.audio.pcan import pcan_features
from fedspeech.audio.spec import Cepstra, FrontendSpec


def hann_window(num_samples: int) -> NDArray[np.float32]:
    """Returns the periodic Hann window, shape (num_samples,): sin^2(pi k / num_samples)."""
    k = np.arange(num_samples)
    return (np.sin(np.pi * k / num_samples) ** 2).astype(np.float32)


def mel_matrix(spec: FrontendSpec) -> NDArray[np.float32]:
    """Returns the filters, shape (fft / 2 + 1, mels): triangles of height 1 on the mel scale.

    HTK's scale and shape (Young et al., The HTK Book, 5.4): mel(f) = 2595 log10(1 + f / 700), edges
    equally spaced in mel, each triangle linear in mel. `tf.signal.linear_to_mel_weight_matrix`
    computes the same.

    Raises:
      ValueError: if a filter is so narrow that no bin of the spectrum falls into it.
    """
    bins_hz = np.arange(spec.fft_samples // 2 + 1) * spec.rate_hz / spec.fft_samples
    low, high = _mel(np.array([spec.low_hz, spec.high_hz]))
    edges = np.linspace(low, high, spec.num_mels + 2)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(bins_hz)[:, None]
    rising = (bins - lower) / (center - lower)
    falling = (upper - bins) / (upper - center)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=0) == 0)
    if empty.size:
        raise ValueError(
            f"num_mels={spec.num_mels} is too many for an FFT of {spec.fft_samples} samples at "
            f"rate_hz={spec.rate_hz}: filter {empty[0]} holds no bin of the spectrum"
        )
    single: NDArray[np.float32] = filters.astype(np.float32)
    return single


def cepstral_matrix(spec: FrontendSpec, cepstra: Cepstra) -> NDArray[np.float32]:
    """Returns what turns log energies of the bands into cepstra, shape (mels, cepstra).

    Sphinx's own transform: c_i = (sum_j L_j cos(i pi (j + 1/2) / N) - L_0 cos(i pi / 2N) / 2) / N
    over N bands (the "legacy" one of its front end, which AN4's features were made with).
    """
    bands = np.arange(spec.num_mels)
    cosines = np.cos(np.pi * np.outer(bands + 0.5, np.arange(cepstra.num)) / spec.num_mels)
    cosines[0] /= 2
    matrix: NDArray[np.float32] = (cosines / spec.num_mels).astype(np.float32)
    return matrix


def _mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """HTK's mel scale."""
    mel: NDArray[np.float64] = 2595.0 * np.log10(1.0 + frequency_hz / 700.0)
    return mel


class LogMel(nn.Module):
    """log(filter energies + floor), energies in squared full scale; then cepstra if asked for.

    The power spectrum is divided by the squared sum of the window, so that a sine of amplitude a
    peaks at a^2 / 4 whatever the window's length. Cepstra are of the energies that Sphinx has:
    16-bit samples, an undivided spectrum, filters of area 1 per Hz.

    Attributes:
      window: shape (window,), already divided by its sum.
      filters: shape (fft / 2 + 1, mels).
      cosines: shape (mels, cepstra); none for log-mel.
      offset: added to log energies before the cosines, shape (mels,); none for log-mel.
    """

    window: Tensor
    filters: Tensor
    cosines: Tensor
    offset: Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        """Computes window and filters once.

        Raises:
          ValueError: if the filters do not fit the spectrum; see `mel_matrix`.
        """
        super().__init__()
        self.spec = spec
        shape = np.hamming if spec.cepstra else hann_window
        window = shape(spec.window_samples).astype(np.float32).astype(np.float64)
        scaled = (window / window.sum()).astype(np.float32)
        filters = mel_matrix(spec)
        # Not persistent: they follow from the spec, and a base's file holds no copy.
        self.register_buffer("window", torch.from_numpy(scaled), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        if spec.cepstra:
            area_hz = filters.sum(axis=0, dtype=np.float64) * spec.rate_hz / spec.fft_samples
            offset = (2 * np.log(window.sum() * 2**15) - np.log(area_hz)).astype(np.float32)
            cosines = torch.from_numpy(cepstral_matrix(spec, spec.cepstra))
            self.register_buffer("cosines", cosines, persistent=False)
            self.register_buffer("offset", torch.from_numpy(offset), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Computes the features of whole clips or of any piece of a stream.

        Waveforms have shape (n, samples), float32, full scale 1. The result has shape (n, frames,
        features) with frames = 1 + (samples - window) // hop. The last bits of a clip may depend on
        the number of clips in the call (matrix products choose their kernel by size); callers that
        must repeat bits use blocks of one size.

        Raises:
          ValueError: if the shape is wrong or a waveform is shorter than a window.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] < self.spec.window_samples:
            raise ValueError(
                f"waveforms must have shape (n, at least {self.spec.window_samples} samples), got "
                f"{tuple(waveforms.shape)}"
            )
        if self.spec.kind == "pcan":
            whole = torch.round(waveforms.cpu() * 2**15).clamp(-(2**15), 2**15 - 1)
            features = pcan_features(whole.to(torch.int16).numpy())
            return torch.from_numpy(features).to(waveforms.device)
        frames = waveforms.unfold(1, self.spec.window_samples, self.spec.hop_samples)
        cepstra = self.spec.cepstra
        if cepstra:
            # Within the frame, whose first sample precedes itself: a frame needs no sample before
            # its own.
            before = nn.functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
            frames = frames - cepstra.preemphasis * before
        spectrum = torch.fft.rfft(frames * self.window, self.spec.fft_samples)
        power = spectrum.real.square() + spectrum.imag.square()
        log_mel = torch.log(power @ self.filters + self.spec.floor)
        return (log_mel + self.offset) @ self.cosines if cepstra else log_mel

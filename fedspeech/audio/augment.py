"""Variations of features for pre-training, which stand for other voices, rooms and microphones.

On features a clip costs microseconds. Log-mel is stretched and shifted along time (tempo) and along
the mel scale (tract length), with a ringing room, a microphone's smooth response, added noise, and
masks over bands and frames (SpecAugment, Park et al. 2019, arXiv:1904.08779). Only pre-training
uses them; phones and evaluation get features as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the variations of log-mel, each drawn uniformly and independently per clip.

    Attributes:
      shift_frames: largest shift in time, either way.
      stretch: largest relative change of tempo, either way.
      shift_mels: largest shift along the mel scale, in bands, either way.
      tail: largest share of a frame's energy that rings on in the next.
      level_db: (low, high) gain of speech and noise alike, as of a microphone.
      response_db: largest amplitude of each of the three cosines of a response over bands.
      noise_db: (low, high) energy of added noise in a band before the gain, relative to squared
        full scale.
      mask_mels: widest mask over bands.
      mask_frames: longest mask over frames.
    """

    shift_frames: float = 6.0
    stretch: float = 0.15
    shift_mels: float = 1.0
    tail: float = 0.4
    level_db: tuple[float, float] = (-30.0, 10.0)
    response_db: float = 3.0
    noise_db: tuple[float, float] = (-95.0, -55.0)
    mask_mels: int = 6
    mask_frames: int = 6


def augment(
    log_mel: Tensor, floor: float, spec: Augmentation, generator: torch.Generator
) -> Tensor:
    """Varies every clip of a batch independently.

    `log_mel`, shape (n, frames, mels), is log(energy + floor), not standardized, and so is the
    result. `floor` is the front end's, in squared full scale; it fills masks.
    """
    num_clips, num_frames, num_mels = log_mel.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), shape (n, *shape)."""
        return low + (high - low) * torch.rand(num_clips, *shape, generator=generator)

    def response() -> Tensor:
        """A smooth random response over bands in dB, shape (n, 1, mels)."""
        amplitudes = draw(-spec.response_db, spec.response_db, 1, 3)
        angles = torch.arange(1, 4)[:, None] * math.pi * (torch.arange(num_mels) + 0.5) / num_mels
        return amplitudes @ torch.cos(angles)

    frames, mels = torch.arange(num_frames), torch.arange(num_mels)
    center = (num_frames - 1) / 2
    tempo = 1 + draw(-spec.stretch, spec.stretch, 1)
    from_frame = center + (frames - center) * tempo + draw(-spec.shift_frames, spec.shift_frames, 1)
    from_mel = (mels + draw(-spec.shift_mels, spec.shift_mels, 1)).clamp(0, num_mels - 1)
    # Interpolated above the floor, so that what comes from outside the clip is silence.
    above_floor = log_mel - math.log(floor)
    warped = _interpolate(from_frame, num_frames) @ above_floor
    warped = warped @ _interpolate(from_mel, num_mels).transpose(1, 2)
    # expm1, since the energy of quiet bands is small beside the floor that is taken off again.
    energy = floor * torch.expm1(warped)

    age = frames[:, None] - frames
    ringing = torch.where(age >= 0, draw(0, spec.tail, 1, 1) ** age.clamp(min=0), 0.0)
    energy = (ringing @ energy) * _from_db(response())

    # A band's noise energy in one frame is exponential around its mean, as for Gaussian noise.
    fluctuation = -torch.log1p(-draw(0, 1, num_frames, num_mels))
    energy = energy + _from_db(draw(*spec.noise_db, 1, 1) + response()) * fluctuation
    energy = energy * _from_db(draw(*spec.level_db, 1, 1))

    # Masked places hold the floor, since log-mel has no zero.
    kept = _outside_mask(draw(0, 1, 1), draw(0, 1, 1), spec.mask_frames, num_frames)[:, :, None]
    kept = kept & _outside_mask(draw(0, 1, 1), draw(0, 1, 1), spec.mask_mels, num_mels)[:, None, :]
    return torch.log(torch.where(kept, energy, 0.0) + floor)


@dataclass(frozen=True, kw_only=True)
class CepstralVariation:
    """Ranges of the variations of a sentence's cepstra, which hold no energies.

    Attributes:
      stretch: largest relative change of tempo, either way.
      response: standard deviation of an offset of the whole sentence (microphone, room), in
        standard deviations of the feature.
      noise: largest standard deviation of independent noise in every frame, in the same unit.
      masks: number of stretches of frames that are blanked.
      mask_frames: length of the longest.
    """

    stretch: float = 0.15
    response: float = 0.2
    noise: float = 0.15
    masks: int = 1
    mask_frames: int = 8


def vary_cepstra(
    features: Tensor, frames: Tensor, spec: CepstralVariation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Varies every sentence of a batch independently.

    Features are standardized, shape (n, frames, m), with zeros after each sentence's number of
    frames, shape (n,).

    Returns:
      Features, shape (n, longer frames, m), zeros after the ends, and the new numbers of frames.
    """
    num_clips, num_frames, num_features = features.shape
    tempo = 1 + spec.stretch * (2 * torch.rand(num_clips, 1, generator=generator) - 1)
    longest = int(num_frames / (1 - spec.stretch)) + 1
    places = torch.arange(longest)
    source = places * tempo
    low = source.floor().long().clamp(max=num_frames - 1)
    share = (source - low).clamp(0, 1)[:, :, None]
    high = (low + 1).clamp(max=num_frames - 1)
    rows = torch.arange(num_clips)[:, None]
    varied = features[rows, low] * (1 - share) + features[rows, high] * share
    stretched = (frames / tempo[:, 0]).floor().long().clamp(min=1, max=longest)

    offset = spec.response * torch.randn(num_clips, 1, num_features, generator=generator)
    level = spec.noise * torch.rand(num_clips, 1, 1, generator=generator)
    varied = varied + offset + level * torch.randn(varied.shape, generator=generator)
    kept = places < stretched[:, None]
    for _ in range(spec.masks):
        width, start = (torch.rand(num_clips, 1, generator=generator) for _ in range(2))
        width = torch.floor(width * (spec.mask_frames + 1))
        start = torch.floor(start * (stretched[:, None] - width).clamp(min=1))
        kept = kept & ~((places >= start) & (places < start + width))
    return varied * kept[:, :, None], stretched


def _interpolate(positions: Tensor, size: int) -> Tensor:
    """Weights (n, m, size) that read a row of `size` values at fractional positions (n, m)."""
    distance = (positions[:, :, None] - torch.arange(size)).abs()
    return (1 - distance).clamp(min=0)


def _outside_mask(width: Tensor, start: Tensor, widest: int, size: int) -> Tensor:
    """True outside a mask of 0 to `widest` places; width and start are uniform in [0, 1)."""
    width = torch.floor(width * (widest + 1))
    start = torch.floor(start * (size - width + 1))
    places = torch.arange(size)
    return (places < start) | (places >= start + width)


def _from_db(level_db: Tensor) -> Tensor:
    """Decibel of energy to a factor."""
    return torch.exp(level_db * (math.log(10) / 10))

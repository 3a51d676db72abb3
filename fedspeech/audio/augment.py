"""Variations of log-mel features for pre-training: cheap stand-ins for voices, rooms, microphones.

Everything happens on features, where a clip costs microseconds: stretching and shifting along time
and along the mel scale (tempo, tract length), a ringing room, a microphone's smooth response, added
noise, and masks over bands and frames (SpecAugment, Park et al. 2019, arXiv:1904.08779). Only
training sees them; phones and evaluation get features as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far features are varied; a clip draws each change uniformly, independent of the others.

    Attributes:
      shift_frames: largest shift in time, either way.
      stretch: largest relative change of tempo, either way.
      shift_mels: largest shift along the mel scale, in bands, either way.
      tail: largest share of a frame's energy that rings on in the next.
      gain_db: largest change of level, either way.
      response_db: largest amplitude of each of the three cosines that make a response over bands.
      noise_db: (low, high) energy of added noise in a band, relative to squared full scale.
      mask_mels: widest mask over bands.
      mask_frames: longest mask over frames.
    """

    shift_frames: float = 6.0
    stretch: float = 0.15
    shift_mels: float = 1.0
    tail: float = 0.4
    gain_db: float = 10.0
    response_db: float = 3.0
    noise_db: tuple[float, float] = (-95.0, -55.0)
    mask_mels: int = 6
    mask_frames: int = 6


def augment(
    log_mel: Tensor, floor: float, spec: Augmentation, generator: torch.Generator
) -> Tensor:
    """Varies every clip of a batch on its own.

    Args:
      log_mel: shape (n, frames, mels), log(energy + floor), not standardised.
      floor: the front end's floor, in squared full scale; masks hold it.
      spec: how far.
      generator: where the draws come from.

    Returns:
      Same shape and meaning.
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
    centre = (num_frames - 1) / 2
    tempo = 1 + draw(-spec.stretch, spec.stretch, 1)
    from_frame = centre + (frames - centre) * tempo + draw(-spec.shift_frames, spec.shift_frames, 1)
    from_mel = (mels + draw(-spec.shift_mels, spec.shift_mels, 1)).clamp(0, num_mels - 1)
    # Interpolated above the floor, so that what comes from outside the clip is silence.
    above_floor = log_mel - math.log(floor)
    warped = _interpolate(from_frame, num_frames) @ above_floor
    warped = warped @ _interpolate(from_mel, num_mels).transpose(1, 2)
    energy = floor * torch.expm1(warped)

    age = frames[:, None] - frames
    ringing = torch.where(age >= 0, draw(0, spec.tail, 1, 1) ** age.clamp(min=0), 0.0)
    gain_db = draw(-spec.gain_db, spec.gain_db, 1, 1) + response()
    energy = (ringing @ energy) * _from_db(gain_db)

    # A band's noise energy in one frame is exponential around its mean, as for Gaussian noise.
    fluctuation = -torch.log1p(-draw(0, 1, num_frames, num_mels))
    energy = energy + _from_db(draw(*spec.noise_db, 1, 1) + response()) * fluctuation

    kept = _outside_mask(draw(0, 1, 1), draw(0, 1, 1), spec.mask_frames, num_frames)[:, :, None]
    kept = kept & _outside_mask(draw(0, 1, 1), draw(0, 1, 1), spec.mask_mels, num_mels)[:, None, :]
    return torch.log(torch.where(kept, energy, 0.0) + floor)


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

"""Altered copies of a recorded clip: the same word in other noise, at other levels and tempi.

A phone that personalizes has a clip or two of each word. Copies tell its adapter which differences
are not the voice: they keep it from learning one recording by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """Ranges from which every alteration is drawn uniformly.

    Attributes:
      noise_db: (low, high) power of the clip over that of the added noise.
      noise_slope: (low, high) exponent of the noise's amplitude over frequency: 0 is white, 1 falls
        by 6 dB an octave.
      gain_db: (low, high) of speech and noise alike.
      shift_s: largest shift in time, either way.
      speed: largest relative change of tempo and pitch together, either way.
    """

    noise_db: tuple[float, float] = (5.0, 25.0)
    noise_slope: tuple[float, float] = (0.0, 1.0)
    gain_db: tuple[float, float] = (-10.0, 6.0)
    shift_s: float = 0.1
    speed: float = 0.1


def altered(
    clip: FloatArray, rate_hz: int, rng: np.random.Generator, spec: Alteration
) -> FloatArray:
    """Alters one clip (samples,), full scale 1; what leaves its length is lost, zeros fill up.

    The noise is as loud as the clip's mean power says, so a clip of digital silence stays silent.
    """
    samples = len(clip)
    speed = 1 + rng.uniform(-spec.speed, spec.speed)
    shift = rng.uniform(-spec.shift_s, spec.shift_s) * rate_hz
    center = (samples - 1) / 2
    # Linear interpolation: at +-10 % it takes little more than the uppermost octave.
    places = center + (np.arange(samples) - center) * speed - shift
    moved = np.interp(places, np.arange(samples), clip, left=0.0, right=0.0)
    power = float(np.mean(np.square(clip, dtype=np.float64)))
    level = np.sqrt(power * _power(-rng.uniform(*spec.noise_db)))
    noise = level * _noise(samples, rate_hz, rng.uniform(*spec.noise_slope), rng)
    gain = np.sqrt(_power(rng.uniform(*spec.gain_db)))
    heard: FloatArray = np.clip(gain * (moved + noise), -1, 1).astype(np.float32)
    return heard


def _noise(
    samples: int, rate_hz: int, slope: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Gaussian noise (samples,) of unit power, its amplitude falling with frequency."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    # Flat below 50 Hz: a power law would put all of its energy where no speech is.
    spectrum *= np.maximum(np.fft.rfftfreq(samples, 1 / rate_hz), 50.0) ** -slope
    noise = np.fft.irfft(spectrum, samples)
    scaled: NDArray[np.float64] = noise / np.sqrt(np.mean(noise**2))
    return scaled


def _power(level_db: float) -> float:
    """Decibel to a ratio of powers."""
    return float(10 ** (level_db / 10))

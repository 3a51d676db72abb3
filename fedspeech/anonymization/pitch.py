"""Pitch drawn to its mean: what a sentence's melody tells of who speaks, and of their feeling.

    F0MeanReversion()(waveform, 16_000, voice=Keystream(key), noise=Keystream(other_key))

Through the WORLD vocoder (Morise et al. 2016, doi:10.1587/transinf.2015EDP7457; package pyworld,
extra `world`): pitch, envelope and aperiodicity are taken apart, the pitch is changed, and sound is
made of them again. The envelope, which tells most of a voice, stays: this is for prosody, and hides
nobody (docs/anonymization.md).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.anonymization.waveform import Factor, Waveform, checked, gaussian, limited, uniform
from fedspeech.errors import require
from fedspeech.extras import MissingExtra
from fedspeech.extras import require as needed
from fedspeech.limits import Share, check_limits
from fedspeech.seeds import Keystream

Samples = NDArray[np.float64]

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 600.0
_LEAST_SAMPLES = 512


@dataclass(frozen=True, kw_only=True)
class F0MeanReversion:
    """Keeps 1 - alpha of how far the pitch is from its mean, and adds noise to it.

    Attributes:
      alpha: share of the deviation that is taken away.
      noise_db: power of the deviations that were there over that of the noise on them.
      lowest_pitch, highest_pitch: of the uniform draw of a factor on the pitch.
      lowest_energy, highest_energy: likewise on the amplitude.
    """

    alpha: Share = 0.75
    noise_db: float = 10.0
    lowest_pitch: Factor = 0.8
    highest_pitch: Factor = 1.25
    lowest_energy: Factor = 0.7
    highest_energy: Factor = 1.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)
        require(abs(self.noise_db) < 200, "noise_db must be within 200 dB", noise_db=self.noise_db)
        fits = self.lowest_pitch <= self.highest_pitch and self.lowest_energy <= self.highest_energy
        require(fits, "a lowest factor must be at most its highest", pitch=self.lowest_pitch,
                energy=self.lowest_energy)  # fmt: skip

    def __call__(
        self, waveform: Waveform, rate_hz: int, *, voice: Keystream, noise: Keystream
    ) -> Waveform:
        """Draws both factors and makes the sound anew; see `waveform.Method`.

        Raises:
          MissingExtra: without pyworld.
        """
        sound = checked(waveform)
        pitch_by = uniform(voice, self.lowest_pitch, self.highest_pitch)
        energy_by = uniform(voice, self.lowest_energy, self.highest_energy)
        if len(sound) < _LEAST_SAMPLES or not sound.any():
            return limited(energy_by * sound)  # no frame of WORLD fits, or nothing is voiced
        f0, times = _pitch(sound, rate_hz)
        pyworld = _world()
        envelope = pyworld.cheaptrick(sound, f0, times, rate_hz)
        # By default frames that are not clearly voiced lose all voicing, at 8 kHz all of them.
        roughness = pyworld.d4c(sound, f0, times, rate_hz, threshold=0.0)
        changed = self.reverted(f0, noise) * pitch_by * (f0 > 0)
        made = pyworld.synthesize(changed, envelope, roughness, rate_hz)
        found = np.zeros(len(sound))
        found[: len(made)] = made[: len(sound)]
        return limited(energy_by * found)

    def reverted(self, f0: Samples, noise: Keystream) -> Samples:
        """Pitch in Hz, 0 unvoiced, drawn to its mean over voiced frames, shape (frames,)."""
        voiced = f0 > 0
        if not voiced.any():
            return f0
        mean = f0[voiced].mean()
        deviation = (f0 - mean) * voiced
        spread = np.sqrt(np.mean(deviation[voiced] ** 2) * 10 ** (-self.noise_db / 10))
        moved = mean + (1 - self.alpha) * deviation + spread * gaussian(noise, len(f0))
        return np.asarray(np.where(voiced, np.clip(moved, _LOWEST_HZ, _HIGHEST_HZ), 0.0))


def f0_contour(waveform: Waveform, rate_hz: int) -> Samples:
    """Pitch every 5 ms in Hz, 0 where nothing is voiced, (frames,).

    Raises:
      MissingExtra: without pyworld.
      ValueError: if a sample is not finite.
    """
    return _pitch(checked(waveform), rate_hz)[0]


def _pitch(sound: Samples, rate_hz: int) -> tuple[Samples, Samples]:
    """Pitch and times by DIO and StoneMask; Harvest takes seven times as long."""
    pyworld = _world()
    rough, times = pyworld.dio(sound, rate_hz, f0_floor=_LOWEST_HZ, f0_ceil=_HIGHEST_HZ)
    return np.asarray(pyworld.stonemask(sound, rough, times, rate_hz)), times


@functools.cache
def _world() -> Any:
    """The compiled module of pyworld.

    Not through its package, which asks setuptools for its own version by a module that setuptools
    81 no longer has.
    """
    needed("world")
    package = find_spec("pyworld")
    inside = PathFinder.find_spec("pyworld", (package and package.submodule_search_locations) or ())
    if inside is None or inside.loader is None:
        raise MissingExtra(
            "the package pyworld is there without its compiled part: install it anew"
        )
    module = module_from_spec(inside)
    inside.loader.exec_module(module)
    return module

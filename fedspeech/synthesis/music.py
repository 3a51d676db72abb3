"""Music-like sound: chords of plucked or held tones over a rhythm of noise bursts, in NumPy.

No melody that anybody wrote: keys, chords and rhythms are drawn. Harmonics that hold still and
onsets that repeat are what a detector of words meets in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ, SPEECH_RMS

FloatArray = NDArray[np.float32]

_CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 10), (0, 5, 7), (0, 3, 7, 10))  # semitones
_ROOTS = (0, 5, 7, 9)  # of a key, semitones
_HARMONICS = 8


def music(num_samples: int, rng: np.random.Generator) -> FloatArray:
    """Returns (num_samples,), float32, at the loudness of speech; the same draws, the same bits."""
    beat = int(RATE_HZ * 60 / rng.uniform(70, 150))
    key_hz, brightness = 110 * 2 ** (rng.integers(12) / 12), rng.uniform(0.4, 0.9)
    held = rng.uniform(0.15, 1.5)  # seconds until a tone has died away
    loudness = rng.uniform(0.0, 1.0)
    sound = np.zeros(num_samples + 4 * RATE_HZ)
    for index, start in enumerate(range(0, num_samples, beat)):
        if index % 2 == 0:
            root = _ROOTS[rng.integers(len(_ROOTS))]
            chord = _CHORDS[rng.integers(len(_CHORDS))]
            for step in chord:
                hertz = key_hz * 2 ** ((root + step + 12 * rng.integers(2)) / 12)
                _add(sound, start, _tone(hertz, brightness, held, rng))
        _add(sound, start, loudness * _beat(rng))
        if rng.random() < 0.5:
            _add(sound, start + beat // 2, 0.5 * loudness * _beat(rng))
    played = sound[:num_samples]
    scaled: FloatArray = (played * (SPEECH_RMS / np.sqrt(np.mean(played**2)))).astype(np.float32)
    return scaled


def _tone(
    hertz: float, brightness: float, held: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One tone of eight harmonics with an attack of 10 ms and an exponential decay."""
    t = np.arange(int(min(4.0, 4 * held) * RATE_HZ)) / RATE_HZ
    places = np.arange(1, _HARMONICS + 1)[:, np.newaxis]
    phases = rng.uniform(0, 2 * np.pi, (_HARMONICS, 1))
    heard = places * hertz < RATE_HZ / 2
    waves = np.sin(2 * np.pi * hertz * places * t + phases) * brightness**places * heard
    tone: NDArray[np.float64] = waves.sum(axis=0) * np.exp(-t / held) * np.minimum(1, t / 0.01)
    return tone


def _beat(rng: np.random.Generator) -> NDArray[np.float64]:
    """A burst of noise that dies away, as of a drum or a cymbal."""
    t = np.arange(RATE_HZ // 4) / RATE_HZ
    noise = rng.standard_normal(len(t))
    if rng.random() < 0.5:  # a drum: low frequencies alone
        noise = 3 * np.sin(2 * np.pi * rng.uniform(50, 120) * t) + 0.2 * noise
    burst: NDArray[np.float64] = noise * np.exp(-t / rng.uniform(0.02, 0.08))
    return burst


def _add(sound: NDArray[np.float64], start: int, part: NDArray[np.float64]) -> None:
    kept = part[: max(0, len(sound) - start)]
    sound[start : start + len(kept)] += kept

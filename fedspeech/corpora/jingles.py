"""Jingles: music under somebody who says what sounds almost like a target word.

    one = jingle(("stop", "go"), {}, seed=1, number=3)
    on_devices(one.sound, "far_field", count=8, seed=1)     # (8, 32000): eight rooms and devices

Nobody recorded them and nobody listens: a jingle on television that wakes one class of
devices is looked for among many that are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ, apply_devices, draw_device
from fedspeech.seeds import stream
from fedspeech.synthesis.formants import sentences
from fedspeech.synthesis.lexicon import PRONUNCIATIONS, pronunciation, speakable
from fedspeech.synthesis.music import music
from fedspeech.synthesis.near_misses import Phonemes, draws
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import ACCENTS, Spread, draw_voice

FloatArray = NDArray[np.float32]

SAMPLES = 2 * RATE_HZ
_LEAD_SAMPLES = RATE_HZ // 2  # what a detector hears before
_LOUDEST_MUSIC = 0.4  # of the voice


@dataclass(frozen=True, eq=False)
class DrawnJingle:
    """A jingle before any device hears it.

    Attributes:
      word: the target word that it comes near to.
      phones: what is said.
      sound: shape (samples,), float32 at 16 kHz.
    """

    word: str
    phones: Phonemes
    sound: FloatArray


def jingle(
    targets: Sequence[str], lexicon: Mapping[str, str], seed: int, number: int
) -> DrawnJingle:
    """Draws the jingle of a number: the same draws, the same bits.

    Raises:
      ValueError: if no target has a pronunciation, for then nothing sounds like one.
    """
    words = speakable(targets, lexicon)
    if not words:
        raise ValueError(f"no pronunciation is known of {', '.join(targets)}: give a lexicon")
    rng = stream(seed, "jingle", number)
    word = words[rng.integers(len(words))]
    phones = next(draws(pronunciation(word, lexicon), PRONUNCIATIONS, rng))
    spoken = _spoken(phones, rng)
    sound = music(SAMPLES, rng) * np.float32(rng.uniform(0.05, _LOUDEST_MUSIC))
    sound[_LEAD_SAMPLES : _LEAD_SAMPLES + len(spoken)] += spoken
    return DrawnJingle(word, phones, sound)


def said(word: str, lexicon: Mapping[str, str], kind: str, count: int, seed: int) -> FloatArray:
    """A target word by `count` speakers, each on a device of a class, shape (count, samples)."""
    sounds = np.zeros((count, SAMPLES), dtype=np.float32)
    for number, row in enumerate(sounds):
        spoken = _spoken(pronunciation(word, lexicon), stream(seed, "said", word, number))
        row[_LEAD_SAMPLES : _LEAD_SAMPLES + len(spoken)] = spoken
    return _recorded(sounds, kind, seed)


def on_devices(sound: FloatArray, kind: str, count: int, seed: int) -> FloatArray:
    """A sound as devices of a class record it in rooms of their own, shape (count, samples)."""
    return _recorded(np.tile(sound, (count, 1)), kind, seed)


def _spoken(phones: Phonemes, rng: np.random.Generator) -> FloatArray:
    """Phonemes by a speaker of any accent, at most so long that they fit behind the lead."""
    voice = draw_voice(rng, str(rng.choice(sorted(ACCENTS))), Spread())
    take = Take(voice=voice, words=(phones,), seed=int(rng.integers(2**62)))
    return sentences([take], SAMPLES)[0][: SAMPLES - _LEAD_SAMPLES]


def _recorded(sounds: FloatArray, kind: str, seed: int) -> FloatArray:
    """Records each row on a device of its own; the same devices for every sound of a class."""
    rngs = [stream(seed, "jingle device", kind, number) for number in range(len(sounds))]
    devices = [draw_device(rng, kind) for rng in rngs]
    return apply_devices(sounds, devices, [int(rng.integers(2**62)) for rng in rngs])

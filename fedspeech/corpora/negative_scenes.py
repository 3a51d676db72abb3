"""What a wake word must not wake to: running speech, near misses, noise and music, synthesized.

    for scene in negative_scenes(3600, ["zero"], seed=1, lexicon={}):
        scene.kind, scene.accent, scene.sound           # "near_misses", "raised", (192000,)

Shares say how much of each there is, whatever the length. Nobody says a target word, nor what a
careless speaker makes of one (`fedspeech.synthesis.near_misses`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ, apply_devices, draw_device
from fedspeech.corpora.stream_scenes import SCENE_SAMPLES
from fedspeech.seeds import stream
from fedspeech.synthesis.formants import sentences
from fedspeech.synthesis.lexicon import PRONUNCIATIONS, parse_phones, pronunciation
from fedspeech.synthesis.music import music
from fedspeech.synthesis.near_misses import Phonemes, distance, draws
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import ACCENTS, Spread, Voice, draw_voice

FloatArray = NDArray[np.float32]

SHARES: Mapping[str, float] = MappingProxyType(
    {"speech": 0.6, "near_misses": 0.2, "noise": 0.1, "music": 0.1}
)
"""Kinds of sound and how much of each there is."""

EVERY_ACCENT = tuple(sorted(ACCENTS))

_SCENES_AT_ONCE = 24
_UTTERANCES = 8  # of a scene with speech; what does not fit is not said


@dataclass(frozen=True, eq=False)
class Scene:
    """Twelve seconds as a device records them.

    Attributes:
      kind: a key of `SHARES`.
      accent: of who speaks; "" where nobody does.
      sound: float32 at 16 kHz, full scale 1.
    """

    kind: str
    accent: str
    sound: FloatArray


def negative_scenes(
    seconds: float,
    targets: Sequence[str],
    seed: int,
    lexicon: Mapping[str, str],
    shares: Mapping[str, float] = SHARES,
    accents: Sequence[str] = EVERY_ACCENT,
) -> Iterator[Scene]:
    """Yields scenes of 12 s until they last `seconds`.

    A target without a pronunciation has no near misses; running speech stands in for them.

    Args:
      seconds: of sound, rounded up to whole scenes.
      targets: words that nobody says.
      seed: of everything.
      lexicon: pronunciations of words that are not built in.
      shares: of kinds of sound.
      accents: of who speaks, each as often.

    Raises:
      ValueError: if a kind is none of `SHARES` or the shares are not positive.
    """
    if not shares or set(shares) - set(SHARES) or min(shares.values()) <= 0:
        raise ValueError(f"shares must be positive, of {', '.join(SHARES)}, got {dict(shares)}")
    says = _Says.of(targets, lexicon, accents)
    count = -(-int(seconds * RATE_HZ) // SCENE_SAMPLES)
    kinds = list(islice(in_turn(shares), count))
    for first in range(0, count, _SCENES_AT_ONCE):
        numbers = range(first, min(first + _SCENES_AT_ONCE, count))
        rngs = [stream(seed, "negative scene", number) for number in numbers]
        made = [says.scene(kinds[number], rng) for number, rng in zip(numbers, rngs, strict=True)]
        devices = [draw_device(rng) for rng in rngs]
        seeds = [int(rng.integers(2**62)) for rng in rngs]
        recorded = apply_devices(np.stack([dry for _, dry in made]), devices, seeds)
        for number, (accent, _), sound in zip(numbers, made, recorded, strict=True):
            yield Scene(kinds[number], accent, sound)


def in_turn(shares: Mapping[str, float]) -> Iterator[str]:
    """Yields kinds so that every beginning has the shares, as nearly as whole scenes can."""
    total, owed = sum(shares.values()), dict.fromkeys(shares, 0.0)
    while True:
        for kind, share in shares.items():
            owed[kind] += share / total
        most = max(owed, key=lambda kind: owed[kind])
        owed[most] -= 1
        yield most


@dataclass(frozen=True, eq=False)
class _Says:
    """What may be said: words that are no target, and near misses of the targets.

    Attributes:
      words: pronunciations of other words.
      targets: pronunciations of the targets that have one.
      lexicon: words that may be near misses, word to ARPAbet.
      accents: of who speaks.
    """

    words: tuple[Phonemes, ...]
    targets: tuple[Phonemes, ...]
    lexicon: Mapping[str, str]
    accents: Sequence[str]

    @classmethod
    def of(
        cls,
        targets: Sequence[str],
        lexicon: Mapping[str, str],
        accents: Sequence[str] = EVERY_ACCENT,
    ) -> _Says:
        """Leaves out what sounds like a target."""
        known = {**PRONUNCIATIONS, **lexicon}
        spoken = tuple(pronunciation(word, lexicon) for word in targets if word in known)
        others = {
            word: phones
            for word, phones in known.items()
            if word not in targets
            and all(distance(parse_phones(word, phones), target) >= 1 for target in spoken)
        }
        words = tuple(parse_phones(word, phones) for word, phones in sorted(others.items()))
        return cls(words, spoken, others, accents)

    def scene(self, kind: str, rng: np.random.Generator) -> tuple[str, FloatArray]:
        """Accent and dry sound of one scene."""
        match kind:
            case "music":
                return "", music(SCENE_SAMPLES, rng)
            case "noise":
                return "", np.zeros(SCENE_SAMPLES, dtype=np.float32)
        accent = str(rng.choice(self.accents))
        voice = draw_voice(rng, accent, Spread())
        near = kind == "near_misses" and bool(self.targets)
        takes = [self._take(voice, near, rng) for _ in range(_UTTERANCES)]
        return accent, _one_after_another(sentences(takes, SCENE_SAMPLES), rng)

    def _take(self, voice: Voice, near: bool, rng: np.random.Generator) -> Take:
        """Two to seven words; or near misses, alone or among other words."""
        count = int(rng.integers(0, 4) if near else rng.integers(2, 8))
        said = [self.words[index] for index in rng.integers(len(self.words), size=count)]
        if near:
            target = self.targets[rng.integers(len(self.targets))]
            missed = list(islice(draws(target, self.lexicon, rng), 1 + int(rng.integers(2))))
            place = int(rng.integers(len(said) + 1))
            said[place:place] = missed
        return Take(voice=voice, words=tuple(said), seed=int(rng.integers(2**62)))


def _one_after_another(sounds: Sequence[FloatArray], rng: np.random.Generator) -> FloatArray:
    """Lays utterances into a scene with pauses of 0.2 to 2 s; what does not fit is cut off."""
    scene = np.zeros(SCENE_SAMPLES, dtype=np.float32)
    place = int(rng.integers(0, RATE_HZ))
    for sound in sounds:
        kept = sound[: max(0, SCENE_SAMPLES - place)]
        scene[place : place + len(kept)] = kept
        place += len(sound) + int(rng.integers(RATE_HZ // 5, 2 * RATE_HZ))
    return scene

"""Hours of audio for streaming evaluation: sentences without keywords, noise, and keywords.

Words of the built-in lexicon are synthesized in random order, with gaps, by speakers of all accents
on devices of all classes; a fifth of the scenes has no speech. Words that contain a target word's
phonemes ("nose" contains "no") cause most false accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ, Device, apply_devices, draw_device
from fedspeech.seeds import stream
from fedspeech.synthesis.formants import sentences
from fedspeech.synthesis.lexicon import PRONUNCIATIONS, pronunciation
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import ACCENTS, Spread, draw_voice

FloatArray = NDArray[np.float32]

SCENE_SAMPLES = 12 * RATE_HZ
QUIET_SHARE = 0.2
KEYWORDS_PER_SCENE = 3
_SCENES_AT_ONCE = 24
_LEAD_SAMPLES = RATE_HZ  # a model hears a second at a time


@dataclass(frozen=True)
class Spoken:
    """A keyword in a scene: which, and between which samples."""

    word: str
    start: int
    stop: int


def keyword_free(seconds: float, targets: Sequence[str], seed: int) -> Iterator[FloatArray]:
    """Yields scenes of 12 s without target words, until they last `seconds`."""
    words = sorted(set(PRONUNCIATIONS) - set(targets))
    scenes = -(-int(seconds * RATE_HZ) // SCENE_SAMPLES)
    for first in range(0, scenes, _SCENES_AT_ONCE):
        numbers = range(first, min(first + _SCENES_AT_ONCE, scenes))
        dry = [_sentences(stream(seed, "keyword free", number), words) for number in numbers]
        yield from _recorded(dry, [("keyword free room", seed, number) for number in numbers])


def with_keywords(
    count: int,
    targets: Sequence[str],
    seed: int,
    lexicon: Mapping[str, str],
    accents: Sequence[str] = tuple(sorted(ACCENTS)),
) -> Iterator[tuple[FloatArray, list[Spoken]]]:
    """Yields scenes with three separate target words each, until there are `count` words.

    Args:
      count: words.
      targets: each as often.
      seed: of everything.
      lexicon: pronunciations of words that are not built in.
      accents: of who speaks, each as often.

    Raises:
      ValueError: if a target has no pronunciation.
    """
    phones = {word: pronunciation(word, lexicon) for word in targets}
    scenes = -(-count // KEYWORDS_PER_SCENE)
    for first in range(0, scenes, _SCENES_AT_ONCE):
        numbers = range(first, min(first + _SCENES_AT_ONCE, scenes))
        laid = [_keywords(stream(seed, "keywords", number), phones, accents) for number in numbers]
        sounds = _recorded(
            [dry for dry, _ in laid], [("keyword room", seed, number) for number in numbers]
        )
        yield from zip(sounds, (said for _, said in laid), strict=True)


def _sentences(rng: np.random.Generator, words: Sequence[str]) -> FloatArray:
    """Sentences of one speaker with pauses between them, or no speech."""
    scene = np.zeros(SCENE_SAMPLES, dtype=np.float32)
    if rng.random() < QUIET_SHARE:
        return scene
    voice = draw_voice(rng, _accent(rng), Spread())
    place = int(rng.integers(0, RATE_HZ))
    while place < SCENE_SAMPLES:
        take = Take.of(voice, rng.choice(words, int(rng.integers(2, 8))), rng)
        sound = sentences([take], SCENE_SAMPLES)[0][: SCENE_SAMPLES - place]
        scene[place : place + len(sound)] = sound
        place += len(sound) + int(rng.integers(RATE_HZ // 5, 2 * RATE_HZ))
    return scene


def _keywords(
    rng: np.random.Generator, phones: Mapping[str, tuple[str, ...]], accents: Sequence[str]
) -> tuple[FloatArray, list[Spoken]]:
    """Single target words of one speaker, each somewhere in its own part of the scene."""
    scene = np.zeros(SCENE_SAMPLES, dtype=np.float32)
    voice = draw_voice(rng, str(rng.choice(accents)), Spread())
    chosen = [str(word) for word in rng.choice(sorted(phones), KEYWORDS_PER_SCENE)]
    part = (SCENE_SAMPLES - _LEAD_SAMPLES) // KEYWORDS_PER_SCENE
    spoken = []
    for index, word in enumerate(chosen):
        take = Take(voice=voice, words=(phones[word],), seed=int(rng.integers(2**62)))
        sound = sentences([take], SCENE_SAMPLES)[0]
        # Two seconds at the end of a part: the next word must not fall into the cooldown.
        room = max(1, part - len(sound) - 2 * RATE_HZ)
        start = _LEAD_SAMPLES + index * part + int(rng.integers(room))
        scene[start : start + len(sound)] = sound
        spoken.append(Spoken(word, start, start + len(sound)))
    return scene, spoken


def _recorded(
    dry: Sequence[FloatArray], names: Sequence[tuple[str, int, int]]
) -> Iterator[FloatArray]:
    """Records each scene on a device of its own, in its room and noise."""
    devices: list[Device] = []
    seeds = []
    for purpose, seed, number in names:
        rng = stream(seed, purpose, number)
        devices.append(draw_device(rng))
        seeds.append(int(rng.integers(2**62)))
    yield from apply_devices(np.stack(dry), devices, seeds)


def _accent(rng: np.random.Generator) -> str:
    return str(rng.choice(sorted(ACCENTS)))

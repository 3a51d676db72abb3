"""Who says what in `benchmarks.wake_word`: recorded and synthetic speakers, and hours of sound."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.altered import AlteredCorpus
from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.negative_scenes import SHARES, in_turn
from fedspeech.corpora.noise import read_noise
from fedspeech.corpora.stream_scenes import SCENE_SAMPLES
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.seeds import stream
from fedspeech.synthesis.voices import ACCENTS
from simulations.setup.listeners import heard_word, negative_frames, windows

FloatArray = NDArray[np.float32]

PARTS = 5
OWN, COPIES = 2, 4  # own words of a phone that personalizes, and altered copies of each
SYNTHETIC_FEDERATED, SYNTHETIC_HELD_OUT, TAKES = 20, 16, 4  # speakers of each accent, their words
OTHERS = 12  # other words of a phone that trains


@dataclass(frozen=True, eq=False)
class Word:
    """One recorded word of somebody, as a stream hears it.

    Attributes:
      speaker: corpus and name.
      group: corpus, or accent of a synthetic speaker.
      features: of every hop in which it may be found, (hops, g).
      own: of the hops that end with the word, and of altered copies, (n, g): what a phone keeps.
    """

    speaker: str
    group: str
    features: FloatArray
    own: FloatArray


@dataclass(frozen=True, eq=False)
class Sound:
    """Features (hops, g) of a stream without the word, and which hops are of near misses."""

    features: FloatArray
    near: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Phones:
    """What everybody says, as features.

    Attributes:
      words: speaker to the target words.
      others: speaker to windows of other words, (n, g).
      sounds: real speaker, or "noise", to a stream without the word.
    """

    words: dict[str, list[Word]]
    others: dict[str, FloatArray]
    sounds: dict[str, Sound]


def open_corpora(data: Path) -> dict[str, Corpus]:
    """The corpora by short names, every clip of one second."""
    folders = {"sc": "speech_commands_v1_subset", "fsdd": "fsdd", "dsp": "dspspeech20_english_a"}
    return {name: open_corpus(data / folder) for name, folder in folders.items()}


def part_of(corpus: str, speaker: str) -> int:
    """The part of a speaker, whatever else is there."""
    return zlib.crc32(f"{corpus}:{speaker}".encode()) % PARTS


def features(base: Base, rows: FloatArray) -> FloatArray:
    """What the head takes of windows (n, w, f), (n, g)."""
    found = [np.zeros((0, base.num_features), np.float32)]
    for first in range(0, len(rows), 20_000):
        block = torch.from_numpy(np.ascontiguousarray(rows[first : first + 20_000]))
        found.append(base.pooled(block)[:, 0].numpy())
    return np.concatenate(found)


def evaluated_hours(
    base: Base, word: str, seeds: Sequence[int], cache: Path
) -> Iterator[tuple[FloatArray, NDArray[np.bool_]]]:
    """Yields frames of each synthesized hour, and which windows end in a near miss."""
    scenes = 3_600 * 16_000 // SCENE_SAMPLES
    near = np.array([kind == "near_misses" for kind in islice(in_turn(SHARES), scenes)])
    for seed in seeds:
        frames = negative_frames(base, 3_600.0, [word], seed, {}, cache)
        count = len(frames) - base.encoder.num_windows + 1
        ends = base.heard_samples + base.encoder.hop_samples * np.arange(count) - 1
        yield frames, near[ends // SCENE_SAMPLES]


def heard(
    base: Base, corpora: dict[str, Corpus], parts: Sequence[int], noise: Path, word: str
) -> Phones:
    """Features of the real speakers of some parts, and of synthetic ones."""
    phones = Phones({}, {}, {})
    for short, corpus in corpora.items():
        by: dict[str, list[Utterance]] = {}
        for clip in corpus.utterances:
            if clip.word != SILENCE and part_of(short, clip.speaker_id) in parts:
                by.setdefault(clip.speaker_id, []).append(clip)
        for speaker, clips in sorted(by.items()):
            add(base, phones, f"{short}:{speaker}", short, corpus, clips, word)
    sound = np.concatenate([one.samples for one in read_noise(noise).noises])
    phones.sounds["noise"] = sound_of(base, sound)
    for accent in sorted(ACCENTS):
        for role, count in (("federated", SYNTHETIC_FEDERATED), ("held out", SYNTHETIC_HELD_OUT)):
            group = SpeakerGroup(
                name=role, num_speakers=count, accents=((accent, 1.0),), words=(word,),
                utterances_per_word=TAKES,
            )  # fmt: skip
            made = SyntheticCorpus(SyntheticSpec(seed=11, groups=(group,)))
            for speaker in made.speakers:
                clips = [clip for clip in made.utterances if clip.speaker_id == speaker]
                name = f"{role}:{accent}:{speaker}"
                add(base, phones, name, accent, made, clips, word, real=False)
    return phones


def add(
    base: Base, phones: Phones, name: str, group: str, corpus: Corpus,
    clips: Sequence[Utterance], word: str, *, real: bool = True,
) -> None:  # fmt: skip
    """Adds what one speaker says."""
    said = [clip for clip in clips if clip.word == word]
    copies = AlteredCorpus(corpus, rate_hz=base.encoder.rate_hz, copies=COPIES)
    drawn = stream(3, "own words", name).permutation(len(said))
    found = []
    for place, clip in enumerate(said[index] for index in drawn):
        # Only those that a phone adapts on are copied; they stand first.
        altered = copies.of([clip]) if place < OWN else []
        rows, own = [], []
        for source, one in [(corpus, clip), *((copies, copy) for copy in altered)]:
            rng = stream(0, "held-out word", source.fingerprint(one))
            around, ends = heard_word(base, source.waveforms([one])[0], rng)
            rows.append(features(base, around))
            own.append(rows[-1][ends])
        found.append(Word(name, group, rows[0], np.concatenate(own)))
    if found:
        phones.words[name] = found
    others = [clip for clip in clips if clip.word != word]
    if real and others:
        trimmed = [np.pad(np.trim_zeros(one), (0, 4_000)) for one in corpus.waveforms(others)]
        phones.sounds[name] = sound_of(base, np.concatenate(trimmed))
        some = base.heard(corpus, others[:OTHERS])
        assert isinstance(base.encoder, ForeignEncoder)
        phones.others[name] = features(base, base.encoder(some).numpy())


def sound_of(base: Base, samples: FloatArray) -> Sound:
    """A recording as a stream."""
    assert isinstance(base.encoder, ForeignEncoder)
    frames = base.encoder.stream_frames(samples.astype(np.float32)).numpy()
    none = np.zeros((0, base.num_features), np.float32)
    found = features(base, windows(base, frames)) if len(frames) else none
    return Sound(found, np.zeros(len(found), bool))

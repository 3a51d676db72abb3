"""Training of a base for any vocabulary or for sentences, on synthetic or public speakers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus, open_transcribed
from fedspeech.corpora.partition import Phone, by_group, utterances_of
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import CorpusError
from fedspeech.evaluation.kws import KwsCounts
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.seeds import stream
from fedspeech.tasks.kws import WordRoles, word_roles
from fedspeech.training.base_training import Lesson
from fedspeech.training.pretrain import BLOCK_CLIPS, pretrain, synthetic_base
from fedspeech.training.pretrain_sentences import (
    pretrain_sentences,
    synthetic_sentence_base,
    tuning,
)
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.schema import Scenario
from simulations.setup.recordings import named_speakers, split_speakers
from simulations.setup.sentences import long_sentences
from simulations.setup.speakers import public_spec

Advance = Callable[[str, int, int], None]

VALIDATION_SHARE = 0.1
FALSE_ACCEPT_RATE = 0.05


def keyword_base(
    targets: tuple[str, ...],
    corpus: Path | None,
    speakers: str | None,
    held_out: Path | None,
    *,
    seed: int,
    cache: Path,
    lexicon: Mapping[str, str],
    command: str,
    progress: Advance,
) -> Base:
    """Trains a base for keywords.

    Args:
      targets: target words. Empty, with a corpus: two thirds of the words that its public speakers
        say most often; the others are negatives.
      corpus: folder of recordings; None for the synthesizer.
      speakers: with a corpus: text file of its public speakers, one a line, or how many to draw of
        those who are not held-out by default.
      held_out: with a corpus: text file of the speakers who evaluate the base; None draws a tenth
        of the public speakers.
      seed: of synthetic speakers, weights and order.
      cache: folder of synthetic bases.
      lexicon: further words to ARPAbet strings.
      command: of the user, for the provenance.
      progress: called with the part of the work, how much is done and how much there is.

    Raises:
      ValueError: if the words cannot be used.
      CorpusError: if the recordings or speakers cannot.
    """
    if corpus is None or speakers is None:
        return synthetic_base(
            Vocabulary(targets), seed=seed, cache_dir=cache, lexicon=lexicon,
            provenance={"command": command}, progress=progress,
        )  # fmt: skip
    opened = open_corpus(corpus)
    public = _public(opened, speakers, held_out, seed)
    command += f" --corpus {opened.name} --speakers {Path(speakers).name}"
    return _from_speakers(opened, public, targets, seed, command, progress)


def sentence_base(
    corpus: Path | None,
    speakers: str | None,
    held_out: Path | None,
    *,
    seed: int,
    cache: Path,
    command: str,
    progress: Advance,
) -> Base:
    """Trains a base for sentences on synthetic speakers, or fine-tunes the shipped one.

    Arguments and errors are those of `keyword_base`.
    """
    if corpus is None or speakers is None:
        return synthetic_sentence_base(
            seed=seed, cache_dir=cache, provenance={"command": command}, progress=progress
        )
    start = long_sentences(Base.load(sentence_base_path()))
    opened = open_transcribed(corpus, start.frontend)
    public = _public(opened, speakers, held_out, seed)
    command += f" --corpus {opened.name} --speakers {Path(speakers).name}"
    lesson = Lesson(
        corpus=opened, utterances=public.training, seed=seed, validation=public.held_out,
        provenance={"command": command}, progress=progress,
    )  # fmt: skip
    return pretrain_sentences(lesson, tuning(start), start=start)


@dataclass(frozen=True)
class _Public:
    """Utterances of public speakers: those that train the base, and those that evaluate it."""

    training: list[Utterance]
    held_out: list[Utterance]


def _public(corpus: Corpus, speakers: str, held_out: Path | None, seed: int) -> _Public:
    """The public speakers that are named, or so many drawn by the seed.

    Raises:
      CorpusError: if a speaker is named who is not in the corpus, or a group would be empty.
    """
    if speakers.isdecimal():
        names = _drawn(corpus, int(speakers), seed)
    else:
        names = named_speakers(corpus, Path(speakers))
    stream(seed, "public speakers").shuffle(names)
    if held_out is None:
        evaluating = set(names[: max(1, round(VALIDATION_SHARE * len(names)))])
    else:
        evaluating = set(named_speakers(corpus, held_out))
    training = set(names) - evaluating
    if not training:
        raise CorpusError(
            f"--speakers must leave at least one speaker to learn from, got {len(names)} of whom "
            f"{len(evaluating)} are held out"
        )
    return _Public(
        [clip for clip in corpus.utterances if clip.speaker_id in training],
        [clip for clip in corpus.utterances if clip.speaker_id in evaluating],
    )


def _drawn(corpus: Corpus, count: int, seed: int) -> list[str]:
    """Draws speakers of those who are not held-out by default."""
    none_spared = FolderCorpus(path="", public_speakers=0, validation_speakers=0)
    partition = split_speakers(corpus, none_spared, seed)
    names = sorted(phone.speaker_id for phone in partition.federated)
    if not 2 <= count < len(names):
        raise CorpusError(
            f"--speakers must be at least 2 and leave somebody to federate, got {count} of the "
            f"{len(names)} speakers of {corpus.name} who are not held-out"
        )
    stream(seed, "public speakers by number").shuffle(names)
    return names[:count]


def _from_speakers(
    corpus: Corpus,
    public: _Public,
    targets: tuple[str, ...],
    seed: int,
    command: str,
    progress: Advance,
) -> Base:
    """Trains on public speakers, their other words included, synthetic negatives and silence."""
    roles = word_roles([Phone("public", "public", {}, tuple(public.training))], targets, seed)
    vocabulary = Vocabulary(roles.targets)
    synthetic = SyntheticCorpus(public_spec(Scenario(name="pretrain", seed=seed), vocabulary))
    negatives = utterances_of(by_group(synthetic, seed=seed).public)
    lesson = Lesson(
        corpus=JoinedCorpus(corpus, synthetic),
        utterances=[clip for clip in public.training if roles.trains(clip.word)] + negatives,
        validation=[clip for clip in public.held_out if roles.trains(clip.word)],
        seed=seed,
        provenance={"command": command},
        progress=progress,
    )
    base = pretrain(lesson, vocabulary)
    held_out = [c for c in public.held_out if roles.judges(c.word) and c.word != SILENCE]
    figures = _figures(_counts(base, corpus, held_out), roles)
    return dataclasses.replace(base, provenance={**base.provenance, **figures})


def _counts(base: Base, corpus: Corpus, clips: Sequence[Utterance]) -> KwsCounts:
    """Counts answers of the base's own head."""
    nothing = np.zeros((0, len(base.vocabulary.labels)), dtype=np.float32)
    counts = KwsCounts.of(nothing, np.zeros(0, dtype=np.int64))
    for start in range(0, len(clips), BLOCK_CLIPS):
        block = clips[start : start + BLOCK_CLIPS]
        logits = base.logits(base.encoder_output(base.heard(corpus, block))).numpy()
        counts += KwsCounts.of(logits, base.vocabulary.encode([clip.word for clip in block]))
    return counts


def _figures(counts: KwsCounts, roles: WordRoles) -> dict[str, str | int | float]:
    """Errors of a base on held-out speakers, for its provenance."""
    figures: dict[str, str | int | float] = {
        "held_out_target_clips": counts.num_positives,
        "held_out_other_clips": counts.num_negatives,
        "held_out_other_words": roles.words if counts.num_negatives else "none",
    }
    error = counts.frr_at_far(FALSE_ACCEPT_RATE)
    if counts.false_accepts is not None and error is not None:
        figures["held_out_false_accepts"] = round(counts.false_accepts, 4)
        figures["held_out_false_rejects_at_5_percent_false_accepts"] = round(error, 4)
    if counts.num_positives:
        figures["held_out_target_words_right"] = round(counts.target_words_right, 4)
    return figures

"""A base for any vocabulary or for sentences, from the synthesizer or from public speakers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus, open_transcribed
from fedspeech.corpora.partition import Phone, by_group
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import CorpusError
from fedspeech.evaluation.kws import KwsCounts
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.seeds import stream
from fedspeech.tasks.kws import WordRoles, word_roles
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
    """Trains a base that knows words.

    Args:
      targets: target words; with a corpus they may be empty: the words that its public speakers
        say most often, two thirds of them; the others teach the base what is no target.
      corpus: a folder of recordings; None: the synthesizer.
      speakers: with a corpus: a text file that names its public speakers, one a line, or how many
        of those who are not unseen by default are drawn.
      held_out: with a corpus: a text file that names the speakers by whom the base is judged; None:
        a tenth of the public speakers, drawn.
      seed: of synthetic speakers, weights and order.
      cache: where synthetic bases are kept.
      lexicon: words that are not built in to ARPAbet strings.
      command: what made the base, for its provenance.
      progress: is told the part of the work, how much is done and how much there is.

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
    """Trains a base that writes sentences: synthetic, or the shipped one and public speakers.

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
    return pretrain_sentences(
        opened, public.clips(opened, public.training), seed=seed, settings=tuning(start),
        start=start, validation_utterances=public.clips(opened, public.held_out),
        provenance={"command": command}, progress=progress,
    )  # fmt: skip


@dataclass(frozen=True)
class _Public:
    """Public speakers of a corpus: those who teach, and those by whom the base is judged."""

    training: frozenset[str]
    held_out: frozenset[str]

    def clips(self, corpus: Corpus, speakers: Collection[str]) -> list[Utterance]:
        """What some of them said, in the order of the corpus."""
        return [clip for clip in corpus.utterances if clip.speaker_id in speakers]


def _public(corpus: Corpus, speakers: str, held_out: Path | None, seed: int) -> _Public:
    """The public speakers that are named, or so many drawn by the seed.

    Raises:
      CorpusError: if somebody is named who is not there, or too few are left to teach or to judge.
    """
    if speakers.isdecimal():
        names = _drawn(corpus, int(speakers), seed)
    else:
        names = named_speakers(corpus, Path(speakers))
    stream(seed, "public speakers").shuffle(names)
    if held_out is None:
        judging = set(names[: max(1, round(VALIDATION_SHARE * len(names)))])
    else:
        judging = set(named_speakers(corpus, held_out))
    teaching = frozenset(names) - judging
    if not teaching:
        raise CorpusError(
            f"--speakers must leave at least one speaker to learn from, got {len(names)} of whom "
            f"{len(judging)} are held out"
        )
    return _Public(teaching, frozenset(judging))


def _drawn(corpus: Corpus, count: int, seed: int) -> list[str]:
    """So many speakers of those who are not unseen by default, drawn by the seed."""
    none_spared = FolderCorpus(path="", public_speakers=0, validation_speakers=0)
    partition = split_speakers(corpus, none_spared, seed)
    names = sorted(phone.speaker_id for phone in partition.federated)
    if not 2 <= count < len(names):
        raise CorpusError(
            f"--speakers must be at least 2 and leave somebody to federate, got {count} of the "
            f"{len(names)} speakers of {corpus.name} who are not unseen"
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
    """Trains on public speakers, their other words included, beside synthetic ones and silence."""
    said = public.clips(corpus, public.training)
    roles = word_roles([Phone("public", "public", {}, tuple(said))], targets, seed)
    vocabulary = Vocabulary(roles.targets)
    synthetic = SyntheticCorpus(public_spec(Scenario(name="pretrain", seed=seed), vocabulary))
    negatives = [
        clip for phone in by_group(synthetic, seed=seed).public for clip in phone.utterances
    ]
    held_out = public.clips(corpus, public.held_out)
    base = pretrain(
        JoinedCorpus(corpus, synthetic),
        [clip for clip in said if roles.trains(clip.word)] + negatives,
        vocabulary,
        seed=seed,
        validation_utterances=[clip for clip in held_out if roles.trains(clip.word)],
        provenance={"command": command},
        progress=progress,
    )
    judged = [clip for clip in held_out if roles.judges(clip.word) and clip.word != SILENCE]
    figures = _figures(_counts(base, corpus, judged), roles)
    return dataclasses.replace(base, provenance={**base.provenance, **figures})


def _counts(base: Base, corpus: Corpus, clips: Sequence[Utterance]) -> KwsCounts:
    """Counts what the base's own head answers."""
    nothing = np.zeros((0, len(base.vocabulary.labels)), dtype=np.float32)
    counts = KwsCounts.of(nothing, np.zeros(0, dtype=np.int64))
    for start in range(0, len(clips), BLOCK_CLIPS):
        block = clips[start : start + BLOCK_CLIPS]
        logits = base.logits(base.trunk_output(base.heard(corpus, block))).numpy()
        counts += KwsCounts.of(logits, base.vocabulary.encode([clip.word for clip in block]))
    return counts


def _figures(counts: KwsCounts, roles: WordRoles) -> dict[str, str | int | float]:
    """What matters of a base: what held-out speakers' other words do, and their target words."""
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

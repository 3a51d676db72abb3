"""Keyword spotting: which word of a vocabulary, another word, or none. One word is a wake word.

Whoever knows target words only learns that a voice is a keyword. So words outside the vocabulary
train too, guard thresholds and judge, and nobody's clips have two of these roles: those that train
are the phones' own and public speakers', those that guard are other public speakers', and those
that judge are of phones that never train. Where a corpus has enough other words, the words that
judge are never trained on either.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import (
    NUM_NEGATIVE_LABELS,
    SILENCE,
    UNKNOWN,
    Corpus,
    Labels,
    Utterance,
    Vocabulary,
)
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.corpora.shots import Shots, split_shots
from fedspeech.evaluation.kws import negative_shift
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base, default_base_path
from fedspeech.seeds import stream
from fedspeech.tasks.evaluation import Scored
from fedspeech.tasks.kws_evaluation import KwsEvaluation
from fedspeech.tasks.stream_evaluation import StreamEvaluation, StreamSettings
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.hard_negatives import synthetic_listener
from fedspeech.training.pretrain import PretrainSettings, synthetic_base
from fedspeech.training.stream_training import HardNegatives
from fedspeech.vectors import FloatVector

MOST_TARGETS = 12
TARGET_SHARE = 2 / 3  # of the words that a corpus has, if nobody names any
ENOUGH_WORDS = 6  # fewer are all targets; fewer other words all train and judge
ENOUGH_REAL_NEGATIVES = 20  # clips; fewer set no threshold, and synthetic ones stay among them


@dataclass(frozen=True)
class WordRoles:
    """What each word may be used for.

    Attributes:
      targets: words of the vocabulary; they train and judge.
      training: other words that train, and of which a phone adapts on its own shots.
      evaluation: other words that judge; None: all of them.
      borrowed: whether some of these are said by people who are no phones, to judge all of them.
    """

    targets: tuple[str, ...]
    training: frozenset[str] = frozenset()
    evaluation: frozenset[str] | None = None
    borrowed: bool = False

    @property
    def own(self) -> frozenset[str]:
        """Words of which a phone that personalizes has shots of its own."""
        return self.training | set(self.targets)

    def trains(self, word: str) -> bool:
        """Whether a phone may train on a word; one that nobody has named is as good as any."""
        judged_only = frozenset() if self.evaluation is None else self.evaluation - self.training
        return word not in judged_only

    def judges(self, word: str) -> bool:
        """Whether a phone may be judged by a word."""
        named = word == SILENCE or word in self.targets
        return named or self.evaluation is None or word in self.evaluation

    @property
    def words(self) -> str:
        """What the other words that judge are, in words."""
        if self.evaluation is None:
            return "synthetic other words and silence"
        if not self.evaluation:
            return "synthetic other words and silence: the recordings have no other word"
        count = len(self.evaluation)
        said = f"{count} recorded other word{'' if count == 1 else 's'}"
        if self.borrowed:
            return f"{said} of other people, in training said by yet others"
        if self.evaluation & self.training:
            return f"{said}, in training said by other speakers"
        return f"{said}, none of them in training"


def word_roles(
    held_out: Sequence[Phone], vocabulary: Sequence[str], seed: int, known: Sequence[str] = ()
) -> WordRoles:
    """Says which words are targets, which others train and which judge.

    Words are counted on phones that never train: the vocabulary is published, and no epsilon of
    the run covers a choice made on the speech of phones that federate. An empty vocabulary takes
    the known targets of a base, else the most frequent words, at most `MOST_TARGETS` and two thirds
    of them, so that some are left to be no target. The seed draws the words that judge.
    """
    counts = Counter(clip.word for clip in utterances_of(held_out))
    said = [word for word in sorted(counts) if word not in (SILENCE, UNKNOWN)]
    targets = in_order_of(known, vocabulary or known) or _frequent(said, counts)
    others = [word for word in said if word not in targets]
    stream(seed, "other words").shuffle(others)
    if len(others) < ENOUGH_WORDS:
        return WordRoles(targets, frozenset(others), frozenset(others))
    judged = len(others) // 3
    # As many others as targets are enough shots to ask of anybody.
    return WordRoles(
        targets,
        training=frozenset(others[judged : judged + len(targets)]),
        evaluation=frozenset(others[:judged]),
    )


def _frequent(said: Sequence[str], counts: Counter[str]) -> tuple[str, ...]:
    """The words said most often, in alphabetical order."""
    most = min(MOST_TARGETS, int(TARGET_SHARE * len(said)))
    if len(said) < ENOUGH_WORDS:
        most = len(said)
    return tuple(sorted(sorted(said, key=lambda word: (-counts[word], word))[:most]))


def in_order_of(known: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """The same words in the order of a base, whose outputs they are; others as they stand."""
    return tuple(known) if set(words) == set(known) else tuple(words)


@dataclass(frozen=True, init=False)
class Kws:
    """Spotting the target words of a vocabulary.

        Kws(["lights", "music"])
        Kws("computer")             # a wake word

    Attributes:
      roles: which words are targets, which train and which judge.
      false_accept_rate: share of clips without a target word, at which false rejects are stated.
      stream: judges by false accepts per hour instead; None: by that share of clips.
    """

    name: ClassVar[str] = "kws"
    adapters: ClassVar[tuple[str, ...]] = ("head", "affine", "bottleneck", "lora")

    roles: WordRoles
    false_accept_rate: float
    stream: StreamSettings | None

    def __init__(
        self,
        words: Sequence[str] | WordRoles = (),
        *,
        false_accept_rate: float = 0.05,
        stream: StreamSettings | None = None,
    ) -> None:
        """Keeps the settings; an experiment works out the roles of other words from its corpus.

        Args:
          words: lower-case target words, one alone for a wake word, or their roles. None: those of
            the base, or the words that held-out speakers say most often.
          false_accept_rate: see above.
          stream: see above.
        """
        if not isinstance(words, WordRoles):
            words = WordRoles((words,) if isinstance(words, str) else tuple(words))
        object.__setattr__(self, "roles", words)
        object.__setattr__(self, "false_accept_rate", false_accept_rate)
        object.__setattr__(self, "stream", stream)

    @property
    def labels(self) -> Vocabulary:
        """Targets, unknown, silence."""
        return Vocabulary(self.roles.targets)

    @property
    def negatives(self) -> str:
        """What the other words are that judge."""
        return self.roles.words

    def split(self, phone: Phone, count: int, *, seed: int, reserve: int) -> Shots:
        """Draws shots of every word that a phone may adapt on; see `Task.split`."""
        shots = split_shots(phone, self.roles.own, count, seed=seed, reserve=reserve)
        own = (clip for clip in shots.judged if self.roles.judges(clip.word))
        judged = (*own, *phone.lent)
        return dataclasses.replace(shots, judged=judged)

    def public_clips(
        self, phones: Sequence[Phone], recorded: Collection[str], taught: Collection[str], seed: int
    ) -> tuple[list[Utterance], list[Utterance]]:
        """Unknown and silence clips: half to train on, half for the guard; see `Task.public_clips`.

        The halves differ in speakers, and speakers who taught the base only train: it rejects their
        other words already. Kinds take turns, so that any beginning of a list is balanced: two in
        three are recorded other words where there are some.
        """
        # Borrowed words are divided before the base is fit, so whoever taught it is known by name,
        # and all others guard.
        both = set(taught) if self.roles.borrowed else set(taught) & set(recorded)
        teachers = [phone for phone in phones if phone.speaker_id in both]
        others = [phone for phone in phones if phone.speaker_id not in both]
        guarding = others[1::2] or teachers[1::2]
        if self.roles.borrowed and teachers:
            guarding = others
        # A guard that was trained on would not notice what training broke.
        guards = {phone.speaker_id for phone in guarding}
        training = [p for p in (*teachers, *others) if p.speaker_id not in guards]
        return _in_turn(training, recorded, seed), _in_turn(guarding, recorded, seed)

    def evaluation_negatives(
        self, judged: Sequence[LocalDataset], validation: LocalDataset
    ) -> LocalDataset:
        """Unknown and silence clips of validation speakers; see `Task.evaluation_negatives`."""
        targets = len(self.roles.targets)
        if any((clips.labels >= targets).any() for clips in judged):
            return validation.first(0)
        return validation.take(np.flatnonzero(validation.labels >= targets))

    def check_base(self, base: Base) -> None:
        """Refuses a base that knows other words; see `Task.check_base`."""
        if base.vocabulary != self.labels:
            raise ValueError(
                f"it knows the words {', '.join(_targets(base.vocabulary)) or 'none'}, the "
                f"scenario wants {', '.join(self.roles.targets)}; set base.source = "
                '"synthetic" to make one'
            )

    def evaluation(self, scored: Scored) -> KwsEvaluation:
        """On clips, or on a stream."""
        labels, far, non_words = self.labels.labels, self.false_accept_rate, self.negatives
        if self.stream is None:
            return KwsEvaluation(scored, labels, far, non_words)
        return StreamEvaluation(scored, labels, far, non_words, self.stream)

    @classmethod
    def shipped_base(cls) -> Path:
        """The ten default words."""
        return default_base_path()

    def synthetic_base(
        self,
        *,
        seed: int,
        cache: Path,
        lexicon: Mapping[str, str],
        encoder: str = "standard",
        hard_negative_hours: float = 0.0,
    ) -> Base:
        """Makes one for any words; see `Task.synthetic_base`."""
        settings = PretrainSettings.of(encoder)
        if hard_negative_hours:
            return synthetic_listener(
                self.labels, HardNegatives(hours=hard_negative_hours), seed=seed, cache_dir=cache,
                lexicon=lexicon, settings=settings,
            )  # fmt: skip
        return synthetic_base(
            self.labels, seed=seed, cache_dir=cache, lexicon=lexicon, settings=settings
        )

    def taught_base(
        self, base: Base, corpus: Corpus, clips: Sequence[Utterance], *, seed: int, cache: Path
    ) -> Base:
        """Refuses: `fedspeech pretrain --corpus` makes a base of recorded words afresh."""
        del base, corpus, clips, seed, cache
        raise ValueError(
            'base.source = "tuned" goes on from a base for sentences; for words '
            "`fedspeech pretrain --corpus` makes one"
        )

    @classmethod
    def known(cls, base: Base) -> tuple[str, ...]:
        """The target words of a base.

        Raises:
          ValueError: if it spots none.
        """
        if not (targets := _targets(base.vocabulary)):
            raise ValueError("it recognizes sentences, and the scenario wants words")
        return targets

    def folds(self, labels: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
        """Deals clips of words with more than one clip; those of one word go to different parts.

        Without any clip of a word an adapter says nothing of one that has it.
        """
        order = np.argsort(labels, kind="stable")
        order = order[np.bincount(labels)[labels[order]] > 1]
        return [order[fold::count] for fold in range(min(count, len(order)))]

    def coverage(self, labels: NDArray[np.int64]) -> float:
        """Share of target words with a clip."""
        targets = len(self.roles.targets)
        return float(np.unique(labels[labels < targets]).size / targets)

    def mistakes(self, logits: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """1 for a clip that is answered wrongly, else 0."""
        del embeddings
        return (logits.argmax(dim=1) != labels).double()

    def recalibrated(
        self, adapter: Adapter, vector: FloatVector, negatives: LocalDataset
    ) -> FloatVector:
        """Shifts the biases of unknown and silence; see `Adaptation.recalibrated`."""
        if not len(negatives):
            return vector
        logits = score_clips(adapter, vector[np.newaxis], negatives.embeddings)[0]
        parameters = dict(adapter.spec.unflatten(vector))
        bias = parameters["head_bias"].copy()
        bias[-NUM_NEGATIVE_LABELS:] += np.float32(
            negative_shift(logits, negatives.labels, self.false_accept_rate)
        )
        parameters["head_bias"] = bias
        return adapter.spec.flatten(parameters)

    def false_accepts(self, logits: Tensor) -> float:
        """Share of clips whose answer is a target word."""
        targets = logits.shape[1] - NUM_NEGATIVE_LABELS
        return float((logits.argmax(dim=1) < targets).double().mean())


def _targets(labels: Labels) -> tuple[str, ...]:
    """Target words, if there are any."""
    return tuple(labels.to_metadata().get("targets", ()))


def _in_turn(phones: Sequence[Phone], recorded: Collection[str], seed: int) -> list[Utterance]:
    """Other words and silence of some phones, each kind shuffled, kinds in turn."""
    clips = utterances_of(phones)
    silence = [clip for clip in clips if clip.word == SILENCE]
    unknown = [clip for clip in clips if clip.word != SILENCE]
    for kind, group in (("silence", silence), ("unknown", unknown)):
        order = stream(seed, "public negatives", kind).permutation(len(group))
        group[:] = [group[index] for index in order]
    real = [clip for clip in unknown if clip.speaker_id in recorded]
    made = [clip for clip in unknown if clip.speaker_id not in recorded]
    if len(real) < ENOUGH_REAL_NEGATIVES:
        return [clip for pair in zip(unknown, silence, strict=False) for clip in pair]
    groups = [iter(real), iter(silence), iter(made)]
    kept: list[Utterance] = []
    while True:
        for turn in (0, 0, 1, 0, 0, 2):
            clip = next(groups[turn], None)
            # Beyond the last recorded word only other kinds would follow, and the list would lose
            # balance.
            if clip is None and turn == 0:
                return kept
            kept += [clip] if clip else []

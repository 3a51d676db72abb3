"""How the answers of one task are scored: all that whoever compares models asks.

Scores of single phones merge by `+`, so that shards may count and divide once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.corpora.partition import Phone
from fedspeech.evaluation.metric import Metric, Model, Section, Segment
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.base import Base
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, Vector

Mistakes = NDArray[np.int64]
ScoresT = TypeVar("ScoresT")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What is scored, and on what besides the phones' own examples.

    Attributes:
      base: the frozen part.
      adapter: the trained part.
      corpus: of the held-out phones.
      public_corpus: of the public validation speakers.
      validation: their examples.
      guard_negatives: public clips without a target, on which thresholds are set.
      evaluation_negatives: others, on which every phone's adapter may err.
      seed: of intervals and of synthesized sound.
    """

    base: Base
    adapter: Adapter
    corpus: Corpus
    public_corpus: Corpus
    validation: Sequence[Utterance]
    guard_negatives: LocalDataset
    evaluation_negatives: LocalDataset
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutPhone:
    """A phone that never trains, as embeddings.

    Attributes:
      phone: who it is.
      own: shots to the examples that it adapts on.
      copies: shots to altered copies of these examples, as many of each; empty where no rule of
        adaptation reads them.
      judged: examples that it is judged by, the same whatever it adapted on.
      judged_clips: the same, as they were recorded.
      contacts: names in its contextual biasing list, which nobody is told.
    """

    phone: Phone
    own: Mapping[int, LocalDataset]
    judged: LocalDataset
    copies: Mapping[int, LocalDataset] = field(default_factory=dict)
    judged_clips: tuple[Utterance, ...] = field(default=(), repr=False)
    contacts: tuple[str, ...] = field(default=(), repr=False)

    @property
    def phone_id(self) -> str:
        """Its pseudonym."""
        return self.phone.phone_id


class TaskEvaluation(Protocol[ScoresT]):
    """How the answers of one task are scored."""

    @property
    def error(self) -> str:
        """Name of the error by which models are compared and the stage that ships is chosen."""

    @property
    def accuracy(self) -> str:
        """Name of the share of examples without a mistake."""

    @property
    def shots(self) -> str:
        """What a shot is, such as "own clips per target word"."""

    @property
    def each_round(self) -> int | None:
        """Examples of a phone that are scored after every round; None: all of them."""

    def validation(self, vector: FloatVector, clips: LocalDataset) -> tuple[float, float]:
        """Accuracy and loss of one adapter on public examples."""

    def validation_error(self, vector: FloatVector, clips: LocalDataset) -> float | None:
        """The error on public examples; None where they do not tell."""

    def mistakes(self, vector: FloatVector, clips: LocalDataset) -> Mistakes:
        """Mistakes in each example, shape (examples,)."""

    def score(self, vector: FloatVector, phone: HeldOutPhone) -> ScoresT:
        """Counts of one phone with one adapter."""

    def error_on(self, scores: Sequence[ScoresT]) -> str:
        """What the error is counted on besides the phones' own examples; "": nothing."""

    def error_metric(
        self,
        scores: Sequence[ScoresT],
        model: Model,
        *,
        variant: str = "",
        segment: Segment | None = None,
    ) -> Metric | None:
        """The error over phones, of all or of a segment; None where they do not tell."""

    def error_rates(self, scores: Sequence[ScoresT], times: Vector) -> Vector:
        """The error where each phone counts so many times: (draws, phones) to (draws,).

        NaN where phones do not tell. With ones it is the value of `error_metric`.
        """

    def sections(
        self,
        scores: Mapping[Model, Sequence[ScoresT]],
        vectors: Mapping[Model, Sequence[FloatVector]],
        phones: Sequence[HeldOutPhone],
    ) -> Iterator[Section]:
        """Everything else that this task has to say of the four models."""

    def weak_labels(
        self, vector: FloatVector, phone: HeldOutPhone, shots: int
    ) -> LocalDataset | None:
        """A phone's own examples with labels that it has by itself; None where it has none."""

    def heard_words(
        self, vector: FloatVector, clips: LocalDataset
    ) -> tuple[NDArray[np.int64], int] | None:
        """Labels that a model answers to clips, (n,), and the number of words, which come first.

        None where users say more than words.
        """

"""What an evaluation of one task answers; `simulations.evaluation.evaluator` asks nothing else.

Scores of single phones merge by `+`, so that shards may count and divide once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.metric import Metric, Model, Section, Segment
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

Mistakes = NDArray[np.int64]
ScoresT = TypeVar("ScoresT")


class HeldOutPhone(Protocol):
    """A phone that never trained."""

    @property
    def judged(self) -> LocalDataset:
        """Examples that it is judged by, whatever it adapted on."""

    @property
    def own(self) -> Mapping[int, LocalDataset]:
        """Shots to the examples that it adapts on."""

    @property
    def contacts(self) -> tuple[str, ...]:
        """Names in its contextual biasing list, which nobody is told."""


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

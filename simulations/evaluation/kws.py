"""How spotted words are judged: answers, false accepts, confusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.evaluation.kws import THRESHOLDS, KwsCounts, answers
from fedspeech.evaluation.personalization import accuracy_over_phones
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector
from simulations.results.records import (
    Accuracies,
    Accuracy,
    Confusion,
    DetCurve,
    FrrAtFar,
    Headline,
    OperatingPoint,
)
from simulations.scenario.schema import Scenario
from simulations.setup.experiment import World

DET_POINTS = 200


class Words:
    """Answers to clips, one label each.

    Attributes:
      measure: the error by which stages are compared, in words.
    """

    def __init__(self, world: World, scenario: Scenario) -> None:
        """Keeps whose clips and which rates are stated."""
        self._world, self._scenario = world, scenario
        rate = scenario.evaluation.false_accept_rate
        self.measure = f"false rejects at {100 * rate:g} % false accepts"

    def validation(self, vector: FloatVector, clips: LocalDataset) -> dict[str, float]:
        """Accuracy and cross-entropy in nats on public clips."""
        logits = self._logits(vector, clips).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(clips)), clips.labels]
        return {
            "validation_accuracy": float((answers(logits) == clips.labels).mean()),
            "validation_loss": float(losses.mean()),
        }

    def validation_error(self, vector: FloatVector, clips: LocalDataset) -> float | None:
        """False rejects on public clips at the stated rate of false accepts; None without both."""
        counts = KwsCounts.of(self._logits(vector, clips), clips.labels)
        return counts.frr_at_far(self._scenario.evaluation.false_accept_rate)

    def mistakes(
        self, vectors: Sequence[FloatVector], most: int | None = None
    ) -> list[NDArray[np.int64]]:
        """Per unseen phone, 1 for each of its first `most` judged clips with a wrong answer."""
        return [
            (answers(self._logits(vector, phone.judged)) != phone.judged.labels)[:most].astype(int)
            for vector, phone in zip(vectors, self._world.unseen, strict=True)
        ]

    def figures(self, vectors: Mapping[str, Sequence[FloatVector]]) -> dict[str, Any]:
        """False rejects against false accepts, and the confusion of the personalized phones.

        Args:
          vectors: model to the adapter of each unseen phone.

        Returns:
          Fields of `Summary`.
        """
        counts = {model: self._counts(found) for model, found in vectors.items()}
        far = self._scenario.evaluation.false_accept_rate
        rejects = {model: found.frr_at_far(far) for model, found in counts.items()}
        return {
            "headline": self._headline(counts, rejects),
            "frr_at_far": FrrAtFar(far=far, **rejects),
            "operating_points": self._operating_points(vectors, counts),
            "target_accuracy": self._target_accuracies(vectors),
            "det": {model: _det(found) for model, found in counts.items() if found.num_negatives},
            "confusion": Confusion(
                model="personalized",
                labels=self._world.task.labels.labels,
                counts=tuple(tuple(map(int, row)) for row in counts["personalized"].confusion),
            ),
        }

    def _headline(
        self, counts: Mapping[str, KwsCounts], rejects: Mapping[str, float | None]
    ) -> Headline | None:
        """The error of all models side by side; None without clips of both kinds."""
        errors = {model: error for model, error in rejects.items() if error is not None}
        if len(errors) < len(rejects):
            return None
        return Headline(
            measure=self.measure,
            **errors,
            counted=counts["base"].num_positives,
            non_words=counts["base"].num_negatives,
            non_words_are=self._world.task.negatives,
        )

    def _operating_points(
        self, vectors: Mapping[str, Sequence[FloatVector]], counts: Mapping[str, KwsCounts]
    ) -> dict[str, OperatingPoint]:
        """Each model at the threshold that lets the stated share of guard negatives pass.

        One threshold for all phones of a stage, set on what all their adapters answer: the guard
        negatives of one phone are too few to set one each.
        """
        guard = self._guard_words()
        if not len(guard) or not counts["base"].num_negatives:
            return {}
        points = {}
        for model, found in vectors.items():
            heard = self._total((vector, guard) for vector in found)
            index = heard.first_within(self._scenario.evaluation.false_accept_rate)
            frr, far = counts[model].at(index)
            points[model] = OperatingPoint(
                threshold=float(1 / (1 + np.exp(-THRESHOLDS[index]))),
                target_words_found=1 - frr,
                false_accepts=far,
            )
        return points

    def _guard_words(self) -> LocalDataset:
        """Guard negatives in which somebody speaks: silence would lower every threshold."""
        guard, unknown = self._world.held_back, len(self._world.task.labels.labels) - 2
        return guard.take(np.flatnonzero(guard.labels == unknown))

    def _target_accuracies(self, vectors: Mapping[str, Sequence[FloatVector]]) -> Accuracies:
        """Which target word, where one was said and nothing else may be answered."""
        targets = len(self._world.task.labels.labels) - NUM_NEGATIVE_LABELS
        found = {}
        for model, adapters in vectors.items():
            right = []
            for vector, phone in zip(adapters, self._world.unseen, strict=True):
                clips = phone.judged.take(np.flatnonzero(phone.judged.labels < targets))
                right.append(answers(self._logits(vector, clips)[:, :targets]) == clips.labels)
            over = accuracy_over_phones(right, stream(self._scenario.seed, "bootstrap", model))
            found[model] = Accuracy.of(over)
        return Accuracies(**found)

    def _counts(self, vectors: Sequence[FloatVector]) -> KwsCounts:
        """Detections over all unseen phones, each heard by its own adapter."""
        return self._total(
            (vector, phone.judged.joined(self._world.strangers))
            for vector, phone in zip(vectors, self._world.unseen, strict=True)
        )

    def _total(self, heard: Iterable[tuple[FloatVector, LocalDataset]]) -> KwsCounts:
        """Counts of some clips, each set heard by one adapter."""
        first, *others = (
            KwsCounts.of(self._logits(vector, clips), clips.labels) for vector, clips in heard
        )
        return sum(others, first)

    def _logits(self, vector: FloatVector, clips: LocalDataset) -> NDArray[np.float32]:
        """Scores clips with one adapter: shape (n, c)."""
        logits: NDArray[np.float32] = score_clips(
            self._world.adapter, vector[np.newaxis], clips.embeddings
        )[0]
        return logits


def _det(counts: KwsCounts) -> DetCurve:
    """A curve of at most `DET_POINTS` points."""
    rates, rejects = counts.curve()
    chosen = np.unique(np.linspace(0, len(rates) - 1, DET_POINTS).astype(int))
    return DetCurve(far=tuple(map(float, rates[chosen])), frr=tuple(map(float, rejects[chosen])))

"""How spotted words are judged: answers, false accepts, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.kws import KwsCounts, answers
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector
from simulations.build import World
from simulations.results import Confusion, DetCurve, FalseAccepts, FrrAtFar
from simulations.scenario import Scenario

DET_POINTS = 200


class Words:
    """Answers to clips, one label each."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        """Keeps whose clips and which rates are stated."""
        self._world, self._scenario = world, scenario

    def validation(self, vector: FloatVector, clips: LocalDataset) -> dict[str, float]:
        """Accuracy and cross-entropy in nats on public clips."""
        logits = self._logits(vector, clips).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(clips)), clips.labels]
        return {
            "validation_accuracy": float((answers(logits) == clips.labels).mean()),
            "validation_loss": float(losses.mean()),
        }

    def correct(
        self, vectors: Sequence[FloatVector], most: int | None = None
    ) -> list[NDArray[np.bool_]]:
        """Per unseen phone, whether each of its first `most` judged clips is answered rightly."""
        return [
            answers(self._logits(vector, phone.judged))[:most] == phone.judged.labels[:most]
            for vector, phone in zip(vectors, self._world.unseen, strict=True)
        ]

    def figures(self, vectors: Mapping[str, Sequence[FloatVector]]) -> dict[str, Any]:
        """False rejects against false accepts, and the confusion of the personalised phones.

        Args:
          vectors: model to the adapter of each unseen phone.

        Returns:
          Fields of `Summary`.
        """
        counts = {model: self._counts(found) for model, found in vectors.items()}
        far = self._scenario.evaluation.false_accept_rate
        curves = {}
        for model, found in counts.items():
            rates, rejects = found.curve()
            if len(rates):
                chosen = np.unique(np.linspace(0, len(rates) - 1, DET_POINTS).astype(int))
                curves[model] = DetCurve(
                    far=tuple(map(float, rates[chosen])), frr=tuple(map(float, rejects[chosen]))
                )
        before, after = counts["federated"], counts["personalised"]
        accepts = None
        if before.false_accepts is not None and after.false_accepts is not None:
            accepts = FalseAccepts(
                federated=before.false_accepts,
                personalised=after.false_accepts,
                limit=self._scenario.personalisation.max_false_accept_rise,
                clips=after.num_negatives,
            )
        return {
            "frr_at_far": FrrAtFar(
                far=far, **{model: found.frr_at_far(far) for model, found in counts.items()}
            ),
            "det": curves,
            "false_accepts": accepts,
            "confusion": Confusion(
                model="personalised",
                labels=self._world.vocabulary.labels,
                counts=tuple(tuple(map(int, row)) for row in after.confusion),
            ),
        }

    def _counts(self, vectors: Sequence[FloatVector]) -> KwsCounts:
        """Detections over all unseen phones, each heard by its own adapter."""
        total = None
        for vector, phone in zip(vectors, self._world.unseen, strict=True):
            clips = phone.judged.joined(self._world.strangers)
            counts = KwsCounts.of(self._logits(vector, clips), clips.labels)
            total = counts if total is None else total + counts
        assert total is not None
        return total

    def _logits(self, vector: FloatVector, clips: LocalDataset) -> NDArray[np.float32]:
        """Scores clips with one adapter: shape (n, c)."""
        logits: NDArray[np.float32] = score_clips(
            self._world.adapter, vector[np.newaxis], clips.embeddings
        )[0]
        return logits

"""How spotted words are scored: answers, false accepts, confusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.evaluation import kws
from fedspeech.evaluation.kws import KwsCounts, KwsScores, answers
from fedspeech.evaluation.metric import Metric, Model, Section, Segment
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.tasks.evaluation import HeldOutPhone, Scored
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, Vector


@dataclass(frozen=True, eq=False)
class KwsEvaluation:
    """Answers to clips, one label each.

    Attributes:
      scored: what is scored, and on what.
      labels: of the model: target words, unknown, silence.
      false_accept_rate: at which false rejects are stated.
      non_words: what the clips without a target word are, in words.
    """

    scored: Scored
    labels: tuple[str, ...]
    false_accept_rate: float
    non_words: str

    accuracy = "accuracy with non-words counted"
    shots = "own clips per target word"
    each_round = None

    @property
    def error(self) -> str:
        """False rejects at the stated rate of false accepts."""
        return f"false rejects at {100 * self.false_accept_rate:g} % false accepts"

    def validation(self, vector: FloatVector, clips: LocalDataset) -> tuple[float, float]:
        """Accuracy and cross-entropy in nats on public clips."""
        logits = self._logits(vector, clips).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(clips)), clips.labels]
        return float((answers(logits) == clips.labels).mean()), float(losses.mean())

    def validation_error(self, vector: FloatVector, clips: LocalDataset) -> float | None:
        """False rejects on public clips; None without clips of both kinds."""
        return self._counts(vector, clips).frr_at_far(self.false_accept_rate)

    def mistakes(self, vector: FloatVector, clips: LocalDataset) -> NDArray[np.int64]:
        """1 for each clip with a wrong answer."""
        wrong: NDArray[np.int64] = answers(self._logits(vector, clips)) != clips.labels
        return wrong.astype(np.int64)

    def score(self, vector: FloatVector, phone: HeldOutPhone) -> KwsScores:
        """Detections in a phone's clips, in evaluation negatives and in guard negatives."""
        guard, unknown = self.scored.guard_negatives, len(self.labels) - 2
        # Guard negatives in which somebody speaks: silence would lower every threshold.
        spoken = guard.take(np.flatnonzero(guard.labels == unknown))
        judged, targets = phone.judged, len(self.labels) - NUM_NEGATIVE_LABELS
        said = judged.take(np.flatnonzero(judged.labels < targets))
        return KwsScores(
            heard=self._counts(vector, judged.joined(self.scored.evaluation_negatives)),
            guard=self._counts(vector, spoken) if len(spoken) else None,
            targets_right=answers(self._logits(vector, said)[:, :targets]) == said.labels,
        )

    def error_on(self, scores: Sequence[KwsScores]) -> str:
        """What false accepts are counted on."""
        return f"{self.non_words}, {kws.merged(scores).heard.num_negatives:,} clips"

    def error_metric(
        self,
        scores: Sequence[KwsScores],
        model: Model,
        *,
        variant: str = "",
        segment: Segment | None = None,
    ) -> Metric | None:
        """False rejects over all phones, the model having its own threshold; None if unknown."""
        if segment is not None:  # the non-words of a few phones set no threshold
            return None
        counts = kws.merged(scores).heard
        error = counts.frr_at_far(self.false_accept_rate)
        if error is None:
            return None
        return Metric(
            name=self.error,
            value=error,
            lower_is_better=True,
            model=model,
            variant=variant,
            phones=len(scores),
            counted=counts.num_positives,
            headline=True,
        )

    def error_rates(self, scores: Sequence[KwsScores], times: Vector) -> Vector:
        """False rejects of phones drawn so many times, each draw with a threshold of its own."""
        return kws.false_rejects([phone.heard for phone in scores], times, self.false_accept_rate)

    def sections(
        self,
        scores: Mapping[Model, Sequence[KwsScores]],
        vectors: Mapping[Model, Sequence[FloatVector]],
        phones: Sequence[HeldOutPhone],
    ) -> Iterator[Section]:
        """Operating points, target words alone, curves and confusion."""
        yield kws.target_accuracy(scores, self.scored.seed)
        if points := kws.operating_points(scores, self.false_accept_rate):
            yield points
        yield kws.detection(scores, self.labels, self.false_accept_rate)

    def weak_labels(self, vector: FloatVector, phone: HeldOutPhone, shots: int) -> None:
        """A phone does not know by itself which word was meant."""

    def heard_words(
        self, vector: FloatVector, clips: LocalDataset
    ) -> tuple[NDArray[np.int64], int]:
        """The best label of each clip; target words come first."""
        heard = self._logits(vector, clips).argmax(axis=1)
        return heard.astype(np.int64), len(self.labels) - NUM_NEGATIVE_LABELS

    def _counts(self, vector: FloatVector, clips: LocalDataset) -> KwsCounts:
        return KwsCounts.of(self._logits(vector, clips), clips.labels)

    def _logits(self, vector: FloatVector, clips: LocalDataset) -> NDArray[np.float32]:
        """Scores clips with one adapter: shape (n, c)."""
        logits: NDArray[np.float32] = score_clips(
            self.scored.adapter, vector[np.newaxis], clips.embeddings
        )[0]
        return logits

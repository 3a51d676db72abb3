"""How well a keyword model answers: confusion, accuracy, false rejects against false accepts.

Labels are a `Vocabulary`'s: target words, then unknown, then silence. Two ways to judge:

* *Answers*: the label with the largest logit. Accuracy and confusion over every clip.
* *Detections*: a clip's score is the log-odds of its likeliest target word t against everything
  else, log p(t) - log(1 - p(t)), p the softmax over all labels. The model detects t if the score
  reaches a threshold. A clip of a target word is *rejected* (FRR) unless that very word is
  detected; a clip of unknown or silence is *accepted* (FAR) if any target word is. Both rates are
  shares of isolated clips, one second long by default; they are not rates per hour of a stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.errors import require
from fedspeech.evaluation.metric import (
    Axis,
    Chart,
    Curve,
    Matrix,
    Metric,
    Model,
    Section,
)
from fedspeech.evaluation.personalization import accuracy_metrics
from fedspeech.evaluation.streaming import ListeningCounts
from fedspeech.seeds import stream
from fedspeech.vectors import Vector

DET_POINTS = 200
"""Most points of a curve in results."""


THRESHOLDS = np.append(np.linspace(-20.0, 20.0, 2_001), np.inf)
"""Log-odds at which detections are counted, ascending; the last one detects nothing. A fixed grid
makes counts of different shards mergeable; scores beyond it count at its ends."""

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class KwsCounts:
    """Counts over clips; add those of several phones or shards, then read a rate.

    Attributes:
      confusion: shape (c, c), row said, column answered.
      detected: shape (thresholds,), clips of target words whose word is detected.
      accepted: shape (thresholds,), clips of unknown or silence in which a target is detected.
    """

    confusion: IntArray
    detected: IntArray
    accepted: IntArray

    @classmethod
    def of(cls, logits: FloatArray, labels: IntArray) -> KwsCounts:
        """Counts clips: finite logits (n, c), and what was said, labels (n,) from 0 to c - 1.

        Raises:
          ValueError: if shapes do not fit, a label is out of range or a logit is not finite.
        """
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"expected logits (n, c) and labels (n,), got {logits.shape} and {labels.shape}"
            )
        num_labels = logits.shape[1]
        if num_labels <= NUM_NEGATIVE_LABELS:
            raise ValueError(f"expected target words, unknown and silence, got {num_labels} labels")
        if not np.isfinite(logits).all():
            raise ValueError("logits must be finite, got NaN or infinity")
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_labels:
            raise ValueError(
                f"labels must be in 0 to {num_labels - 1}, got {labels.min()} to {labels.max()}"
            )
        confusion = np.zeros((num_labels, num_labels), dtype=np.int64)
        np.add.at(confusion, (labels, answers(logits)), 1)
        words, scores = detections(logits)
        is_target = labels < num_labels - NUM_NEGATIVE_LABELS
        right = is_target & (words == labels)
        return cls(confusion, _reaching(scores[right]), _reaching(scores[~is_target]))

    def __add__(self, other: KwsCounts) -> KwsCounts:
        """Merges the counts of two sets of clips."""
        return KwsCounts(
            self.confusion + other.confusion,
            self.detected + other.detected,
            self.accepted + other.accepted,
        )

    @property
    def num_clips(self) -> int:
        """Clips counted."""
        return int(self.confusion.sum())

    @property
    def num_positives(self) -> int:
        """Clips of target words."""
        return int(self.confusion[:-NUM_NEGATIVE_LABELS].sum())

    @property
    def num_negatives(self) -> int:
        """Clips of unknown words or silence."""
        return int(self.confusion[-NUM_NEGATIVE_LABELS:].sum())

    @property
    def accuracy(self) -> float | None:
        """Share of clips answered with their own label; None without clips."""
        return float(np.trace(self.confusion)) / self.num_clips if self.num_clips else None

    @property
    def target_words_right(self) -> float:
        """Share of target clips answered with their own word; there must be some."""
        right = np.trace(self.confusion[:-NUM_NEGATIVE_LABELS, :-NUM_NEGATIVE_LABELS])
        return float(right) / self.num_positives

    @property
    def false_accepts(self) -> float | None:
        """Share of unknown and silence clips answered with a target word, without any threshold."""
        if not self.num_negatives:
            return None
        taken = self.confusion[-NUM_NEGATIVE_LABELS:, :-NUM_NEGATIVE_LABELS].sum()
        return float(taken) / self.num_negatives

    def frr_at_far(self, far: float) -> float | None:
        """Share of target clips rejected at the lowest threshold whose FAR is at most `far`.

        None without target clips or without clips of unknown and silence. With n negatives no FAR
        between 0 and 1/n can be told from 0.
        """
        if not 0 <= far <= 1:
            raise ValueError(f"far must be in [0, 1], got {far}")
        if not self.num_positives or not self.num_negatives:
            return None
        return self.at(self.first_within(far))[0]

    def first_within(self, far: float) -> int:
        """Index in `THRESHOLDS` of the lowest threshold whose FAR is at most `far`."""
        # There always is one: nothing reaches the last threshold, which is infinite.
        return int(np.argmax(self.accepted <= far * self.num_negatives))

    def at(self, index: int) -> tuple[float, float]:
        """FRR and FAR at one of `THRESHOLDS`; there must be clips of both kinds.

        With an index that `first_within` found on other clips, nothing is chosen on these.
        """
        frr = 1.0 - float(self.detected[index]) / self.num_positives
        return frr, float(self.accepted[index]) / self.num_negatives

    def curve(self) -> tuple[FloatArray, FloatArray]:
        """Returns FAR, ascending and distinct, and the lowest FRR at each; both empty if unknown.

        FRR never rises along the curve.
        """
        if not self.num_positives or not self.num_negatives:
            return np.empty(0), np.empty(0)
        # The first of equal counts is the lowest threshold, which rejects least.
        accepted, first = np.unique(self.accepted, return_index=True)
        frr = 1.0 - self.detected[first] / self.num_positives
        return accepted / self.num_negatives, frr


@dataclass(frozen=True, eq=False)
class KwsScores:
    """What one adapter made of the clips of one or several phones.

    Attributes:
      heard: of the phones' own clips and of evaluation negatives.
      guard: of guard negatives, on which thresholds are set; None without any.
      targets_right: shape (clips,), of clips of target words: whether their word is the likeliest
        target word.
      stream: of an endless stream; None: nobody listened to one.
    """

    heard: KwsCounts
    guard: KwsCounts | None
    targets_right: NDArray[np.bool_]
    stream: ListeningCounts | None = None

    def __add__(self, other: KwsScores) -> KwsScores:
        """Merges the scores of two sets of phones, each heard by its own adapter."""
        guard = self.guard + other.guard if self.guard and other.guard else None
        return KwsScores(
            self.heard + other.heard,
            guard,
            np.concatenate([self.targets_right, other.targets_right]),
            self.stream + other.stream if self.stream and other.stream else None,
        )


def merged(scores: Sequence[KwsScores]) -> KwsScores:
    """The scores of all phones as of one."""
    first, *others = scores
    return sum(others, first)


def false_rejects(counts: Sequence[KwsCounts], times: Vector, far: float) -> Vector:
    """FRR at the lowest threshold whose FAR is at most `far`, where phones count several times.

    Args:
      counts: of each phone.
      times: how often each counts, shape (draws, phones).
      far: in [0, 1].

    Returns:
      `KwsCounts.frr_at_far` of each draw, shape (draws,); NaN without clips of both kinds.
    """
    accepted, detected, negatives, positives = (
        times @ np.array([getattr(phone, name) for phone in counts])
        for name in ("accepted", "detected", "num_negatives", "num_positives")
    )
    first = np.argmax(accepted <= far * negatives[:, np.newaxis], axis=1)
    found = np.take_along_axis(detected, first[:, np.newaxis], axis=1)[:, 0]
    told = (positives > 0) & (negatives > 0)
    rates: Vector = np.where(told, 1.0 - found / np.maximum(positives, 1), np.nan)
    return rates


def operating_points(scores: Mapping[Model, Sequence[KwsScores]], far: float) -> Section | None:
    """Each model at the threshold that lets the stated share of guard negatives pass.

    One threshold for all phones of a model, set on what all their adapters answer: the guard
    negatives of one phone are too few to set one each.
    """
    metrics: list[Metric] = []
    for model, found in scores.items():
        total = merged(found)
        if total.guard is None or not total.heard.num_negatives:
            return None
        index = total.guard.first_within(far)
        frr, accepted = total.heard.at(index)
        threshold = float(1 / (1 + np.exp(-THRESHOLDS[index])))
        metrics += (
            Metric(name="target words found", value=1 - frr, model=model, headline=True),
            Metric(
                name="false accepts",
                value=accepted,
                model=model,
                lower_is_better=True,
                headline=True,
            ),
            Metric(name="threshold", value=threshold, unit="probability", model=model),
        )
    return Section(
        key="operating_points",
        title="At one operating point",
        on="at the threshold set on guard negatives",
        says="Each model has the threshold at which the stated share of guard negatives passes; it "
        "is judged on the clips of other speakers.",
        metrics=tuple(metrics),
    )


def target_accuracy(scores: Mapping[Model, Sequence[KwsScores]], seed: int) -> Section:
    """Which target word, where one was said and nothing else may be answered."""
    return Section(
        key="target_accuracy",
        title="Accuracy among target words",
        says="Unknown and silence are not among the answers, so false accepts do not count.",
        metrics=tuple(
            metric
            for model, found in scores.items()
            for metric in accuracy_metrics(
                [phone.targets_right for phone in found],
                stream(seed, "bootstrap", model),
                name="accuracy among target words",
                model=model,
            )
        ),
    )


def detection(
    scores: Mapping[Model, Sequence[KwsScores]], labels: Sequence[str], far: float
) -> Section:
    """False rejects against false accepts, and the confusion of personalized phones."""
    totals = {model: merged(found).heard for model, found in scores.items()}
    curves = tuple(_det(counts, model) for model, counts in totals.items() if counts.num_negatives)
    chart = Chart(
        name="False rejects against false accepts",
        says=f"Each point is one threshold; lower left is better. The line marks {100 * far:.1f} % "
        "false accepts.",
        x=Axis(name="false accepts of clips without a target word", logarithmic=True),
        y=Axis(name="false rejects"),
        curves=curves,
        marked=far,
    )
    confusion = Matrix(
        name="Said and answered, personalized",
        says="Rows: what was said; columns: what the model answered; per cent of the row. Blue is "
        "right, orange is wrong.",
        labels=tuple(labels),
        counts=tuple(tuple(map(int, row)) for row in totals["personalized"].confusion),
    )
    return Section(
        key="detection",
        title="Which errors remain",
        charts=(chart,) if curves else (),
        matrices=(confusion,),
    )


def _det(counts: KwsCounts, model: Model) -> Curve:
    """A curve of at most `DET_POINTS` points."""
    rates, rejects = counts.curve()
    chosen = np.unique(np.linspace(0, len(rates) - 1, DET_POINTS).astype(int))
    return Curve(
        name=model,
        x=tuple(map(float, rates[chosen])),
        y=tuple(map(float, rejects[chosen])),
        model=model,
    )


def answers(logits: FloatArray) -> IntArray:
    """Returns the label with the largest logit, the first of equals: (..., c) to (...)."""
    labels: IntArray = np.argmax(logits, axis=-1).astype(np.int64)
    return labels


def detections(logits: FloatArray) -> tuple[IntArray, FloatArray]:
    """Likeliest target word and its score, log p - log(1 - p): (n, c) to twice (n,)."""
    words = answers(logits[:, :-NUM_NEGATIVE_LABELS])
    rows = np.arange(len(logits))
    # From logits and not from p: log p - log(1 - p) is infinite as soon as p rounds to 1.
    others = logits.astype(np.float64)
    best = others[rows, words].copy()
    others[rows, words] = -np.inf
    peak = others.max(axis=1, initial=-np.inf)
    rest = peak + np.log(np.exp(others - peak[:, np.newaxis]).sum(axis=1))
    return words, best - rest


def negative_shift(logits: FloatArray, labels: IntArray, rate: float) -> float:
    """What to add to unknown and silence so that a stated share of their clips passes at most.

    A clip passes if a target word has a larger logit than both. The share is that of the label of
    which more would pass. One shift for both: which of them answers a clip without a target word
    stays as the model says.

    Args:
      logits: of public clips without a target word, shape (n, c).
      labels: theirs, shape (n,), unknown or silence.
      rate: share that may pass, in [0, 1].

    Returns:
      The shift, in the unit of the logits; 0 without clips.

    Raises:
      ValueError: if the rate is no share.
    """
    require(0 <= rate <= 1, "rate must be in [0, 1]", rate=rate)
    targets = logits[:, :-NUM_NEGATIVE_LABELS].max(axis=1)
    margins = targets - logits[:, -NUM_NEGATIVE_LABELS:].max(axis=1)
    needed = [_first_within(margins[labels == label], rate) for label in np.unique(labels)]
    return max(needed, default=0.0)


def _first_within(margins: FloatArray, rate: float) -> float:
    """A threshold that a stated share of margins (n,), n > 0, exceeds at most."""
    ordered = np.sort(margins)
    passing = int(rate * len(ordered))
    if passing == len(ordered):
        return float(ordered[0]) - 1.0
    kept = float(ordered[-passing - 1])
    above = float(ordered[-passing]) if passing else kept
    # Half-way to the next one, so that no rounding decides, and never at a clip: of equal logits
    # the first is the answer, which is a target word.
    return max((kept + above) / 2, kept + 1e-4 * (1 + abs(kept)))


def _reaching(scores: FloatArray) -> IntArray:
    """Counts the scores that reach each threshold."""
    # Up to the largest finite threshold, so that no score, however sure, reaches the infinite one.
    clipped = np.clip(scores, THRESHOLDS[0], THRESHOLDS[-2])
    below = np.searchsorted(np.sort(clipped), THRESHOLDS, side="left")
    reaching: IntArray = (len(scores) - below).astype(np.int64)
    return reaching

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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS

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
        """Counts clips.

        Args:
          logits: shape (n, c), finite.
          labels: shape (n,), what was said, from 0 to c - 1.

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
        accepted, first = np.unique(self.accepted, return_index=True)
        frr = 1.0 - self.detected[first] / self.num_positives
        return accepted / self.num_negatives, frr


def answers(logits: FloatArray) -> IntArray:
    """Returns the label with the largest logit, the first of equals: (..., c) to (...)."""
    labels: IntArray = np.argmax(logits, axis=-1).astype(np.int64)
    return labels


def detections(logits: FloatArray) -> tuple[IntArray, FloatArray]:
    """Returns each clip's likeliest target word and its score, log p - log(1 - p).

    Args:
      logits: shape (n, c).

    Returns:
      Words and scores, each of shape (n,).
    """
    words = answers(logits[:, :-NUM_NEGATIVE_LABELS])
    rows = np.arange(len(logits))
    others = logits.astype(np.float64)
    best = others[rows, words].copy()
    others[rows, words] = -np.inf
    peak = others.max(axis=1, initial=-np.inf)
    rest = peak + np.log(np.exp(others - peak[:, np.newaxis]).sum(axis=1))
    return words, best - rest


def _reaching(scores: FloatArray) -> IntArray:
    """Counts the scores that reach each threshold."""
    clipped = np.clip(scores, THRESHOLDS[0], THRESHOLDS[-2])
    below = np.searchsorted(np.sort(clipped), THRESHOLDS, side="left")
    reaching: IntArray = (len(scores) - below).astype(np.int64)
    return reaching

"""How well a model listens: false accepts per hour against false rejects, in an endless stream.

A stream gives one score per hop and target word. Three rules turn scores into detections:

* *Smoothing*: a word's score is the mean of its probability over the last `smoothing_hops` hops.
* *Threshold*: the likeliest word is detected when its smoothed probability reaches the threshold.
* *Cooldown*: for `cooldown_hops` after a detection nothing is detected: one word said is one event.

A keyword counts as found if it is the word of a detection between its beginning and `patience_hops`
after its end (FRR is the share that is not). Every detection in sound without keywords is a false
accept; they are counted per hour (FA/h), never as a share of clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

DEFAULT_THRESHOLD = 0.8

THRESHOLDS = 1 / (1 + np.exp(-np.linspace(-3.0, 14.0, 171)))
"""Probabilities at which a sweep counts, ascending, evenly spaced in log-odds."""


@dataclass(frozen=True, kw_only=True)
class ListeningRules:
    """How scores become detections; see the module.

    Attributes:
      smoothing_hops: at least 1: 1 smooths nothing.
      cooldown_hops: hops after a detection in which nothing is detected.
      patience_hops: hops after a keyword's end in which it may still be detected.

    Raises:
      ValueError: if a number is out of its range.
    """

    smoothing_hops: int = 10
    cooldown_hops: int = 50
    patience_hops: int = 40

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.smoothing_hops < 1 or self.cooldown_hops < 0 or self.patience_hops < 0:
            raise ValueError(
                "expected smoothing_hops >= 1, cooldown_hops >= 0 and patience_hops >= 0, got "
                f"{self.smoothing_hops}, {self.cooldown_hops}, {self.patience_hops}"
            )


@dataclass(frozen=True)
class Keyword:
    """A target word in a stream.

    Attributes:
      label: which.
      first_hop: in which it begins.
      last_hop: in which it ends.
    """

    label: int
    first_hop: int
    last_hop: int


def smoothed(probabilities: FloatArray, hops: int) -> FloatArray:
    """Mean over each hop and those before it, at most `hops` of them: (n, c) to (n, c)."""
    total = np.cumsum(probabilities, axis=0, dtype=np.float64)
    total[hops:] = total[hops:] - total[:-hops].copy()
    counts = np.minimum(np.arange(1, len(probabilities) + 1), hops)
    mean: FloatArray = total / counts[:, np.newaxis]
    return mean


def scored(logits: FloatArray, rules: ListeningRules) -> tuple[IntArray, FloatArray]:
    """The likeliest target word of every hop, and its smoothed probability.

    Args:
      logits: shape (n, c), one row per hop; targets, then unknown, then silence.
      rules: for the smoothing.

    Returns:
      Words and scores, each of shape (n,).
    """
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    probabilities = smoothed(
        exponentials / exponentials.sum(axis=1, keepdims=True), rules.smoothing_hops
    )
    words = probabilities[:, :-NUM_NEGATIVE_LABELS].argmax(axis=1).astype(np.int64)
    return words, probabilities[np.arange(len(words)), words]


def detected_hops(scores: FloatArray, threshold: float, cooldown_hops: int) -> IntArray:
    """Hops of detections: the first that reaches the threshold, then none until it has cooled."""
    reaching = np.flatnonzero(scores >= threshold)
    hops = []
    place = 0
    while place < len(reaching):
        hops.append(int(reaching[place]))
        place = int(np.searchsorted(reaching, reaching[place] + cooldown_hops, side="right"))
    return np.array(hops, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class ListeningCounts:
    """Counts over streams; add those of several, then read a rate.

    Attributes:
      false_accepts: per threshold, detections in sound without keywords, shape (thresholds,).
      found: per threshold, keywords detected, shape (thresholds,).
      hours: recorded without keywords.
      keywords: said.
      silent_hours: of digital silence that was added between recordings; in no rate.
    """

    false_accepts: IntArray
    found: IntArray
    hours: float
    keywords: int
    silent_hours: float = 0.0

    @classmethod
    def nothing(cls) -> ListeningCounts:
        """No stream at all."""
        return cls.of_keywords(np.zeros((0, NUM_NEGATIVE_LABELS + 1)), (), ListeningRules())

    @classmethod
    def without_keywords(
        cls, logits: FloatArray, rules: ListeningRules, hop_ms: float, added_hops: int = 0
    ) -> ListeningCounts:
        """Counts a stream in which no target word is said.

        Args:
          logits: shape (hops, c).
          rules: how scores become detections.
          hop_ms: between two rows.
          added_hops: how many of the hops are silence that nobody recorded. Its detections count,
            for the recording before it caused them, but its time does not.
        """
        _, scores = scored(logits, rules)
        counts = [len(detected_hops(scores, at, rules.cooldown_hops)) for at in THRESHOLDS]
        recorded, added = (
            hops * hop_ms / 3_600_000 for hops in (len(logits) - added_hops, added_hops)
        )
        nothing = np.zeros(len(THRESHOLDS), np.int64)
        return cls(np.array(counts), nothing, recorded, 0, added)

    @classmethod
    def of_keywords(
        cls, logits: FloatArray, keywords: Sequence[Keyword], rules: ListeningRules
    ) -> ListeningCounts:
        """Counts a stream in which keywords are said; its other detections are not counted."""
        words, scores = scored(logits, rules)
        found = [
            sum(_is_found(keyword, words, hops, rules.patience_hops) for keyword in keywords)
            for hops in (detected_hops(scores, at, rules.cooldown_hops) for at in THRESHOLDS)
        ]
        return cls(np.zeros(len(THRESHOLDS), np.int64), np.array(found), 0.0, len(keywords))

    def __add__(self, other: ListeningCounts) -> ListeningCounts:
        """Merges the counts of two sets of streams."""
        return ListeningCounts(
            self.false_accepts + other.false_accepts,
            self.found + other.found,
            self.hours + other.hours,
            self.keywords + other.keywords,
            self.silent_hours + other.silent_hours,
        )

    def at(self, threshold: float) -> OperatingPoint:
        """Both rates at the lowest counted threshold that is not below this one."""
        index = min(int(np.searchsorted(THRESHOLDS, threshold - 1e-12)), len(THRESHOLDS) - 1)
        return self._point(index)

    def at_most(self, false_accepts_per_hour: float) -> OperatingPoint | None:
        """The lowest threshold with at most so many false accepts per hour; None if none has."""
        if not self.hours:
            return None
        allowed = np.flatnonzero(self.false_accepts / self.hours <= false_accepts_per_hour)
        # The rate need not fall with the threshold, because of the cooldown: from here on it does.
        above = np.setdiff1d(np.arange(len(THRESHOLDS)), allowed)
        first = int(above[-1]) + 1 if len(above) else 0
        return self._point(first) if first < len(THRESHOLDS) else None

    def curve(self) -> list[OperatingPoint]:
        """Both rates at every threshold counted."""
        return [self._point(index) for index in range(len(THRESHOLDS))]

    def _point(self, index: int) -> OperatingPoint:
        accepts, found = int(self.false_accepts[index]), int(self.found[index])
        return OperatingPoint(
            threshold=float(THRESHOLDS[index]),
            false_accepts=accepts,
            hours=self.hours,
            rejected=self.keywords - found,
            keywords=self.keywords,
        )


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Both rates at one threshold, with 95 % confidence intervals.

    Attributes:
      threshold: smoothed probability.
      false_accepts: detections in sound without keywords.
      hours: of it.
      rejected: keywords not found.
      keywords: said.
    """

    threshold: float
    false_accepts: int
    hours: float
    rejected: int
    keywords: int

    @property
    def false_accepts_per_hour(self) -> float | None:
        """FA/h; None without such sound."""
        return self.false_accepts / self.hours if self.hours else None

    @property
    def false_accepts_interval(self) -> tuple[float, float] | None:
        """Exact interval of a Poisson rate (Garwood 1936, Biometrika 28, 437)."""
        return poisson_interval(self.false_accepts, self.hours) if self.hours else None

    @property
    def frr(self) -> float | None:
        """Share of keywords not found; None without keywords."""
        return self.rejected / self.keywords if self.keywords else None

    @property
    def frr_interval(self) -> tuple[float, float] | None:
        """Wilson's interval of a share (Wilson 1927, JASA 22, 209)."""
        return wilson_interval(self.rejected, self.keywords) if self.keywords else None


def poisson_interval(count: int, exposure: float, level: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval of the rate of a Poisson process.

    Args:
      count: events seen.
      exposure: over how much, such as hours; positive.
      level: coverage aimed at.
    """
    tail = (1 - level) / 2
    low = float(stats.chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    high = float(stats.chi2.ppf(1 - tail, 2 * (count + 1))) / 2
    return low / exposure, high / exposure


def wilson_interval(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a share: `count` of `total`, which is positive."""
    found = stats.binomtest(count, total).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def _is_found(keyword: Keyword, words: IntArray, hops: IntArray, patience_hops: int) -> bool:
    """Whether a detection in a keyword's time names it."""
    first = np.searchsorted(hops, keyword.first_hop)
    stop = np.searchsorted(hops, keyword.last_hop + patience_hops, side="right")
    return bool((words[hops[first:stop]] == keyword.label).any())

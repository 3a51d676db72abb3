"""How well a model listens: false accepts per hour against false rejects, in an endless stream.

A stream gives one score per hop and target word. Three rules turn scores into detections:

* *Smoothing*: a word's score is the mean of its probability over the last `smoothing_hops` hops.
  Where words have thresholds of their own, the score's log-odds are lowered by the word's offset,
  so that one threshold stands for all of them.
* *Threshold*: the word of the highest score is detected when that reaches the threshold.
* *Cooldown*: for `cooldown_hops` after a detection nothing is detected: one word said is one event.

A keyword counts as found if it is the word of a detection between its beginning and `patience_hops`
after its end (FRR is the share that is not). Every detection in sound without keywords is a false
accept; they are counted per hour (FA/h), never as a share of clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.limits import Count, WholeNumber, check_limits
from fedspeech.vectors import Vector

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DEFAULT_THRESHOLD = 0.8

THRESHOLDS = 1 / (1 + np.exp(-np.linspace(-3.0, 14.0, 171)))
"""Probabilities at which a sweep counts, ascending, evenly spaced in log-odds."""


@dataclass(frozen=True, kw_only=True)
class ListeningRules:
    """How scores become detections; see the module.

    Raises:
      ValueError: if a number is out of its range.
    """

    # At the default hop of 20 ms: 0.2 s, 1 s and 0.8 s.
    smoothing_hops: Count = 10
    cooldown_hops: WholeNumber = 50
    patience_hops: WholeNumber = 40
    offsets: tuple[float, ...] = ()  # of each word, log-odds; empty: 0 for all

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_limits(self)
        if not np.isfinite(self.offsets).all():
            raise ValueError(f"offsets must be finite, got {self.offsets}")

    @classmethod
    def every(cls, hop_ms: float) -> ListeningRules:
        """The same durations where hops last so many milliseconds: 0.2 s, 1 s and 0.8 s."""
        return cls(
            smoothing_hops=hops_in(200, hop_ms),
            cooldown_hops=hops_in(1_000, hop_ms),
            patience_hops=hops_in(800, hop_ms),
        )


def hops_in(duration_ms: float, hop_ms: float) -> int:
    """Hops of a duration, to the nearest, at least one."""
    return max(1, math.floor(duration_ms / hop_ms + 0.5))


@dataclass(frozen=True)
class Keyword:
    """A target word in a stream, from the hop in which it begins to that in which it ends."""

    label: int
    first_hop: int
    last_hop: int


def smoothed(probabilities: FloatArray, hops: int) -> FloatArray:
    """Mean over each hop and those before it, at most `hops` of them: (n, c) to (n, c)."""
    # A difference of running sums costs the same for any window; in double, so that a long stream
    # costs it no digits.
    total = np.cumsum(probabilities, axis=0, dtype=np.float64)
    total[hops:] = total[hops:] - total[:-hops].copy()
    counts = np.minimum(np.arange(1, len(probabilities) + 1), hops)
    mean: FloatArray = total / counts[:, np.newaxis]
    return mean


def probabilities(logits: FloatArray) -> FloatArray:
    """Softmax over labels: (n, c) to (n, c), in double."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    shares: FloatArray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def scored(logits: FloatArray, rules: ListeningRules) -> tuple[IntArray, FloatArray]:
    """The target word of the highest score of every hop, (n,), and that score, of logits (n, c).

    Raises:
      ValueError: if there are not as many offsets as target words.
    """
    return best_words(smoothed(probabilities(logits), rules.smoothing_hops), rules)


def best_words(means: FloatArray, rules: ListeningRules) -> tuple[IntArray, FloatArray]:
    """As `scored`, of probabilities that are smoothed already."""
    scores = means[:, :-NUM_NEGATIVE_LABELS]
    if rules.offsets:
        if len(rules.offsets) != scores.shape[1]:
            raise ValueError(
                f"there must be an offset for each of {scores.shape[1]} target words, got "
                f"{len(rules.offsets)}"
            )
        # A probability of 0 or 1 stays what it is.
        with np.errstate(divide="ignore"):
            scores = special.expit(special.logit(scores) - np.asarray(rules.offsets))
    words = scores.argmax(axis=1).astype(np.int64)
    return words, scores[np.arange(len(words)), words]


def detections(
    scores: FloatArray,
    thresholds: FloatArray,
    cooldown_hops: int,
    ready: IntArray | None = None,
) -> BoolArray:
    """Marks detections at every threshold: the first hop that reaches it, then none until cooled.

    Args:
      scores: shape (n,).
      thresholds: shape (t,).
      cooldown_hops: hops after a detection in which nothing is detected.
      ready: first hop in which each threshold may detect, 0 to n, shape (t,); None: the first.

    Returns:
      Shape (t, n).
    """
    reaching, hops = np.nonzero(scores >= thresholds[:, np.newaxis])
    # One ascending list for all thresholds, so one search finds the next hop of each of them.
    stride = len(scores) + cooldown_hops + 1
    places = reaching * stride + hops
    marks = np.zeros((len(thresholds), len(scores)), dtype=bool)
    row = np.arange(len(thresholds))
    at = np.searchsorted(places, row * stride + (0 if ready is None else ready))
    while True:
        still = at < len(places)
        at, row = at[still], row[still]
        still = reaching[at] == row
        at, row = at[still], row[still]
        if not len(at):
            return marks
        marks[row, hops[at]] = True
        at = np.searchsorted(places, places[at] + cooldown_hops, side="right")


class Detector:
    """Detections of a stream that comes in blocks: the same as of the whole stream at once.

    detector = Detector(ListeningRules(), np.array([0.9]))
    for logits in blocks:
        marks, words, scores = detector.feed(logits)        # (1, n), (n,), (n,)
    """

    def __init__(self, rules: ListeningRules, thresholds: FloatArray) -> None:
        self._rules, self._thresholds = rules, thresholds
        self._before: FloatArray | None = None
        self._ready = np.zeros(len(thresholds), np.int64)

    def feed(self, logits: FloatArray) -> tuple[BoolArray, IntArray, FloatArray]:
        """Takes logits (n, c); returns detections (t, n), the best word and its score, (n,)."""
        heard = probabilities(logits)
        lead = 0
        if self._before is not None:
            lead = len(self._before)
            heard = np.concatenate([self._before, heard])
        # As many hops before a block as the mean of its first hop reaches back.
        self._before = heard[max(0, len(heard) - (self._rules.smoothing_hops - 1)) :]
        if not len(logits):
            return np.zeros((len(self._ready), 0), bool), np.zeros(0, np.int64), np.zeros(0)
        means = smoothed(heard, self._rules.smoothing_hops)[lead:]
        words, scores = best_words(means, self._rules)
        marks = detections(
            scores, self._thresholds, self._rules.cooldown_hops, np.minimum(self._ready, len(words))
        )
        last = len(words) - 1 - marks[:, ::-1].argmax(axis=1)
        until = np.where(marks.any(axis=1), last + self._rules.cooldown_hops + 1, self._ready)
        self._ready = np.maximum(0, until - len(words))
        return marks, words, scores


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
        """Counts a stream in which no target word is said, of logits (hops, c).

        `added_hops` of them are silence that nobody recorded. Detections in it count, for the
        recording before it caused them, but its time does not.
        """
        _, scores = scored(logits, rules)
        counts = detections(scores, THRESHOLDS, rules.cooldown_hops).sum(axis=1)
        recorded, added = (
            hops * hop_ms / 3_600_000 for hops in (len(logits) - added_hops, added_hops)
        )
        nothing = np.zeros(len(THRESHOLDS), np.int64)
        return cls(counts, nothing, recorded, 0, added)

    @classmethod
    def of_blocks(
        cls, blocks: Iterable[FloatArray], rules: ListeningRules, hop_ms: float
    ) -> ListeningCounts:
        """As `without_keywords`, of a stream whose logits (hops, c) come block by block."""
        detector = Detector(rules, THRESHOLDS)
        nothing = np.zeros(len(THRESHOLDS), np.int64)
        accepts, hops = nothing.copy(), 0
        for logits in blocks:
            accepts += detector.feed(logits)[0].sum(axis=1)
            hops += len(logits)
        return cls(accepts, nothing, hops * hop_ms / 3_600_000, 0)

    @classmethod
    def of_keywords(
        cls, logits: FloatArray, keywords: Sequence[Keyword], rules: ListeningRules
    ) -> ListeningCounts:
        """Counts a stream in which keywords are said; its other detections are not counted."""
        words, scores = scored(logits, rules)
        marks = detections(scores, THRESHOLDS, rules.cooldown_hops)
        found = np.zeros(len(THRESHOLDS), np.int64)
        for keyword in keywords:
            during = slice(keyword.first_hop, keyword.last_hop + rules.patience_hops + 1)
            found += (marks[:, during] & (words[during] == keyword.label)).any(axis=1)
        return cls(np.zeros(len(THRESHOLDS), np.int64), found, 0.0, len(keywords))

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
        # So that one of `THRESHOLDS` finds itself, also as a card has it, in nine digits.
        index = min(int(np.searchsorted(THRESHOLDS, threshold - 1e-9)), len(THRESHOLDS) - 1)
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


def false_rejects(
    counts: Sequence[ListeningCounts], times: Vector, false_accepts_per_hour: float
) -> Vector:
    """FRR of `ListeningCounts.at_most` where streams count several times.

    Args:
      counts: of each phone.
      times: how often each counts, shape (draws, phones).
      false_accepts_per_hour: the rate.

    Returns:
      Shape (draws,); 1 where no threshold keeps to the rate, NaN without keywords.
    """
    accepts, found, hours, keywords = (
        times @ np.array([getattr(phone, name) for phone in counts])
        for name in ("false_accepts", "found", "hours", "keywords")
    )
    above = accepts > false_accepts_per_hour * hours[:, np.newaxis]
    first = above.shape[1] - np.argmax(above[:, ::-1], axis=1)
    first = np.where(above.any(axis=1), first, 0)
    keeps = first < above.shape[1]
    index = np.minimum(first, above.shape[1] - 1)[:, np.newaxis]
    share = np.take_along_axis(found, index, axis=1)[:, 0] / np.maximum(keywords, 1)
    rates: Vector = np.where(keywords > 0, np.where(keeps, 1.0 - share, 1.0), np.nan)
    return rates


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Both rates at one threshold of smoothed probability, with 95 % confidence intervals.

    False accepts are detections in hours of sound without keywords.
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
        """Exact interval of a share (Clopper and Pearson 1934, Biometrika 26, 404)."""
        return binomial_interval(self.rejected, self.keywords) if self.keywords else None


def poisson_interval(count: int, exposure: float, level: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval of the rate of a Poisson process; the exposure is positive."""
    tail = (1 - level) / 2
    low = float(stats.chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    high = float(stats.chi2.ppf(1 - tail, 2 * (count + 1))) / 2
    return low / exposure, high / exposure


def binomial_interval(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval of a share: `count` of `total`, which is positive."""
    found = stats.binomtest(count, total).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)

"""Two sets of scores: how well a threshold parts them.

    roc(targets, nontargets).equal_error_rate
    detection_metrics(of_members, of_others, rng=stream(1, "bootstrap"))

Scores are higher where a detector is surer; nothing else about them matters. Equal scores are one
operating point, because no threshold parts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from fedspeech.errors import require
from fedspeech.evaluation.metric import Interval, Metric

FloatArray = NDArray[np.float64]

RESAMPLES = 1_000
LEVEL = 0.95
FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclass(frozen=True, eq=False)
class Roc:
    """Operating points of a detector, from accepting nothing to accepting everything.

    Attributes:
      false_positives: share of nontargets at or above each threshold, ascending, shape (points,).
      true_positives: share of targets likewise.
    """

    false_positives: FloatArray
    true_positives: FloatArray

    @property
    def equal_error_rate(self) -> float:
        """Where misses and false alarms are equally frequent, on the line between two points.

        0.5 where all scores are equal, 1.0 where every target scores below every nontarget: a
        detector that is upside down is not credited with what it would be if it were turned.
        """
        misses = 1 - self.true_positives
        excess = self.false_positives - misses  # ascends from -1 to 1
        after = int(np.argmax(excess >= 0))
        step = -excess[after - 1] / (excess[after] - excess[after - 1])
        return float(misses[after - 1] + step * (misses[after] - misses[after - 1]))

    @property
    def area(self) -> float:
        """Probability that a target scores above a nontarget, ties counting half."""
        return float(np.trapezoid(self.true_positives, self.false_positives))

    @property
    def advantage(self) -> float:
        """The largest difference of both rates (Yeom et al. 2018, arXiv:1709.01604, Definition 4).

        The threshold is chosen on the same scores, so guessing reaches more than 0.
        """
        return float((self.true_positives - self.false_positives).max())


class Sorted:
    """Scores in order, so that many weightings of them are cheap."""

    def __init__(self, scores: FloatArray, targets: NDArray[np.bool_]):
        """Takes scores and which are of targets, shape (n,) each."""
        if not np.isfinite(scores).all() or not targets.any() or targets.all():
            raise ValueError("expected finite scores, some of targets and some of nontargets")
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._targets = targets[self._order]
        self._last = np.append(ordered[1:] != ordered[:-1], True)  # of those with equal scores

    def roc(self, weights: FloatArray) -> Roc:
        """The curve where each score counts with its weight, shape (n,)."""
        weights = weights[self._order]
        return Roc(*(self._shares(weights * side) for side in (~self._targets, self._targets)))

    def _shares(self, weights: FloatArray) -> FloatArray:
        counted = np.cumsum(weights)[self._last]
        return np.concatenate([[0.0], counted / counted[-1]])


def roc(targets: FloatArray, nontargets: FloatArray) -> Roc:
    """The receiver operating characteristic of two sets of scores, shape (n,) and (m,).

    Raises:
      ValueError: if either is empty or a score is not finite.
    """
    scores = np.concatenate([targets, nontargets]).astype(np.float64)
    return Sorted(scores, np.arange(len(scores)) < len(targets)).roc(np.ones(len(scores)))


def equal_error_rate(targets: FloatArray, nontargets: FloatArray) -> float:
    """See `Roc.equal_error_rate`; raises `ValueError` as `roc` does."""
    return roc(targets, nontargets).equal_error_rate


def exact_interval(successes: float, trials: int, level: float = LEVEL) -> Interval:
    """Interval of a probability from a count, which covers it at least as often as it says.

    Clopper and Pearson (1934).

    Raises:
      ValueError: if there are no trials, or fewer than successes.
    """
    require(trials > 0, "trials must be positive", trials=trials)
    require(0 <= successes <= trials, "successes must be in [0, trials]", successes=successes)
    tail = (1 - level) / 2
    misses = trials - successes
    low = float(beta.ppf(tail, successes, misses + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, misses)) if misses else 1.0
    return Interval(low=low, high=high, level=level, method="Clopper-Pearson")


def true_positive_rate_at(targets: FloatArray, nontargets: FloatArray, rate: float) -> Metric:
    """Share of targets above the lowest threshold whose false positives do not exceed a rate.

    Carlini et al. 2022 (arXiv:2112.03570) measure membership so, because a mean over all members
    hides that some are found surely. The interval is that of the targets, the threshold taken as
    given. With fewer than 1 / rate nontargets the threshold is the highest of them, and their true
    rate may be far above the one in the name: `counted` says how many there were.

    Raises:
      ValueError: if the rate is not in (0, 1), or as `roc` does.
    """
    require(0 < rate < 1, "rate must be in (0, 1)", rate=rate)
    curve = roc(targets, nontargets)
    # A rate such as 0.01 of 100 must allow one: floats of counts divided by totals may exceed it.
    allowed = curve.false_positives <= rate + 1e-12
    found = float(curve.true_positives[allowed].max())
    return Metric(
        name=f"true positives at {100 * rate:g} % false positives",
        value=found,
        by_chance=rate,
        phones=len(targets),
        counted=len(nontargets),
        interval=exact_interval(round(found * len(targets)), len(targets)),
    )


def detection_metrics(
    targets: FloatArray,
    nontargets: FloatArray,
    rng: np.random.Generator,
    *,
    rates: tuple[float, ...] = FALSE_POSITIVE_RATES,
) -> tuple[Metric, ...]:
    """Area under the curve, advantage, and true positives at fixed rates, of one score per person.

    Intervals of the first two are bootstrapped over persons, targets and nontargets apart.

    Raises:
      ValueError: as `roc` and `true_positive_rate_at` do.
    """
    scores = np.concatenate([targets, nontargets]).astype(np.float64)
    sizes = (len(targets), len(nontargets))
    curves = Sorted(scores, np.arange(sum(sizes)) < sizes[0])
    whole = curves.roc(np.ones(sum(sizes)))
    drawn = [
        curves.roc(np.concatenate([draw(size, rng) for size in sizes])) for _ in range(RESAMPLES)
    ]
    smallest = min(sizes)
    return (
        Metric(
            name="area under the curve",
            value=whole.area,
            by_chance=0.5,
            phones=sum(sizes),
            interval=share_interval(np.array([curve.area for curve in drawn]), smallest),
        ),
        Metric(
            name="advantage",
            value=whole.advantage,
            by_chance=0.0,
            phones=sum(sizes),
            interval=share_interval(np.array([curve.advantage for curve in drawn]), smallest),
        ),
        *(true_positive_rate_at(targets, nontargets, rate) for rate in rates),
    )


def draw(size: int, rng: np.random.Generator) -> FloatArray:
    """How often each of so many is drawn, with replacement, as many as they are."""
    return np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)


def share_interval(drawn: FloatArray, persons: int) -> Interval:
    """Percentile interval of resampled shares; exact where all are the same.

    A share of 0 or 1 stays what it is however often it is resampled, and is not certain for that.
    """
    interval = percentile_interval(drawn)
    if interval.low == interval.high and interval.low in (0.0, 1.0):
        return exact_interval(round(interval.low * persons), persons)
    return interval


def percentile_interval(drawn: FloatArray) -> Interval:
    """The middle 95 % of resampled figures (Efron and Tibshirani 1993, chapter 13)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), level=LEVEL)

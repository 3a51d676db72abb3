"""Did personalizing help, whom did it hurt, and what would chance have done?

Everything here is over phones: each phone counts once, whatever its number of judged clips. The
before and the after of a phone are judged on the same clips, and the control (the same procedure
with another phone's clips) on those clips too, so every comparison is paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fedspeech.evaluation.metric import WORST_DECILE, Interval, Metric, Model, Segment

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.floating]

RESAMPLES = 2_000


@dataclass(frozen=True)
class AccuracyOverPhones:
    """Accuracy of one model over phones.

    Attributes:
      mean: mean over phones of the share of clips answered correctly.
      worst_decile: mean over the worst tenth of phones; see `worst_decile`.
      phones: how many.
      low: lower end of the interval of the mean; see `bootstrap_interval`.
      high: upper end.
    """

    mean: float
    worst_decile: float
    phones: int
    low: float
    high: float


@dataclass(frozen=True)
class RegressionRate:
    """Phones that make more mistakes than before, beside what chance would give.

    Attributes:
      rate: share of phones that make more mistakes.
      expected_by_chance: mean share if every changed clip were as likely to be won as lost.
      p_value: probability, under that chance, of so few phones made worse, or fewer. Small: the
        change is better than a coin.
      phones: how many.
      changed: phones with at least one changed clip; where there is none, `rate` says nothing.
    """

    rate: float
    expected_by_chance: float
    p_value: float
    phones: int
    changed: int


def phone_accuracies(correct: Sequence[BoolArray]) -> FloatArray:
    """Returns the share of correct clips of each phone, shape (phones,).

    Raises:
      ValueError: if there is no phone or one has no clip to be judged by.
    """
    if not len(correct) or any(len(clips) == 0 for clips in correct):
        raise ValueError("every phone needs at least one judged clip, and there must be a phone")
    return np.array([clips.mean() for clips in correct])


def worst_decile(accuracies: FloatArray) -> float:
    """Returns the mean accuracy of the ceil(phones / 10) phones with the lowest accuracy.

    The phones are chosen anew for each model: the figure tells how bad it is for those worst off,
    not what became of particular phones.
    """
    worst = np.sort(accuracies)[: math.ceil(len(accuracies) / 10)]
    return float(worst.mean())


def bootstrap_interval(
    values: FloatArray, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean of one value per phone.

    Phones are drawn with replacement, whole (Efron and Tibshirani 1993, chapter 13): clips of one
    phone are not independent, phones are.

    Args:
      values: shape (phones,).
      rng: a named stream, such as `stream(seed, "bootstrap", "personalized")`.
      level: coverage aimed at, in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    tail = (1 - level) / 2
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def accuracy_over_phones(
    correct: Sequence[BoolArray], rng: np.random.Generator
) -> AccuracyOverPhones:
    """Summarizes one model.

    Args:
      correct: per phone, whether each judged clip was answered correctly, shape (clips,).
      rng: for the interval.
    """
    accuracies = phone_accuracies(correct)
    low, high = bootstrap_interval(accuracies, rng)
    return AccuracyOverPhones(
        mean=float(accuracies.mean()),
        worst_decile=worst_decile(accuracies),
        phones=len(accuracies),
        low=low,
        high=high,
    )


def accuracy_metrics(
    correct: Sequence[BoolArray],
    rng: np.random.Generator,
    *,
    name: str,
    model: Model,
    segment: Segment | None = None,
) -> tuple[Metric, Metric]:
    """Accuracy over phones with its interval, and that of the worst decile.

    Args:
      correct: per phone, whether each judged example was answered correctly, shape (examples,).
      rng: for the interval.
      name: of the accuracy.
      model: whose answers.
      segment: the group that the phones are; None: all held-out phones.
    """
    found = accuracy_over_phones(correct, rng)
    mean = Metric(
        name=name,
        value=found.mean,
        model=model,
        segment=segment,
        phones=found.phones,
        interval=Interval(low=found.low, high=found.high),
        headline=True,
    )
    worst = Metric(
        name=WORST_DECILE,
        value=found.worst_decile,
        model=model,
        segment=segment,
        phones=found.phones,
    )
    return mean, worst


def regression_metric(
    before: Sequence[IntArray],
    after: Sequence[IntArray],
    *,
    model: Model,
    variant: str = "",
    segment: Segment | None = None,
) -> Metric:
    """The regression rate as results have it; `counted` is the number of changed phones."""
    found = regression_rate(before, after)
    return Metric(
        name="phones worse off",
        value=found.rate,
        lower_is_better=True,
        model=model,
        variant=variant,
        segment=segment,
        phones=found.phones,
        counted=found.changed,
        by_chance=found.expected_by_chance,
    )


def regression_rate(before: Sequence[IntArray], after: Sequence[IntArray]) -> RegressionRate:
    """Counts phones with more mistakes than before, and what chance would give.

    On a phone's clips the number of mistakes changed by d_1, d_2, ... (0 or 1 for a word, more for
    a sentence). Were the two models equally good on it, each change would have gone either way with
    probability 1/2 (the sign-flip null of McNemar's exact test, conditional on the sizes |d_i|), so
    the phone would be worse with probability P[sum of +-d_i > 0] = (1 - P[sum = 0]) / 2. The
    expected share is the mean of these; their exact Poisson-binomial distribution gives the
    p-value. Clips are taken to flip independently within a phone.

    Args:
      before: per phone, mistakes in each clip, shape (clips,).
      after: the same clips.
    """
    _check_paired(before, after)
    changes = [new.astype(np.int64) - old for old, new in zip(before, after, strict=True)]
    worse = sum(int(change.sum() > 0) for change in changes)
    chances = [_chance_of_worse(np.abs(change)) for change in changes]
    return RegressionRate(
        rate=worse / len(changes),
        expected_by_chance=float(np.mean(chances)),
        p_value=float(stats.poisson_binom.cdf(worse, chances)),
        phones=len(changes),
        changed=sum(bool(change.any()) for change in changes),
    )


def _chance_of_worse(sizes: IntArray) -> float:
    """P[sum of +-sizes > 0], every sign a fair coin."""
    reach = int(sizes.sum())
    sums = np.zeros(2 * reach + 1)  # P[sum = index - reach]
    sums[reach] = 1.0
    for size in sizes[sizes > 0]:
        sums = (np.roll(sums, size) + np.roll(sums, -size)) / 2
    return float(1 - sums[reach]) / 2


def _check_paired(
    before: Sequence[NDArray[np.generic]], after: Sequence[NDArray[np.generic]]
) -> None:
    """Refuses two models judged on different phones or clips."""
    shapes = [clips.shape for clips in before], [clips.shape for clips in after]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(
            "before and after must hold the same clips of the same phones, at least one phone; "
            f"got {len(before)} and {len(after)} phones"
        )

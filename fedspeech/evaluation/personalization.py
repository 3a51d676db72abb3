"""Did personalizing help, whom did it hurt, and what would chance have done?

Everything here is over phones: each phone counts once, whatever its number of judged clips. The
before and the after of a phone are judged on the same clips, and the control (the same procedure
with another phone's clips) on those clips too, so every comparison is paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.evaluation.metric import WORST_DECILE, Interval, Metric, Model, Segment

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.floating]

RESAMPLES = 2_000


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
    values: FloatArray | IntArray,
    rng: np.random.Generator,
    level: float = 0.95,
    *,
    over: IntArray | None = None,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of sum(values) / sum(over), one of each per phone.

    Without `over` that is the mean. Phones are drawn with replacement, whole (Efron and Tibshirani
    1993, chapter 13): clips of one phone are not independent, phones are.

    Raises:
      ValueError: if the level is not in (0, 1) or nothing is counted in `over`.
    """
    require(0 < level < 1, "level must be in (0, 1)", level=level)
    totals = np.ones(len(values), dtype=np.int64) if over is None else over
    require(bool(totals.sum()), "expected something counted", total=int(totals.sum()))
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    # A sample may draw only phones on which nothing is counted.
    means = values[drawn].sum(axis=1) / np.maximum(totals[drawn].sum(axis=1), 1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def accuracy_metrics(
    correct: Sequence[BoolArray],
    rng: np.random.Generator,
    *,
    name: str,
    model: Model,
    segment: Segment | None = None,
) -> tuple[Metric, Metric]:
    """Accuracy over phones with its interval, and that of the worst decile.

    Each phone has an array that says which judged examples were answered correctly, (examples,).
    """
    accuracies = phone_accuracies(correct)
    low, high = bootstrap_interval(accuracies, rng)
    mean = Metric(
        name=name,
        value=float(accuracies.mean()),
        model=model,
        segment=segment,
        phones=len(accuracies),
        interval=Interval(low=low, high=high),
        headline=True,
    )
    worst = Metric(
        name=WORST_DECILE,
        value=worst_decile(accuracies),
        model=model,
        segment=segment,
        phones=len(accuracies),
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
    """Share of phones with more mistakes than before, beside what chance would give.

    On a phone's clips the number of mistakes changed by d_1, d_2, ... (0 or 1 for a word, more for
    a sentence). Were the two models equally good on it, each change would have gone either way with
    probability 1/2 (the sign-flip null of McNemar's exact test, conditional on the sizes |d_i|), so
    the phone would be worse with probability P[sum of +-d_i > 0] = (1 - P[sum = 0]) / 2. The
    share by chance is the mean of these. Clips are taken to flip independently within a phone.

    Before and after hold mistakes in the same clips of each phone, shape (clips,). `counted` is the
    number of phones with a changed clip; where there is none, the share says nothing.
    """
    _check_paired(before, after)
    changes = [new.astype(np.int64) - old for old, new in zip(before, after, strict=True)]
    return Metric(
        name="phones worse off",
        value=sum(int(change.sum() > 0) for change in changes) / len(changes),
        lower_is_better=True,
        model=model,
        variant=variant,
        segment=segment,
        phones=len(changes),
        counted=sum(bool(change.any()) for change in changes),
        by_chance=float(np.mean([_chance_of_worse(np.abs(change)) for change in changes])),
    )


def _chance_of_worse(sizes: IntArray) -> float:
    """P[sum of +-sizes > 0], every sign a fair coin."""
    reach = int(sizes.sum())
    sums = np.zeros(2 * reach + 1)  # P[sum = index - reach]
    sums[reach] = 1.0
    for size in sizes[sizes > 0]:
        # No sum exceeds `reach`, so nothing but zeros rolls over an end.
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

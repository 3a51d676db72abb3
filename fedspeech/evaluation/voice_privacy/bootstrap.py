"""A figure of privacy or of use, with an interval over speakers and a mark of significance.

    sample = Sample(units=("ann", "bo"), figures=(Figure(name="wer", of=rate),))
    measured(sample, stream(1, "bootstrap"))

A figure is a function of how often each unit (a speaker, or an item where no speakers are named)
counts. Its value counts every unit once; its interval comes from units drawn with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from fedspeech.errors import require
from fedspeech.evaluation.metric import Metric, Unit
from fedspeech.evaluation.roc import draw, percentile_interval, share_interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RESAMPLES = 2_000
FEW_UNITS = 10
"""Intervals over fewer units are too narrow (a bootstrap knows no speaker whom it has not seen), so
that no mark is set on them."""
MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """One number of a sample.

    Attributes:
      name: in words.
      of: the number, by how often each unit counts, shape (units,); NaN where it is not defined.
      unit: what it is counted in.
      by_chance: the value where nothing can be told; None: not known.
      permuted: the number after what it rests on was shuffled, for figures that are biased, so that
        guessing reaches more than their limit: `by_chance` and the mark come from these.
      independent: whether what is shuffled is; if it is not, no mark is set.
    """

    name: str
    of: Callable[[FloatArray], float]
    unit: Unit = "number"
    by_chance: float | None = None
    permuted: Callable[[np.random.Generator], float] | None = None
    independent: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What one input holds.

    Attributes:
      units: names of what is drawn with replacement.
      figures: of it.
      kind: what the units are, in words.
    """

    units: Sequence[Hashable]
    figures: tuple[Figure, ...]
    kind: str = "speakers"


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A figure, and whether it differs from chance, or from the same figure of another sample.

    Attributes:
      metric: name, value, interval and chance.
      p_value: two-sided; None where there is nothing to compare with, or too few units.
      difference: this one's value minus the other's, with its interval; None: no other.
      difference_p_value: that both are equal, two-sided.
    """

    metric: Metric
    p_value: float | None = None
    difference: Metric | None = None
    difference_p_value: float | None = None

    @property
    def mark(self) -> str:
        """Significance against chance: *** below 0.001, ** below 0.01, * below 0.05."""
        return mark(self.p_value)

    @property
    def difference_mark(self) -> str:
        """Significance of the difference, likewise."""
        return mark(self.difference_p_value)


def mark(p_value: float | None) -> str:
    """*** below 0.001, ** below 0.01, * below 0.05; "" above or where none is known."""
    return next((stars for below, stars in MARKS if (p_value or 0.0) < below and p_value), "")


def owners(names: Sequence[Hashable | tuple[Hashable, ...]]) -> tuple[list[Hashable], IntArray]:
    """Units in order, and those that each item is of, shape (items, owners of one).

    An item of two units (a pair of speakers) counts as often as both are drawn, one of a pair of
    the same unit as often as that one.
    """
    pairs = [name if isinstance(name, tuple) else (name, name) for name in names]
    places: dict[Hashable, int] = {}
    for pair in pairs:
        for one in pair:
            places.setdefault(one, len(places))
    found = np.array([[places[one] for one in pair] for pair in pairs], dtype=np.int64)
    return list(places), found.reshape(len(pairs), 2)


def item_weights(weights: FloatArray, owned: IntArray) -> FloatArray:
    """How often each item counts, shape (items,), where its units count so often."""
    first, second = weights[owned[:, 0]], weights[owned[:, 1]]
    return np.asarray(np.where(owned[:, 0] == owned[:, 1], first, first * second))


def measured(
    sample: Sample,
    rng: np.random.Generator,
    *,
    other: Sample | None = None,
    resamples: int = RESAMPLES,
) -> tuple[Marked, ...]:
    """The figures of a sample, each with its interval, its mark, and its difference from another's.

    Two samples of the same units are drawn together (a paired comparison), others apart.

    Raises:
      ValueError: if a figure is not defined, or for almost no draw of units.
    """
    require(resamples >= 100, "resamples must be at least 100", resamples=resamples)
    size = len(sample.units)
    weights = [draw(size, rng) for _ in range(resamples)]
    found = []
    for place, figure in enumerate(sample.figures):
        value, drawn = _drawn(figure, size, weights)
        marked = _against_chance(figure, value, drawn[np.isfinite(drawn)], size, rng)
        if other is not None:
            paired = list(other.units) == list(sample.units)
            theirs = weights if paired else [draw(len(other.units), rng) for _ in weights]
            its = _drawn(other.figures[place], len(other.units), theirs)
            few = min(size, len(other.units)) < FEW_UNITS
            marked = _compared(marked, value - its[0], drawn - its[1], few)
        found.append(marked)
    return tuple(found)


def _drawn(figure: Figure, units: int, weights: Sequence[FloatArray]) -> tuple[float, FloatArray]:
    """The value, and that of every draw."""
    value = figure.of(np.ones(units))
    require(math.isfinite(value), f"{figure.name} is not defined for this input", value=value)
    drawn = np.array([figure.of(one) for one in weights])
    defined = int(np.isfinite(drawn).sum())
    require(
        defined >= len(weights) // 10,
        f"{figure.name} has no interval, for it is not defined for most draws of units",
        units=units,
        defined_draws=defined,
    )
    return value, drawn


def _against_chance(
    figure: Figure, value: float, drawn: FloatArray, units: int, rng: np.random.Generator
) -> Marked:
    chance, p_value = figure.by_chance, None
    share = figure.unit == "share" and drawn.min() >= 0 and drawn.max() <= 1
    interval = share_interval(drawn, units) if share else percentile_interval(drawn)
    if figure.permuted is not None:
        shuffled = np.array([figure.permuted(rng) for _ in drawn])
        chance = float(shuffled.mean())
        p_value = _two_sided(shuffled, value)
    elif chance is not None and interval.method == "Clopper-Pearson":
        p_value = float(binomtest(round(value * units), units, chance).pvalue)
    elif chance is not None:
        p_value = _two_sided(drawn, chance)
    if units < FEW_UNITS or not figure.independent:
        p_value = None
    metric = Metric(name=figure.name, value=value, unit=figure.unit, by_chance=chance,
                    phones=units, interval=interval)  # fmt: skip
    return Marked(metric=metric, p_value=p_value)


def _two_sided(drawn: FloatArray, at: float) -> float:
    """How far out a value is among draws, two-sided, never 0 (Davison and Hinkley 1997, 4.2)."""
    below, above = int((drawn <= at).sum()), int((drawn >= at).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1))


def _compared(marked: Marked, value: float, drawn: FloatArray, few: bool) -> Marked:
    drawn = drawn[np.isfinite(drawn)]
    name = f"{marked.metric.name}, difference"
    metric = Metric(name=name, value=value, unit=marked.metric.unit, by_chance=0.0,
                    phones=marked.metric.phones, interval=percentile_interval(drawn))  # fmt: skip
    return Marked(
        metric=marked.metric,
        p_value=marked.p_value,
        difference=metric,
        difference_p_value=None if few else _two_sided(drawn, 0.0),
    )

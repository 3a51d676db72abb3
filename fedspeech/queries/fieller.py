"""A ratio of two noisy totals, with an interval that holds where the totals are small.

A ratio of estimates is not the estimate of a ratio: dividing biases it by about its variance over
the square of the denominator, and where the denominator is not told from zero it has no finite
error. The interval does not divide. It is the set of all r for which numerator - r denominator is
not told from zero (Fieller 1954), with the variance that r itself implies (Wilson 1927).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fedspeech.queries.estimate import Estimate, ExpectedError, Sampling

NOTHING_SAID = "the denominator is not told from zero"

Quadratic = tuple[float, float, float]
"""Constant, linear and square part of a polynomial in the ratio."""


@dataclass(frozen=True, kw_only=True)
class Fraction:
    """Two coordinates of a decoded mean whose ratio is asked for.

    Attributes:
      nested: whether the numerator is part of the denominator, so that the ratio is in [0, 1]; the
        other coordinate is then the rest of the denominator, else the denominator.
      most: events that a phone adds, of both together.
      other_unit: what one of the other coordinate stands for.
      other_cells: cells whose noise is in the other coordinate.
      ratio_unit: what a ratio of 1 stands for.
      numerator: decoded mean of the one.
      other: decoded mean of the other.
    """

    nested: bool
    most: float = 1.0
    other_unit: float = 1.0
    other_cells: float = 1.0
    ratio_unit: float = 1.0
    numerator: float = 0.0
    other: float = 0.0

    def of(self, numerator: float, other: float) -> Fraction:
        """The fraction of two decoded means."""
        return dataclasses.replace(self, numerator=numerator, other=other)

    def estimate(
        self,
        sampling: Sampling,
        *,
        of: str,
        segment: tuple[str, ...] = (),
        cell: tuple[str, ...] = (),
    ) -> Estimate:
        """The ratio, biased by about its variance over the denominator, and its interval.

        Its point is not clamped, and may lie outside of [0, 1]. Its interval holds possible ratios
        only: of a share those in [0, 1], of a rate those from 0.
        """
        above = self.numerator * sampling.scale_up
        below = self.other * sampling.scale_up * self.other_unit
        below += above if self.nested else 0.0
        noise, drawn = self._variances(sampling, below)
        low, high = self._interval(sampling, above, below)
        known, unit = below > 0 and math.isfinite(high), self.ratio_unit
        ratio = above / below if known else 0.0
        at = min(max(ratio, 0.0), 1.0) if self.nested else max(ratio, 0.0)
        return Estimate(
            of=of,
            segment=segment,
            cell=cell,
            value=ratio * unit if known else None,
            low=low * unit if known else None,
            high=high * unit if known else None,
            level=sampling.level,
            count=below / self.other_unit,
            noise_stddev=unit * math.sqrt(_at(noise, ratio)) / below if known else 0.0,
            sampling_stddev=unit * math.sqrt(_at(drawn, at)) / below if known else 0.0,
            remark="" if known else NOTHING_SAID,
        )

    def expected_error(
        self, sampling: Sampling, counts: ExpectedError, ratio: float
    ) -> ExpectedError:
        """What the ratio will be off by, to first order, where the denominator has such a total."""
        below = counts.total * self.other_unit
        noise, drawn = (
            self.ratio_unit * math.sqrt(_at(parts, ratio)) / below
            for parts in self._variances(sampling, below)
        )
        return dataclasses.replace(
            counts,
            noise_stddev=noise,
            sampling_stddev=drawn,
            half_width=sampling.deviations * math.hypot(noise, drawn),
        )

    def _variances(self, sampling: Sampling, below: float) -> tuple[Quadratic, Quadratic]:
        """Of numerator - r denominator: from noise, and from sampling.

        With x and y the numerator's and the denominator's counts of one phone, sampling adds the
        sum of (x - r y)^2. Where x is part of y, that is convex in x, so at most y^2 r (1 - r) on
        average; else it is at most x^2 + r^2 y^2. A square is at most `most` times the count. All
        of them are equalities where a phone adds one event of worth 0 or 1.
        """
        noise, unit = sampling.noise_variance, self.other_unit
        other = noise * self.other_cells * unit**2
        drawn = sampling.spread * self.most * max(0.0, below)
        if self.nested:
            return (noise, -2 * noise, noise + other), (0.0, drawn, -drawn)
        return (noise, 0.0, other), (0.0, drawn, drawn * unit)

    def _interval(self, sampling: Sampling, above: float, below: float) -> tuple[float, float]:
        """All possible r with (numerator - r denominator)^2 at most z^2 times its variance."""
        noise, drawn = self._variances(sampling, below)
        z2 = sampling.deviations**2
        constant, linear, square = (
            own - z2 * (quiet + loud)
            for own, quiet, loud in zip(
                (above**2, -2 * above * below, below**2), noise, drawn, strict=True
            )
        )
        largest = 1.0 if self.nested else math.inf
        if square <= 0:  # the set is unbounded: a gap in it is not left out
            return 0.0, largest
        half, root = -linear / (2 * square), linear**2 - 4 * square * constant
        reach = math.sqrt(max(0.0, root)) / (2 * square)
        return min(max(half - reach, 0.0), largest), max(min(half + reach, largest), 0.0)


def _at(parts: Quadratic, ratio: float) -> float:
    """Value of a quadratic that is a variance."""
    return max(0.0, parts[0] + parts[1] * ratio + parts[2] * ratio**2)

"""What a noisy sum says of a whole population: estimates, with intervals that hold.

Of a cell, phone i of N would add x_i, and T is the sum of all x_i. Phones come by their own coins
with probability q, are there with the plan's availability a, and a share s of those gets to send.
So a phone is in the sum with probability p = q a s, and S / p estimates T without bias, where
S = (sum of the x_i that came) + noise. Its variance has three parts:

| part | of S / p |
|---|---|
| noise | (n sigma^2 + sigma_server^2) / (scale p)^2, n = N p phones that send a share each |
| rounding to the ring | at most n / 4 / (scale p)^2: a coordinate rounds with variance f (1 - f) |
| sampling | (1 - p) / p * (sum of x_i^2): Horvitz and Thompson 1952 |

The sum of squares is at most `most` times T where x_i lies in [0, most], and equals T where a phone
adds 0 or 1. The variance is a function of T then, and the interval is the set of all T that are not
rejected (Wilson 1927), which holds its level where T is small and S / p is skewed.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from statistics import NormalDist

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.protocol import Stage

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One published figure of a population.

    Attributes:
      of: what it counts or measures, in words.
      segment: value of each attribute by which phones are divided; empty: all phones.
      cell: value of each column by which events are divided; empty: one figure.
      value: the estimate; None: it is withheld, or the counts say nothing.
      low: lower end of the interval; None as `value`.
      high: upper end.
      level: of the interval.
      count: noisy count that the figure stands on, by which it is withheld; None once it is.
      noise_stddev: standard deviation of the value from privacy noise and rounding.
      sampling_stddev: likewise from phones that did not come, at the estimate.
      remark: why it is withheld, or how far it is biased; "": neither.

    Raises:
      ValueError: if the ends of the interval are out of order.
    """

    of: str
    segment: tuple[str, ...] = ()
    cell: tuple[str, ...] = ()
    value: float | None
    low: float | None
    high: float | None
    level: float = LEVEL
    count: float | None
    noise_stddev: float
    sampling_stddev: float
    remark: str = ""

    def __post_init__(self) -> None:
        """Turns NumPy's numbers into Python's and checks the interval."""
        for name in ("value", "low", "high", "count", "noise_stddev", "sampling_stddev"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else float(number))
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"low must not exceed high, got low={self.low}, high={self.high}")

    def without(self, remark: str) -> Estimate:
        """The same without its numbers: withheld, and why."""
        return dataclasses.replace(self, value=None, low=None, high=None, count=None, remark=remark)


@dataclass(frozen=True, kw_only=True)
class ExpectedError:
    """What an estimate of a total will be off by, said before anybody is asked.

    Attributes:
      total: the true total at which it is said.
      noise_stddev: from privacy noise and rounding.
      sampling_stddev: from phones that do not come.
      half_width: of the interval.
      level: of the interval.
      truncation: what the bound of a phone does to the estimate, in words.
    """

    total: float
    noise_stddev: float
    sampling_stddev: float
    half_width: float
    level: float
    truncation: str

    def times(self, unit: float) -> ExpectedError:
        """The same of a total in another unit."""
        names = ("total", "noise_stddev", "sampling_stddev", "half_width")
        return dataclasses.replace(self, **{name: getattr(self, name) * unit for name in names})


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How sums of cohorts speak of their population; build it with `Sampling.of(plan)`.

    Attributes:
      scale_up: population total over decoded mean: N / s.
      noise_variance: of a total, from noise and rounding.
      spread: sampling variance of a total over the sum of squares: (1 - p) / p.
      shared: what a cohort of fixed size takes off the sampling variance, over the total squared.
      level: of intervals.
    """

    scale_up: float
    noise_variance: float
    spread: float
    shared: float = 0.0
    level: float = LEVEL

    @classmethod
    def of(cls, plan: PrivacyPlan, rounds: int = 1) -> Sampling:
        """What the mean of so many rounds of a plan says.

        Raises:
          ValueError: if the plan's sums do not estimate totals with a known error.
        """
        check_plan(plan)
        answering = share_answering(plan.dropout_rate, Stage.MASK)
        asked = plan.participation_probability * plan.availability
        present = asked * answering
        sending = plan.population * present
        rounding = 0.0 if plan.whole else 0.25
        integers = sending * (plan.stddev**2 + rounding) + plan.server_stddev**2
        # Coins differ from round to round, and so does the noise.
        drawn = (1 - asked) / (asked * plan.population) if plan.participation != "poisson" else 0.0
        return cls(
            scale_up=plan.population / answering,
            noise_variance=integers / (plan.scale * present) ** 2 / rounds,
            spread=(1 - present) / present / rounds,
            shared=drawn / rounds,
        )

    @property
    def deviations(self) -> float:
        """Standard deviations to either end of an interval."""
        return NormalDist().inv_cdf((1 + self.level) / 2)

    def sampling_variance(self, total: float, most: float = 1.0) -> float:
        """Of the estimate of a total to which a phone adds 0 to `most`, at most."""
        return max(0.0, self.spread * most * max(0.0, total) - self.shared * total**2)

    def interval(self, value: float, most: float = 1.0, nodes: float = 1.0) -> tuple[float, float]:
        """Totals that an estimate does not reject.

        Args:
          value: estimate of the total.
          most: that a phone adds.
          nodes: variance of the noise over that of one cell, where cells were combined.
        """
        z2, noise = self.deviations**2, self.noise_variance * nodes
        # (value - T)^2 <= z^2 (noise + spread most T - shared T^2), quadratic in T >= 0
        square = 1 + z2 * self.shared
        middle = value + z2 * self.spread * most / 2
        root = middle**2 - square * (value**2 - z2 * noise)
        alone = math.sqrt(z2 * noise)  # below zero there is no sampling
        high = value + alone if root < 0 else (middle + math.sqrt(root)) / square
        low = value - alone if value <= alone or root < 0 else (middle - math.sqrt(root)) / square
        return low, max(low, high)

    def total(
        self,
        mean: float,
        *,
        of: str,
        segment: tuple[str, ...] = (),
        cell: tuple[str, ...] = (),
        most: float = 1.0,
        unit: float = 1.0,
    ) -> Estimate:
        """Estimates a population total from one coordinate of a decoded mean; unbiased.

        It is not clamped: where nobody holds a count, half of the estimates are negative.

        Args:
          mean: the coordinate.
          of: what is counted, in words.
          segment: labels of the estimate.
          cell: likewise.
          most: that a phone adds to the coordinate.
          unit: what one of the coordinate stands for.
        """
        count = mean * self.scale_up
        low, high = self.interval(count, most)
        return Estimate(
            of=of,
            segment=segment,
            cell=cell,
            value=count * unit,
            low=low * unit,
            high=high * unit,
            level=self.level,
            count=count,
            noise_stddev=math.sqrt(self.noise_variance) * unit,
            sampling_stddev=math.sqrt(self.sampling_variance(count, most)) * unit,
        )

    def expected_error(self, total: float, truncation: str, most: float = 1.0) -> ExpectedError:
        """What an estimate of such a total will be off by."""
        sampling = self.sampling_variance(total, most)
        return ExpectedError(
            total=total,
            noise_stddev=math.sqrt(self.noise_variance),
            sampling_stddev=math.sqrt(sampling),
            half_width=self.deviations * math.sqrt(self.noise_variance + sampling),
            level=self.level,
            truncation=truncation,
        )


def check_plan(plan: PrivacyPlan) -> None:
    """Refuses plans whose sums say nothing certain of a total.

    Raises:
      ValueError: naming the field.
    """
    if plan.mechanism == "matrix_factorization":
        raise ValueError(
            "mechanism must not be matrix_factorization for a query of counts: its noise is made "
            "for sums over rounds. Use distributed, skellam or central"
        )
    if plan.adaptive_clipping is not None:
        raise ValueError(
            "adaptive_clipping must be left out for a query of counts: the bound of a phone is "
            "part of the query"
        )
    if plan.groups > 1:
        raise ValueError(
            f"groups must be 1 for a query of counts, got {plan.groups}: a median of sums is no "
            "estimate of a total"
        )
    if plan.cohort_cap is not None:
        raise ValueError(
            f"cohort_cap must be left out for a query of counts, got {plan.cohort_cap}: totals are "
            "estimated from the probability that a phone takes part, which a cap lowers"
        )

"""Exact noise: integers drawn from a table of 256-bit thresholds with a cryptographic keystream.

| law | used by | why |
|---|---|---|
| `DiscreteGaussian` | phones, "distributed", "local" | its divergences are a Gaussian's |
| `Skellam` | phones, "skellam" | sums of shares are Skellam again, exactly |
| `RoundedGaussian` | the server, "central" | integers plus it are a rounded Gaussian mechanism |
| `rounded_gaussian` | the server, "matrix_factorization" | the same about any center |

A cumulative table costs one search per sample and, unlike rejection, always reads the keystream at
the same pace. Its distance from the ideal (`total_variation`) adds up over d coordinates, n phones
and T rounds, and counts e^epsilon times in delta: 64 bits are too coarse for any plan, 128 bits end
the epsilons that can be stated at 40 to 55, 256 bits at 130 to 145. A draw does not pay for them:
it reads the bits below the first 64 only where those tie.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.seeds import Keystream

PRECISION_BITS = 256
"""Of a threshold. What is less likely than 2^-256 is left out of a table."""
FRACTION_BITS = PRECISION_BITS + 64
"""Of a weight before it becomes a threshold: errors that grow with a table stay below its grain."""
_LOW_BITS = PRECISION_BITS - 64
# A table of 256 KiB: larger ones push a phone's vectors out of the cache that both share.
_GUIDE_BITS = 16
_UNSURE = np.iinfo(np.int32).min


class CumulativeTable:
    """Draws integers with given weights; each probability is exact to 2^-256."""

    def __init__(self, first: int, weights: Sequence[int]) -> None:
        """Builds the table from the weights of `first`, `first` + 1, ..., any whole numbers.

        Raises:
          ValueError: if no weight is positive.
        """
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise ValueError("weights must be non-negative with a positive sum")
        self.first = first
        self.size = len(weights)
        thresholds, cumulative = [], 0
        for weight in weights[:-1]:
            cumulative += weight
            thresholds.append((cumulative << PRECISION_BITS) // total)
        # A threshold of 1 (only zero weights follow) can never be passed.
        thresholds = [threshold for threshold in thresholds if threshold < 1 << PRECISION_BITS]
        self._high = np.array([each >> _LOW_BITS for each in thresholds], dtype=np.uint64)
        self._low = [each % (1 << _LOW_BITS) for each in thresholds]
        self._guide = self._make_guide()

    def _make_guide(self) -> NDArray[np.int32]:
        """For the leading bits of a word, the sample, or `_UNSURE` where other bits decide.

        Chen and Asau 1974 (the guide table method): most samples need one look instead of a search.
        """
        edges = np.arange(1 << _GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - _GUIDE_BITS)
        below = np.searchsorted(self._high, edges, side="left")
        above = np.append(below[1:], len(self._high))
        return np.where(below == above, below + self.first, _UNSURE).astype(np.int32)

    def draw(self, keystream: Keystream, num_values: int) -> NDArray[np.int64]:
        """Returns independent samples, shape (num_values,), int64.

        A sample is the number of thresholds that a uniform 256-bit number reaches. The bits below
        its first 64 decide only where those tie, so they are read only then (once in 2^50 samples).
        """
        return self.draw_each([keystream], num_values).reshape(-1)

    def draw_each(self, keystreams: Sequence[Keystream], num_values: int) -> NDArray[np.int64]:
        """Returns samples from each of several keystreams, shape (keystreams, num_values)."""
        words = np.empty((len(keystreams), num_values), dtype=np.uint64)
        for row, keystream in zip(words, keystreams, strict=True):
            row[:] = keystream.uint64(num_values)
        guided = self._guide.take((words >> np.uint64(64 - _GUIDE_BITS)).view(np.int64))
        samples = guided.astype(np.int64)
        unsure = np.flatnonzero(guided == _UNSURE)
        if unsure.size:
            searched = words.reshape(-1)[unsure]
            reached = np.searchsorted(self._high, searched, side="left")
            for tie in np.flatnonzero(self._high.take(reached, mode="clip") == searched):
                holder = keystreams[int(unsure[tie]) // num_values]
                rest = holder.uint64(_LOW_BITS // 64)
                low = int.from_bytes(rest.astype(">u8").tobytes(), "big")
                place, word = int(reached[tie]), searched[tie]
                while (
                    place < self._high.size
                    and self._high[place] == word
                    and self._low[place] <= low
                ):
                    place += 1
                reached[tie] = place
            samples.reshape(-1)[unsure] = reached + self.first
        return samples


class IntegerDistribution:
    """A law on the integers that is symmetric about zero, drawn from a table.

    Attributes:
      stddev: the parameter, in integer units.
      total_variation: bound on the distance of one sample from the ideal law.
    """

    def __init__(self, stddev: float) -> None:
        """Builds the table; takes about a second at stddev 20,000.

        Raises:
          ValueError: if stddev is not positive and finite.
        """
        fits = math.isfinite(stddev) and stddev > 0
        require(fits, "stddev must be positive and finite", stddev=stddev)
        self.stddev = stddev
        half = self._half_weights(stddev)
        self._table = CumulativeTable(1 - len(half), half[:0:-1] + half)
        self.total_variation = self.total_variation_bound(stddev)

    @classmethod
    @functools.lru_cache(maxsize=16)
    def of(cls, stddev: float) -> IntegerDistribution:
        """Returns the sampler of this stddev, whose table all phones of a run share."""
        return cls(stddev)

    def draw(self, keystream: Keystream, num_values: int) -> NDArray[np.int64]:
        """Returns independent samples, shape (num_values,), int64."""
        return self._table.draw(keystream, num_values)

    def draw_each(self, keystreams: Sequence[Keystream], num_values: int) -> NDArray[np.int64]:
        """Returns samples from each of several keystreams, shape (keystreams, num_values)."""
        return self._table.draw_each(keystreams, num_values)

    @classmethod
    def total_variation_bound(cls, stddev: float) -> float:
        """Bounds the distance of one sample from the ideal law, without building its table.

        The table ends where a weight falls under 2^-256 of the peak, at most `_reach` from zero;
        each threshold is off by at most 2^-256, and so is the probability beyond either end.
        """
        return math.ldexp(2 * math.ceil(cls._reach(stddev)) + 4, 1 - PRECISION_BITS)

    @staticmethod
    def _half_weights(stddev: float) -> list[int]:
        """Weights of 0, 1, 2, ... in fixed point, down to 2^-256 of the first."""
        raise NotImplementedError

    @staticmethod
    def _reach(stddev: float) -> float:
        """Where the table has ended."""
        return math.sqrt(2 * math.log(2) * PRECISION_BITS) * stddev + 2


class DiscreteGaussian(IntegerDistribution):
    """The discrete Gaussian N_Z(0, stddev^2): P[k] proportional to exp(-k^2 / (2 stddev^2)).

    Canonne, Kamath, Steinke 2020 (arXiv:2004.00010), Definition 1. Its variance is at most
    stddev^2, and below it by less than 1e-13 relatively from stddev 2 on.
    """

    @staticmethod
    def _half_weights(stddev: float) -> list[int]:
        """W_(k+1) = w_k exp(-(2k+1) / (2 stddev^2))."""
        # A float has 53 bits of the 320 that the recurrence starts from.
        with decimal.localcontext() as context:
            context.prec = math.ceil(FRACTION_BITS * math.log10(2)) + 14
            variance = decimal.Decimal(stddev) ** 2
            ratio = int((-1 / (2 * variance)).exp() * 2**FRACTION_BITS)
            factor = int((-1 / variance).exp() * 2**FRACTION_BITS)
        weights = [1 << FRACTION_BITS]
        while weights[-1] >> (FRACTION_BITS - PRECISION_BITS):
            weights.append(weights[-1] * ratio >> FRACTION_BITS)
            ratio = ratio * factor >> FRACTION_BITS
        return weights


class RoundedGaussian(IntegerDistribution):
    """A Gaussian N(0, stddev^2) rounded to the nearest integer.

    Integers plus this are integers plus a Gaussian, then rounded: what holds of the continuous
    mechanism holds of this one, since rounding comes after.
    """

    @staticmethod
    def _half_weights(stddev: float) -> list[int]:
        """P[k]: density at k times the integral over +-1/2 of exp(-(2kt + t^2) / (2 stddev^2)) dt.

        The integrand is a power series in t whose coefficients obey
        (n+1) c_(n+1) = -(k c_n + c_(n-1)) / stddev^2; odd ones integrate to nothing.
        """
        one = 1 << FRACTION_BITS
        numerator, denominator = (Fraction(stddev) ** 2).as_integer_ratio()
        weights = []
        for k, density in enumerate(DiscreteGaussian._half_weights(stddev)):
            before, current, integral, n = 0, one, 0, 0
            # Below 2^-280 of the first term nothing reaches a threshold's grain of 2^-256. Two
            # terms, because at k = 0 every other one is zero.
            while abs(before) + abs(current) > 1 << 40:
                if n % 2 == 0:
                    integral += (current >> n) // (n + 1)
                step = -(k * current + before) * denominator // (numerator * (n + 1))
                before, current, n = current, step, n + 1
            weights.append(density * integral >> FRACTION_BITS)
        return weights


class Skellam(IntegerDistribution):
    """The difference of two Poisson variables of rate stddev^2 / 2: P[k] ~ I_k(stddev^2).

    Agarwal, Kairouz, Liu 2021 (arXiv:2110.04995), Definition 2.1. A sum of Skellam variables is
    Skellam, whatever the number of shares that came.
    """

    @staticmethod
    def _half_weights(stddev: float) -> list[int]:
        """I_(k-1) = I_(k+1) + (2k / variance) I_k, from far outside inwards (Miller 1952)."""
        numerator, denominator = (Fraction(stddev) ** 2).as_integer_ratio()
        # Inwards I_k is the growing solution and errors fade; outwards they would grow like the
        # other one, K_k, and swamp it.
        above, current = 0, 1 << 160
        weights = [current]
        for k in range(math.ceil(_skellam_distance(stddev, FRACTION_BITS)) + 8, 0, -1):
            above, current = current, above + 2 * k * denominator * current // numerator
            weights.append(current)
        weights.reverse()
        least = weights[0] >> PRECISION_BITS
        return [weight for weight in weights if weight > least]

    @staticmethod
    def _reach(stddev: float) -> float:
        """Heavier in its tails than a Gaussian."""
        return _skellam_distance(stddev, PRECISION_BITS + 2) + 2


def _skellam_distance(stddev: float, bits: float) -> float:
    """Where ln I_k falls `bits` ln 2 below ln I_0, to leading order (DLMF 10.41.1)."""
    variance = stddev**2

    def fallen(k: float) -> float:
        return k * math.asinh(k / variance) - k * k / (math.hypot(k, variance) + variance)

    high = 1.0
    while fallen(high) < bits * math.log(2):
        high *= 1.05
    return high


# A probability of 2^-28 and more has 36 bits and more within the first word, so the quantile of a
# normal, read in double precision, is off by less than 2^-34 from that of all bits: the slope of
# x against ln p is at most sqrt(pi / 2), and scipy's own error is 1e-15 (Cephes), far below.
_FEW_BITS = 1 << 36
_QUANTILE_ERROR = 2.0**-34
_DIGITS = math.ceil((PRECISION_BITS + 64) * math.log10(2)) + 14


def rounded_gaussian(
    keystream: Keystream, stddev: float, centers: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Draws Gaussians about centers, each rounded to the nearest integer; exact to 2^-256.

    A uniform number of 256 bits goes through the quantile function of the Gaussian. Its first 64
    bits and double precision decide but for a sample in a hundred thousand, where an integer's edge
    is near; then the other bits are read and tails are computed in decimals.

    Args:
      keystream: secret, of this draw.
      stddev: positive.
      centers: shape (n,), in (-1, 1).

    Returns:
      Shape (n,), int64.
    """
    from scipy.special import ndtri  # here because phones need none of it

    words = keystream.uint64(len(centers))
    # The first bit is the sign, the others begin the probability of the tail beyond the sample.
    sign = 1.0 - 2.0 * (words >> np.uint64(63)).astype(np.float64)
    tail = words & np.uint64((1 << 63) - 1)
    with np.errstate(divide="ignore"):
        size = -ndtri((tail.astype(np.float64) + 0.5) * 2.0**-64)
    values = centers + sign * stddev * size + 0.5
    samples = np.floor(values)
    edge = np.abs(values - np.rint(values))
    unsure = (edge <= stddev * _QUANTILE_ERROR + 2.0**-30) | (tail < _FEW_BITS)
    for place in np.flatnonzero(unsure):
        rest = keystream.uint64(_LOW_BITS // 64)
        low = int.from_bytes(rest.astype(">u8").tobytes(), "big")
        probability = (int(tail[place]) << _LOW_BITS) + low
        center, side = Fraction(float(centers[place])), int(sign[place])
        distance = -float(ndtri(math.ldexp(max(1, probability), -PRECISION_BITS)))
        near = math.floor(float(center) + side * stddev * distance + 0.5)
        samples[place] = _resolved(probability, side, Fraction(stddev), center, near)
    drawn: NDArray[np.int64] = samples.astype(np.int64)
    return drawn


def _resolved(tail: int, side: int, stddev: Fraction, center: Fraction, near: int) -> int:
    """The integer that all bits give.

    Args:
      tail: 2^256 times the probability beyond the sample on its side, below 2^255.
      side: 1 above the center, -1 below.
      stddev: of the Gaussian.
      center: of the Gaussian.
      near: where the search begins.
    """

    def beyond(edge: int) -> bool:  # whether the sample lies above edge - 1/2
        distance = side * (edge - Fraction(1, 2) - center) / stddev
        inside = tail < _upper_tail(distance)
        return inside if side > 0 else not inside

    while not beyond(near):
        near -= 1
    while beyond(near + 1):
        near += 1
    return near


def _upper_tail(distance: Fraction) -> int:
    """2^256 times the probability that a standard normal exceeds `distance`, rounded down.

    1/2 - phi(x) (x + x^3/3 + x^5/15 + ...) for x >= 0: positive terms, so that no digit is lost in
    the sum (Abramowitz and Stegun 1964, 26.2.11). The difference is exact to 2^-256 of one.
    """
    if distance < 0:
        return (1 << PRECISION_BITS) - _upper_tail(-distance)
    if distance > 40:  # below 2^-1150
        return 0
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        x = decimal.Decimal(distance.numerator) / decimal.Decimal(distance.denominator)
        term = total = x
        n = 1
        while term > total.scaleb(-_DIGITS):
            n += 2
            term = term * x * x / n
            total += term
        density = (-x * x / 2).exp() / (2 * _PI).sqrt()
        return int((decimal.Decimal("0.5") - density * total) * 2**PRECISION_BITS)


_PI = decimal.Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534"
    "21170679821480865132823"
)

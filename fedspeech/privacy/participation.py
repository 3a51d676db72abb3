"""Who takes part: every phone's own coin, tossed for all of a population in one go.

The number of heads is binomial and, given it, every set of that size is equally likely; so a
simulation draws the number and then the set, in time that grows with the cohort and not with the
population. Both come from a secret keystream: amplification counts on nobody else knowing who
takes part.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy.mechanisms import CumulativeTable
from fedspeech.seeds import Keystream, NoiseEntropy

_FRACTION_BITS = 320


@dataclass(frozen=True, kw_only=True)
class PoissonParticipation:
    """Each phone enters each round with the same probability, whatever else happened.

    Attributes:
      population: eligible phones, indexed from 0.
      probability: of a phone's coin, in (0, 1].
      quota: rounds that a phone takes part in at most.

    Raises:
      ValueError: if a number is out of range.
    """

    population: int
    probability: float
    quota: int

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.population < 1 or self.quota < 1 or not 0 < self.probability <= 1:
            raise ValueError(
                "expected population >= 1, quota >= 1 and probability in (0, 1], got "
                f"{self.population}, {self.quota}, {self.probability}"
            )

    def cohort(self, round: int, entropy: NoiseEntropy) -> NDArray[np.int64]:  # noqa: A002
        """Returns the phones whose coins fell on heads, sorted, shape (cohort,).

        A round has one draw. One that is abandoned for want of phones is not drawn again: drawing
        until enough come would force presence. The next round has coins of its own.

        Args:
          round: number of the round.
          entropy: of the run.
        """
        keystream = entropy.keystream("cohort", round)
        count = int(_binomial(self.population, self.probability).draw(keystream, 1)[0])
        if 2 * count <= self.population:
            return np.sort(_distinct(keystream, count, self.population))
        absent = _distinct(keystream, self.population - count, self.population)
        return np.setdiff1d(np.arange(self.population), absent)

    def admits(self, inputs_sent: int) -> bool:
        """Whether a phone that has sent so many protected inputs may send one more.

        The phone asks, of its own count; an input counts whatever became of its round.
        """
        return inputs_sent < self.quota


@functools.lru_cache(maxsize=8)
def _binomial(trials: int, probability: float) -> CumulativeTable:
    """The number of heads, exact to 2^-128: P[k+1] / P[k] = (n-k) p / ((k+1) (1-p))."""
    numerator, denominator = probability.as_integer_ratio()
    against = denominator - numerator
    if against == 0:
        return CumulativeTable(trials, [1])
    mode = min(trials, (trials + 1) * numerator // denominator)
    smallest = 1 << (_FRACTION_BITS - 140)
    above = [1 << _FRACTION_BITS]
    for k in range(mode, trials):
        above.append(above[-1] * (trials - k) * numerator // ((k + 1) * against))
        if above[-1] < smallest:
            break
    below = [1 << _FRACTION_BITS]
    for k in range(mode, 0, -1):
        below.append(below[-1] * k * against // ((trials - k + 1) * numerator))
        if below[-1] < smallest:
            break
    return CumulativeTable(mode - len(below) + 1, below[:0:-1] + above)


def _distinct(keystream: Keystream, count: int, below: int) -> NDArray[np.int64]:
    """Draws `count` different integers in [0, below): the first that come, repeats left out."""
    mask = np.uint64((1 << (below - 1).bit_length()) - 1)
    drawn = np.empty(0, dtype=np.int64)
    while drawn.size < count:
        words = keystream.uint64(2 * (count - drawn.size) + 8) & mask
        fresh = words[words < below].astype(np.int64)
        pool = np.concatenate([drawn, fresh])
        _, first = np.unique(pool, return_index=True)
        drawn = pool[np.sort(first)]
    return drawn[:count]

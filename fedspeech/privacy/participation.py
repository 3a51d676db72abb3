"""Who takes part: each phone's own coin, a random cohort of fixed size, or turns.

Of coins, the number of heads is binomial and, given it, every set of that size is equally likely;
so a simulation draws the number and then the set, in time that grows with the cohort and not with
the population. Draws come from a secret keystream of one round: amplification counts on no reader
knowing who takes part. Turns are public and count on nothing. Phones are indexed from 0.

A round has one draw. One that is abandoned for want of phones is not drawn again: drawing until
enough come would force presence.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.privacy.mechanisms import FRACTION_BITS, PRECISION_BITS, CumulativeTable
from fedspeech.seeds import Keystream, canonical


@dataclass(frozen=True, kw_only=True)
class PoissonParticipation:
    """Each phone enters each round with the same probability, whatever else happened.

    Attributes:
      probability: of a phone's coin, in (0, 1].
      cap: of more phones than these, so many are drawn; None: all come.

    Raises:
      ValueError: if a number is out of range.
    """

    population: int
    probability: float
    cap: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        require(
            self.population >= 1 and 0 < self.probability <= 1,
            "expected population >= 1 and probability in (0, 1]",
            population=self.population,
            probability=self.probability,
        )

    @property
    def total_variation(self) -> float:
        """Bounds the distance of a cohort from independent coins: its size comes from a table."""
        return math.ldexp(self.population + 3, 1 - PRECISION_BITS)

    def cohort(self, keystream: Keystream) -> NDArray[np.int64]:
        """Returns the phones whose coins fell on heads, sorted, shape (cohort,)."""
        count = int(_binomial(self.population, self.probability).draw(keystream, 1)[0])
        count = min(count, self.cap or count)  # a random part of a random set is a random set
        return _subset(keystream, count, self.population)


def fixed_size_cohort(keystream: Keystream, *, population: int, size: int) -> NDArray[np.int64]:
    """Returns a uniformly random set of phones, sorted, shape (size,)."""
    return _subset(keystream, size, population)


def turns(round_number: int, *, population: int, size: int) -> NDArray[np.int64]:
    """Returns the phones whose turn it is in one public order, sorted, shape (size,)."""
    places = (round_number * size + np.arange(size)) % population
    return np.sort(_order(population)[places])


def dealt(candidates: NDArray[np.int64], groups: int, seed: bytes) -> NDArray[np.int64]:
    """Deals phones to groups of equal size, to within one phone, like cards of a shuffled pack.

    Whoever may come is dealt, and not who came: else one phone more would move others from group to
    group, and every sum of the round would change with it, not one.

    Args:
      candidates: phones that may come, whatever their coins.
      groups: to be made.
      seed: of the round, 32 bytes; public, since each phone checks where it stands.

    Returns:
      The group of each candidate, shape (candidates,).
    """
    order = np.argsort(Keystream(seed).uint64(len(candidates)), kind="stable")
    group = np.empty(len(candidates), dtype=np.int64)
    group[order] = np.arange(len(candidates)) % groups
    return group


@functools.lru_cache(maxsize=2)
def _order(population: int) -> NDArray[np.int64]:
    """A public order of all phones, the same everywhere."""
    key = hashlib.sha256(canonical("fedspeech turns", population)).digest()
    return np.argsort(Keystream(key).uint64(population), kind="stable")


def _subset(keystream: Keystream, count: int, population: int) -> NDArray[np.int64]:
    """A uniformly random subset of so many, sorted."""
    if 2 * count <= population:
        return np.sort(_distinct(keystream, count, population))
    # Beyond half of the population many draws would repeat, so those who stay away are drawn.
    absent = _distinct(keystream, population - count, population)
    return np.setdiff1d(np.arange(population), absent)


@functools.lru_cache(maxsize=8)
def _binomial(trials: int, probability: float) -> CumulativeTable:
    """The number of heads, exact to 2^-256: P[k+1] / P[k] = (n-k) p / ((k+1) (1-p))."""
    numerator, denominator = probability.as_integer_ratio()
    against = denominator - numerator
    if against == 0:
        return CumulativeTable(trials, [1])
    mode = min(trials, (trials + 1) * numerator // denominator)
    smallest = 1 << (FRACTION_BITS - PRECISION_BITS - 12)
    above = [1 << FRACTION_BITS]
    for k in range(mode, trials):
        above.append(above[-1] * (trials - k) * numerator // ((k + 1) * against))
        if above[-1] < smallest:
            break
    below = [1 << FRACTION_BITS]
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
        # Words out of range are rejected, since a remainder would favor small numbers.
        fresh = words[words < below].astype(np.int64)
        pool = np.concatenate([drawn, fresh])
        _, first = np.unique(pool, return_index=True)
        # In the order of their coming: `unique` sorts, and the first of sorted ones are the
        # smallest.
        drawn = pool[np.sort(first)]
    return drawn[:count]

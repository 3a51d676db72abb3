"""Noise that later rounds partly take back: the strategy matrix C, its sensitivity, its error.

A run of T rounds releases prefixes of the sums x_0, x_1, ...: with momentum beta a model is
A x + (noise), A the lower-triangular Toeplitz matrix of 1, 1 + beta, 1 + beta + beta^2, ... The
matrix mechanism factors A = B C and releases B (C x + z) = A (x + C^-1 z) with independent Gaussian
z: each round's sum gets a row of C^-1 z, whose rows cancel much of one another in the prefixes
(Kairouz et al. 2021, arXiv:2103.00039; Denisov et al. 2022, arXiv:2202.08312). Phones train on
models that were released before: with C lower-triangular and z Gaussian, x_t may depend on them
(Denisov et al., Theorem 2.1).

C is the square root of A cut to its first bands (Kalinin and Lampert 2024, arXiv:2405.13763): a
closed form, so nothing is optimized. For sums that weigh alike (momentum 0) its coefficients are
1, 1/2, 3/8, 5/16, ... They are rounded to multiples of 2^-20, and everything that is claimed is
computed from the rounded ones.

**Sensitivity.** A phone joins at most k rounds, any two of them at least b apart, with a vector of
norm 1 each. C has no negative entry, so the worst vectors are equal (Choquette-Choo et al. 2023,
arXiv:2211.06530, Corollary 2.1), and for coefficients that do not rise the worst rounds are
0, b, 2b, ... (Kalinin and Lampert 2024, Theorem 2): the sensitivity is the norm of the sum of
these columns, exactly, whether or not columns overlap. Up to b bands they do not, and it is the
root of the summed squares. Tests try all patterns.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import is_integer, require
from fedspeech.limits import Count, Decay, check_limits

GRID_BITS = 20
GRID = 1 << GRID_BITS
"""A coefficient of 1."""
MAX_BANDS = 4096  # rows of noise that the server keeps, less one


@dataclass(frozen=True, kw_only=True)
class Factorization:
    """How the noise of rounds is correlated: the setting of `mechanism="matrix_factorization"`.

        >>> import fedspeech as fs
        >>> fs.Factorization(min_separation=4, bands=4).gain(40) > 1
        True

    In an experiment: `plan={"mechanism": "matrix_factorization", "matrix_factorization":
    fs.Factorization(min_separation=4, bands=4)}`.

    Attributes:
      min_separation: rounds from one participation of a phone to its next, at least; 1: it may join
        every round.
      bands: coefficients of C; 1: independent noise.
      momentum: of the server's step, which weighs sums of earlier rounds; a choice for accuracy
        that promises nothing.

    Raises:
      ValueError: if a number is out of range.
    """

    min_separation: Count
    bands: Count
    momentum: Decay = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)
        for name in ("min_separation", "bands"):
            value = getattr(self, name)
            require(is_integer(value), f"{name} must be a whole number", **{name: value})
        require(self.bands <= MAX_BANDS, f"bands must be at most {MAX_BANDS}", bands=self.bands)

    @property
    def coefficients(self) -> tuple[int, ...]:
        """First column of C, in units of 1 / `GRID`."""
        return _coefficients(self.bands, self.momentum)

    def gain(self, rounds: int) -> float:
        """Stddev of the last round's noise over that of what it draws afresh; no round has more.

        Of the first `MOST_ROUNDS` rounds: what is added later is small, and touches accuracy alone.
        """
        weights = inverse(self.coefficients, min(rounds, MOST_ROUNDS))
        return math.sqrt(float(np.add.reduce(weights * weights)))


MOST_ROUNDS = 1 << 13  # whose errors are computed


@functools.lru_cache(maxsize=16)
def _coefficients(bands: int, momentum: float) -> tuple[int, ...]:
    """Of (1 - x)^(-1/2) (1 - momentum x)^(-1/2), whose square generates A.

    By (n+1) c_(n+1) = (1 + momentum) (n + 1/2) c_n - momentum n c_(n-1): the derivative of the
    generating function. One product after another, so that every machine has the same bits.
    """
    before, current, found = 0.0, 1.0, [GRID]
    for n in range(bands - 1):
        step = (1 + momentum) * (n + 0.5) * current - momentum * n * before
        before, current = current, step / (n + 1)
        # Rounding keeps the order; a coefficient never falls to 0 within `MAX_BANDS`.
        found.append(round(current * GRID))
    return tuple(found)


def check_strategy(coefficients: Sequence[int]) -> None:
    """Checks what the sensitivity counts on.

    Raises:
      ValueError: if coefficients do not begin with `GRID`, are no whole numbers, rise, or fall
        below 0.
    """
    falls = all(before >= after for before, after in itertools.pairwise(coefficients))
    whole = all(is_integer(each) for each in coefficients)
    fits = len(coefficients) > 0 and whole and falls and coefficients[-1] >= 0
    require(
        fits and coefficients[0] == GRID,
        f"coefficients must be whole numbers that begin with {GRID} and never rise or fall below 0",
        coefficients=tuple(coefficients[:8]),
    )


def most_participations(rounds: int, min_separation: int, max_participations: int) -> int:
    """Rounds among the first `rounds` that a phone joins at most."""
    return min(max_participations, math.ceil(rounds / min_separation))


@functools.lru_cache(maxsize=256)
def sensitivity(
    coefficients: tuple[int, ...], rounds: int, min_separation: int, max_participations: int
) -> float:
    """L2 sensitivity of the first `rounds` rows of C x to all of one phone's vectors of norm 1.

    Exact in whole numbers, then rounded up: sums of columns 0, b, 2b, ... (see the module).

    Raises:
      ValueError: if the coefficients are not of the kind that this holds for.
    """
    check_strategy(coefficients)
    joined = most_participations(rounds, min_separation, max_participations)
    column = np.array(coefficients[:rounds], dtype=object)
    if len(column) <= min_separation:  # columns do not overlap, and only the last may be cut
        squares = np.cumsum(column**2)
        last = min(len(column), rounds - (joined - 1) * min_separation)
        total = (joined - 1) * int(squares[-1]) + int(squares[last - 1])
    else:
        summed = np.zeros(rounds, dtype=object)
        for start in range(0, joined * min_separation, min_separation):
            stop = min(rounds, start + len(column))
            summed[start:stop] += column[: stop - start]
        total = int((summed**2).sum())
    root = math.isqrt(total << 64)
    found = root / (GRID << 32)
    return found if root * root == total << 64 else math.nextafter(found, math.inf)


def inverse(coefficients: Sequence[int], rounds: int) -> NDArray[np.float64]:
    """First column of C^-1, shape (rounds,): the weights of fresh noise in the noise of rounds."""
    own = np.array(coefficients, dtype=np.float64) / GRID
    found = np.zeros(rounds)
    found[0] = 1.0
    for t in range(1, rounds):
        known = found[max(0, t - len(own) + 1) : t]
        found[t] = -float(np.add.reduce(own[len(known) : 0 : -1] * known))
    return found


def prefix_error(coefficients: Sequence[int], rounds: int, momentum: float) -> float:
    """Root mean square, over rounds, of the noise in a model, over the stddev of fresh noise.

    The model is x_0 + the sum of steps of SGD with this momentum and a learning rate of 1: the
    norm of A C^-1 over the root of `rounds` (Denisov et al. 2022, Equation 3).
    """
    weights = inverse(coefficients, rounds)
    steps = np.zeros(rounds)
    step = 0.0
    for t in range(rounds):
        step = momentum * step + weights[t]
        steps[t] = step
    # A C^-1 is Toeplitz: row t holds its first t + 1 coefficients.
    of_rounds = np.cumsum(np.cumsum(steps) ** 2)
    return math.sqrt(float(of_rounds.mean()))


def advantage(
    coefficients: tuple[int, ...],
    rounds: int,
    momentum: float,
    min_separation: int,
    max_participations: int,
) -> float:
    """Error of independent noise over that of this strategy, both at the same epsilon."""
    errors = [
        prefix_error(strategy, rounds, momentum)
        * sensitivity(strategy, rounds, min_separation, max_participations)
        for strategy in ((GRID,), coefficients)
    ]
    return errors[0] / errors[1]

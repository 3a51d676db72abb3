"""How alike the clips of one phone are: what a phone adds beside two counts, and what follows.

By how much clips of a phone are alike nobody knows, and the error that comes from phones which did
not answer depends on it: clips of phones that are each of one mind err by `most` times the variance
of as many clips drawn one by one. So a phone that may add several clips adds three numbers more,
from which that factor follows (the design effect: Kish 1965). With a right ones and b wrong ones of
m at most, y = a + b, they are 2.5 a b / m, 3 a (m - y) / m and 3 b (m - y) / m, rounded at random.

They cost no noise: a vector (a, b) is m long only where a phone has m clips and is of one mind. Of
the others, a^2 + b^2 + (2.5 a b / m)^2 <= y^2, since a b <= m^2 / 4, and the last two have together
at most 3 y (m - y) / m, whose square is at most m^2 - y^2. Where rounding would exceed m, it goes
down.
"""

from __future__ import annotations

import math

import numpy as np

from fedspeech.queries.estimate import Sampling
from fedspeech.vectors import Vector

_MIXED, _UNUSED = 2.5, 3.0  # how large the numbers beside two counts are
_CERTAIN = 5.0  # deviations of noise from which the factor is believed


def of_phone(right: float, wrong: float, most: int, rng: np.random.Generator) -> tuple[float, ...]:
    """What a phone adds beside its two counts: three whole numbers.

    Args:
      right: clips in the numerator.
      wrong: the others.
      most: clips that a phone adds.
      rng: of the phone, for rounding.
    """
    unused = _UNUSED * (most - right - wrong) / most
    exact = np.array([_MIXED * right * wrong / most, unused * right, unused * wrong])
    down = np.floor(exact)
    found = down + (rng.random(3) < exact - down)
    if right**2 + wrong**2 + found @ found > most**2:
        found = down
    return tuple(found.tolist())


def design_effect(totals: Vector, most: float, sampling: Sampling) -> float:
    """Sampling variance of a share over that of as many clips drawn one by one.

    With x of the y clips of a phone in the numerator, and r the share, it is the sum of
    (x - r y)^2 over r (1 - r) times that of y. Where noise says little of it, the most that is
    possible.

    Args:
      totals: estimates of the population's two counts and of the three numbers, shape (5,).
      most: clips that a phone adds.
      sampling: of the release.
    """
    right, wrong, mixed, *unused = totals.tolist()
    clips = right + wrong
    share = right / clips if clips > 0 else 0.0
    alone = share * (1 - share) * clips
    if alone <= _CERTAIN * most * math.sqrt(sampling.noise_variance) / _MIXED:
        return most
    # Sums of x y and of (y - x) y; x^2 is x y less x (y - x).
    of_right, of_wrong = (
        most * own - part * most / _UNUSED for own, part in zip((right, wrong), unused, strict=True)
    )
    found = (1 - share) ** 2 * of_right + share**2 * of_wrong - mixed * most / _MIXED
    return float(min(max(1.0, found / alone), most))

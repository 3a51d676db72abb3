"""Contributions that are whole numbers: times a whole scale they are integers, and stay exact.

Counts need neither the rotation nor the rounding of `privacy.encoding`. Rotating spreads a real
vector over all coordinates, so that a narrow ring holds its sum; rounding at random puts it on the
grid, lengthens it, and has to refuse what became too long, which shortens vectors at the clip norm
on average. A count is on the grid already: the sum is that of the counts, without an error of its
own, and the norm that the noise hides is the clip norm itself.

The price is a wider ring: one cell may hold the counts of all phones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Squares of bounds such as sqrt(5) are whole up to some 1e-16 of themselves.
_TOLERANCE = 1e-9


def squared_bound(clip_norm: float) -> int:
    """Largest squared L2 norm of whole numbers within a clip norm, exact."""
    return math.floor(clip_norm**2 * (1 + _TOLERANCE))


def largest_scale(room: float, clip_norm: float, phones: int, noise: float) -> int:
    """Largest scale at which no count wraps, and noise hardly ever does; 0: none.

    Args:
      room: largest integer of the ring.
      clip_norm: of one phone, so the most that it adds to one cell.
      phones: in the sum, at most.
      noise: how far that of a sum is to reach, in clip norms.
    """
    return math.floor(room / (clip_norm * (phones + noise)))


def to_integers(vectors: NDArray[np.floating], scale: int, bound: int) -> NDArray[np.int64]:
    """Scales whole numbers; what is not whole, or longer than the bound, becomes zeros.

    No honest phone sends that, and zeros are within any bound: the bound that privacy stands on is
    kept in exact integers, whatever a query computes.

    Args:
      vectors: one per phone, shape (phones, d).
      scale: integers per count.
      bound: on the squared L2 norm of a vector before it is scaled.

    Returns:
      Shape (phones, d), squared norms at most scale^2 * bound.
    """
    places = np.flatnonzero(vectors != 0)  # few, and NaN is among them
    counts, holder = vectors.reshape(-1)[places], places // vectors.shape[1]
    # No comparison holds of NaN, and numbers this small have squares that fit 64 bits.
    fits = (np.abs(counts) <= math.isqrt(bound)) & (np.rint(counts) == counts)
    whole = np.where(fits, counts, 0).astype(np.int64)
    squares = np.zeros(len(vectors), dtype=np.int64)
    np.add.at(squares, holder, whole * whole)
    refused = squares > bound
    refused[holder[~fits]] = True
    whole[refused[holder]] = 0
    integers = np.zeros(vectors.size, dtype=np.int64)
    integers[places] = whole * scale
    return integers.reshape(vectors.shape)

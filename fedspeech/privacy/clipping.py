"""Bounding what one phone can say: the L2 norm of its delta, before anything else happens to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.limits import Positive, check_limits


@dataclass(frozen=True, kw_only=True)
class L2Clip:
    """Scales a vector down to an L2 norm: the most that one phone can add to a sum.

    | vector | result |
    |---|---|
    | norm at most `clip_norm` | itself |
    | norm above | same direction, norm `clip_norm` |
    | zero | zero |
    | any coordinate NaN or infinite | zero: taking part must not depend on data |

    Raises:
      ValueError: if the bound is not positive and finite.
    """

    clip_norm: Positive

    def __post_init__(self) -> None:
        """Checks the bound."""
        check_limits(self)

    def __call__(self, vector: NDArray[np.floating]) -> NDArray[np.float64]:
        """Clips one vector, shape (d,). Every phone weighs the same, however many examples."""
        # In float64 the squares of all finite float32 coordinates are finite, so a delta that is
        # merely huge is clipped; in float32 its norm would overflow and it would be zeroed.
        wide = vector.astype(np.float64)
        norm = _norm(wide)
        if norm is None:
            return np.zeros_like(wide)
        return wide if norm <= self.clip_norm else wide * (self.clip_norm / norm)

    def within(self, vector: NDArray[np.floating]) -> int:
        """Says 1 if a vector's norm is within the bound, -1 if not, 0 if it has no norm."""
        norm = _norm(vector.astype(np.float64))
        if norm is None:
            return 0
        return 1 if norm <= self.clip_norm else -1


def _norm(vector: NDArray[np.float64]) -> float | None:
    """L2 norm; None if a coordinate is not finite: then the sum of squares is not, either."""
    # Not BLAS: a sum whose order depends on threads would make bits depend on workers.
    squares = float(np.add.reduce(vector * vector))
    return math.sqrt(squares) if math.isfinite(squares) else None

"""Mergeable statistics: accumulate on each shard, merge, divide once at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tally:
    """A sum beside how many values went into it.

    Adding tallies in any grouping gives the same mean, which dividing first would not.

        right = sum((Tally.of(correct) for correct in shards), Tally())
        right.mean

    Attributes:
      total: sum of the values; exact for booleans and integers below 2^53.
      count: how many.
    """

    total: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, values: NDArray[np.number] | NDArray[np.bool_] | Iterable[float]) -> Tally:
        """Accumulates values of any shape.

        Raises:
          ValueError: if one is not finite: one NaN would silently become everybody's mean.
        """
        array = np.asarray(
            values if isinstance(values, np.ndarray) else list(values), dtype=np.float64
        )
        if not np.isfinite(array).all():
            raise ValueError("a tally takes finite values, got NaN or infinity")
        return cls(float(array.sum()), array.size)

    def __add__(self, other: Tally) -> Tally:
        """Merges two tallies."""
        return Tally(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float | None:
        """Total over count; None if nothing was counted."""
        return self.total / self.count if self.count else None

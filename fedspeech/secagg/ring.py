"""Addition of integers mod 2^bits in uint32 lanes: never %, never int64, never a float."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RingVector = NDArray[np.uint32]


def add_into(accumulator: RingVector, vector: RingVector, bits: int) -> None:
    """Adds one vector to an accumulator in place, mod 2^bits.

    uint32 addition is exact mod 2^32, and 2^bits divides 2^32, so a mask finishes the reduction.

    Raises:
      ValueError: if bits is not in 1..32, or a vector is not uint32 of the accumulator's shape.
    """
    if not 1 <= bits <= 32:
        raise ValueError(f"bits must be in 1..32, got bits={bits}")
    if vector.dtype != np.uint32 or accumulator.dtype != np.uint32:
        raise ValueError(f"ring vectors are uint32, got {vector.dtype} and {accumulator.dtype}")
    if vector.shape != accumulator.shape:
        raise ValueError(f"expected a vector of shape {accumulator.shape}, got {vector.shape}")
    np.add(accumulator, vector, out=accumulator)
    np.bitwise_and(accumulator, np.uint32(2**bits - 1), out=accumulator)


def ring_sum(vectors: Iterable[RingVector], bits: int) -> RingVector:
    """Sums vectors of one shape mod 2^bits; order and partial sums do not matter.

    Over contributions of phones it gives the integers of a masked sum and hides none of them from
    whoever calls it: secure aggregation is then simulated ("ideal"), and labeled so.

    Raises:
      ValueError: if there is no vector, or shapes, types or bits do not fit.
    """
    total: RingVector | None = None
    for vector in vectors:
        if total is None:
            total = np.zeros(vector.shape, dtype=np.uint32)
        add_into(total, vector, bits)
    if total is None:
        raise ValueError("a sum needs at least one vector, got none")
    return total

"""Addition of integers mod 2^bits in uint32 lanes: never %, never int64, never a float."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RingVector = NDArray[np.uint32]


def ring_sum(vectors: Iterable[RingVector], bits: int) -> RingVector:
    """Sums vectors of one shape mod 2^bits; order and partial sums do not matter.

    Over contributions of phones it gives the integers of a masked sum and hides none of them from
    whoever calls it: secure aggregation is then simulated ("ideal"), and labeled so.

    Raises:
      ValueError: if there is no vector, or shapes, types or bits do not fit.
    """
    if not 1 <= bits <= 32:
        raise ValueError(f"bits must be in 1..32, got bits={bits}")
    total: RingVector | None = None
    for vector in vectors:
        if vector.dtype != np.uint32:
            raise ValueError(f"ring vectors are uint32, got {vector.dtype}")
        if total is None:
            total = np.zeros(vector.shape, dtype=np.uint32)
        if vector.shape != total.shape:
            raise ValueError(f"expected a vector of shape {total.shape}, got {vector.shape}")
        np.add(total, vector, out=total)
    if total is None:
        raise ValueError("a sum needs at least one vector, got none")
    # uint32 wraps at 2^32, a multiple of 2^bits: dropping the high bits at the end is exact.
    return total & np.uint32(2**bits - 1)

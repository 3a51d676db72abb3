"""From a clipped delta to integers of the ring, and back from their sum to a vector.

Rotate, scale, round at random, reduce mod 2^bits (Kairouz, Liu, Steinke 2021, arXiv:2102.06387,
Algorithm 1). Rounding changes the norm, so the bound that privacy stands on is the one after
rounding, checked here in exact integers. Every float operation is elementwise, so the same phone
gives the same integers in any process of one machine.
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from fedspeech.seeds import Keystream, canonical

# A try fails with probability at most exp(-1/2), all of them with at most exp(-32), about 1e-14.
MAX_ROUNDING_TRIES = 64


def padded(dimension: int) -> int:
    """Returns the smallest power of two that is at least `dimension`."""
    return 1 << (dimension - 1).bit_length()


@functools.lru_cache(maxsize=8)
def rotation_signs(seed: bytes, dimension: int) -> NDArray[np.float64]:
    """Returns the public signs of a round, shape (dimension,), each +1 or -1, read-only."""
    key = hashlib.sha256(canonical("fedspeech rotation", seed)).digest()
    packed = np.frombuffer(Keystream(key).bytes((dimension + 7) // 8), dtype=np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(packed)[:dimension].astype(np.float64)
    signs.setflags(write=False)
    return signs


def hadamard(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiplies by the orthonormal Walsh-Hadamard matrix in d log2 d additions; its own inverse.

    Takes shape (d,), d a power of two, and returns a new array.
    """
    current = vector * (1 / math.sqrt(vector.shape[0]))
    spare, half = np.empty_like(current), current.shape[0] // 2
    for _ in range(half.bit_length()):  # constant geometry (Pease 1968): whole halves are written
        np.add(current[0::2], current[1::2], out=spare[:half])
        np.subtract(current[0::2], current[1::2], out=spare[half:])
        current, spare = spare, current
    return current


def rotate(vector: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """Spreads a vector over all coordinates: pads with zeros, flips public signs, transforms.

    Keeps the L2 norm; flattens peaks, so that sums rarely wrap and rounding costs little. The seed
    is public and the same for all phones of a round; shape (d,) becomes (padded(d),).
    """
    wide = np.zeros(padded(vector.shape[0]))
    signs = rotation_signs(seed, wide.shape[0])
    np.multiply(vector, signs[: len(vector)], out=wide[: len(vector)])
    return hadamard(wide)


def unrotate(rotated: NDArray[np.float64], seed: bytes, dimension: int) -> NDArray[np.float64]:
    """Inverts `rotate` and drops the padding; returns shape (dimension,)."""
    return (hadamard(rotated) * rotation_signs(seed, rotated.shape[0]))[:dimension]


def stochastic_round(values: NDArray[np.float64], keystream: Keystream) -> NDArray[np.int64]:
    """Rounds each coordinate up with probability equal to its fractional part; unbiased.

    Takes values below 2^62 in magnitude; the integers are each less than 1 away, shape (d,).
    """
    floor = np.floor(values)
    # The 53 bits of a uniform number make the probability approximate, which biases the mean by
    # 2^-53 at most; no privacy stands on it, since the norm is checked afterwards.
    up = keystream.uniform(values.shape[0]) < values - floor
    integers = floor.astype(np.int64)
    integers += up
    return integers


def rounded_norm_bound(norm: float, dimension: int) -> int:
    """Returns the largest squared L2 norm that conditional rounding lets through.

    Kairouz, Liu, Steinke 2021, Theorem 1 with beta = exp(-1/2): a vector of L2 norm at most
    `norm`, in integer units, passes one try with probability at least 1 - beta.
    """
    root = math.sqrt(dimension)
    beta_term = math.sqrt(2 * 0.5)  # sqrt(2 ln(1 / beta))
    return math.floor(
        min((norm + root) ** 2, norm**2 + dimension / 4 + beta_term * (norm + root / 2))
    )


def conditional_round(
    values: NDArray[np.float64], norm_bound_squared: int, keystream: Keystream
) -> NDArray[np.int64]:
    """Rounds at random until the norm is within the bound; after 64 tries gives zeros.

    The bound is that of `rounded_norm_bound`, below 2^62, and is kept in exact arithmetic. Zeros
    are within any bound, so the cut-off costs no privacy. The number of tries depends on the data
    and is told to nobody.
    """
    for _ in range(MAX_ROUNDING_TRIES):
        rounded = stochastic_round(values, keystream)
        # Of int64 arrays, whose product is exact: a float could round a norm beyond the bound down
        # to it.
        if int(np.dot(rounded, rounded)) <= norm_bound_squared:
            return rounded
    return np.zeros(values.shape[0], dtype=np.int64)


def to_ring(integers: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
    """Reduces mod 2^bits, shape kept. A bit mask: exact for negatives, where % on floats is not."""
    return integers.astype(np.uint32) & np.uint32(2**bits - 1)  # the low 32 bits, then the mask


def from_ring(elements: NDArray[np.uint32], bits: int) -> NDArray[np.int64]:
    """Returns the representatives in [-2^(bits-1), 2^(bits-1)), shape kept."""
    half = np.int64(2 ** (bits - 1))
    return ((elements.astype(np.int64) + half) & np.int64(2**bits - 1)) - half

"""Shamir's secret sharing over GF(2^31 - 1), for many secrets at once, with nothing but NumPy.

Shamir 1979 (doi:10.1145/359168.359176). A 32-byte secret becomes nine 30-bit limbs, each the value
at 0 of its own polynomial of degree threshold - 1; a share is the value of all nine at one x > 0.

    shares = share(to_limbs(seed), threshold=2, num_shares=3, random=os.urandom)
    places = np.array([[0, 2]])  # the first and the last share of one secret
    from_limbs(reconstruct(places, shares[places])[0])  # seed
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

# A share fits a 32-bit word, and every limb of 30 bits is below the prime.
PRIME = 2**31 - 1
LIMBS = 9
LIMB_BITS = 30
SECRET_BYTES = 32
MAX_SHARES = 1024  # bounds the tables below; phones of large cohorts have some 200 neighbors

_BLOCK = 64
_ROWS = 256  # secrets reconstructed at a time: a few MB
_ROOT = 7  # generates the multiplicative group, whose order is the product of these coprime factors
_ORDERS = (2, 7, 9, 11, 31, 151, 331)

Integers = NDArray[np.int64]


def to_limbs(secret: bytes) -> Integers:
    """Cuts a 32-byte secret into nine 30-bit limbs, least significant first; little-endian."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, got {len(secret)}")
    number = int.from_bytes(secret, "little")
    limbs = [number >> LIMB_BITS * i & (2**LIMB_BITS - 1) for i in range(LIMBS)]
    return np.array(limbs, dtype=np.int64)


def from_limbs(limbs: NDArray[np.integer]) -> bytes:
    """Puts a secret together again; the inverse of `to_limbs`.

    Raises:
      ValueError: if these are not the limbs of any 32 bytes, as after a wrong share. The message
        names the limb and not its value.
    """
    if limbs.shape != (LIMBS,) or not np.issubdtype(limbs.dtype, np.integer):
        raise ValueError(f"limbs are {LIMBS} integers, got {limbs.dtype} of shape {limbs.shape}")
    number = 0
    for i, limb in enumerate(limbs.tolist()):
        bits = min(LIMB_BITS, 8 * SECRET_BYTES - LIMB_BITS * i)
        if not 0 <= limb < 2**bits:
            raise ValueError(f"limb {i} must be in 0..2^{bits}-1, got one outside")
        number |= limb << LIMB_BITS * i
    return number.to_bytes(SECRET_BYTES, "little")


def share(
    values: Integers, threshold: int, num_shares: int, random: Callable[[int], bytes]
) -> NDArray[np.uint32]:
    """Shares w values at once, each by a uniform polynomial of its own.

    Args:
      values: integers in 0..PRIME-1, shape (w,); two 32-byte secrets are 18 limbs.
      threshold: shares that reconstruct; one fewer are uniform, whatever the values.
      num_shares: shares to make, at x = 1..num_shares.
      random: returns that many random bytes, from the operating system except under seeded noise.

    Returns:
      Shares, shape (num_shares, w); row i is the share of place i, at x = i + 1.

    Raises:
      ValueError: if a number or value is out of range, or values are not int64 of shape (w,).
    """
    if not 1 <= num_shares <= MAX_SHARES:
        raise ValueError(f"num_shares must be in 1..{MAX_SHARES}, got num_shares={num_shares}")
    if not 1 <= threshold <= num_shares:
        raise ValueError(f"threshold must be in 1..{num_shares}, got threshold={threshold}")
    if values.ndim != 1 or values.dtype != np.int64:
        raise ValueError(f"values are int64 (w,), got {values.dtype} of shape {values.shape}")
    if ((values < 0) | (values >= PRIME)).any():
        raise ValueError("values must be in 0..PRIME-1, got one outside")
    coefficients = np.empty((threshold, values.size))
    coefficients[0] = values
    coefficients[1:] = _uniform((threshold - 1, values.size), random)
    return _product(_powers_of_x(threshold, num_shares), coefficients).astype(np.uint32)


def reconstruct(places: NDArray[np.integer], shares: NDArray[np.uint32]) -> Integers:
    """Finds the values at 0 of m groups of w polynomials, each group from t places of its own.

    Nothing here can tell a wrong share, or t below the threshold, from a right one: compare the
    secret with what its owner published.

    Args:
      places: zero-based rows of `share`, distinct in each row, shape (m, t).
      shares: the shares of those places, shape (m, t, w).

    Returns:
      The values, in 0..PRIME-1, shape (m, w).

    Raises:
      ValueError: if places repeat or are out of range, a share is PRIME or more, or shapes or
        types do not fit.
    """
    if places.ndim != 2 or places.shape[1] == 0 or not np.issubdtype(places.dtype, np.integer):
        raise ValueError(f"places are integers (m, t >= 1), got {places.dtype} {places.shape}")
    if shares.ndim != 3 or shares.shape[:2] != places.shape or shares.dtype != np.uint32:
        raise ValueError(
            f"shares must be uint32 {(*places.shape, 'w')}, got {shares.dtype} {shares.shape}"
        )
    if ((places < 0) | (places >= MAX_SHARES)).any():
        raise ValueError(
            f"places must be in 0..{MAX_SHARES - 1}, got {places.min()}..{places.max()}"
        )
    if (shares >= PRIME).any():
        raise ValueError("shares must be in 0..PRIME-1, got one outside")
    values = np.empty((shares.shape[0], shares.shape[2]), dtype=np.int64)
    for start in range(0, len(values), _ROWS):
        rows = slice(start, start + _ROWS)
        weights = _halves(_weights(places[rows])[:, None, :])
        values[rows] = _product(weights, shares[rows].astype(np.float64))[:, 0]
    return values


def _uniform(shape: tuple[int, int], random: Callable[[int], bytes]) -> NDArray[np.uint32]:
    """Draws integers uniform in 0..PRIME-1: 31 bits each, and again where they make PRIME."""

    def draw(count: int) -> NDArray[np.uint32]:
        return np.frombuffer(random(4 * count), dtype="<u4", count=count) & np.uint32(PRIME)

    numbers = draw(shape[0] * shape[1])
    while (rejected := np.flatnonzero(numbers == PRIME)).size:
        numbers[rejected] = draw(rejected.size)
    return numbers.reshape(shape)


def _halves(matrix: Integers) -> NDArray[np.float64]:
    """Splits entries below 2^31 into their low 16 and high 15 bits, shape (2, ...)."""
    return np.stack([matrix & 0xFFFF, matrix >> 16]).astype(np.float64)


def _product(halves: NDArray[np.float64], right: NDArray[np.float64]) -> Integers:
    """Multiplies matrices mod PRIME, exactly; the left one comes in halves, (2, ..., r, t)."""
    # A half is below 2^16 and a right entry below 2^31, so 64 products sum to less than 2^53: every
    # partial sum is an integer that float64 holds, in whatever order BLAS adds. Blocks add up in
    # int64, below 2^57 for 1024 terms; (high mod PRIME) * 2^16 is below 2^47, so all of it fits.
    starts = range(0, right.shape[-2], _BLOCK)
    blocks = (halves[..., i : i + _BLOCK] @ right[..., i : i + _BLOCK, :] for i in starts)
    low, high = sum((block.astype(np.int64) for block in blocks), start=np.zeros(1, np.int64))
    product: Integers = ((high % PRIME << 16) + low) % PRIME
    return product


@lru_cache(maxsize=8)
def _powers_of_x(threshold: int, num_shares: int) -> NDArray[np.float64]:
    """x^j mod PRIME for x = 1..num_shares and j below threshold, in halves, read-only."""
    x = np.arange(1, num_shares + 1)
    powers = np.ones((num_shares, threshold), dtype=np.int64)
    for j in range(1, threshold):
        powers[:, j] = powers[:, j - 1] * x % PRIME
    halves = _halves(powers)
    halves.setflags(write=False)
    return halves


def _weights(places: NDArray[np.integer]) -> Integers:
    """Lagrange weights at 0, prod over j != i of x_j / (x_j - x_i), for each row of places."""
    # In discrete logarithms the products over all sets are one matrix product, of membership and
    # the logs of the factors: sums of at most 1024 logs below 2^31, exact in float64.
    factors, low, high = _log_tables()
    width = int(places.max()) + 1
    member = np.zeros((len(places), width))
    np.put_along_axis(member, places, 1.0, axis=1)
    if (member.sum(axis=1) < places.shape[1]).any():
        row = int(member.sum(axis=1).argmin())
        raise ValueError(f"places must be distinct in each row, got {places[row].tolist()}")
    logs = np.take_along_axis(member @ factors[:width, :width], places, axis=1)
    exponents = logs.astype(np.int64) % (PRIME - 1)
    weights: Integers = low[exponents & 0xFFFF] * high[exponents >> 16] % PRIME
    return weights


@cache
def _log_tables() -> tuple[NDArray[np.float64], Integers, Integers]:
    """Logs of x_j / (x_j - x_i) at [j, i], 0 where i = j; _ROOT^e and _ROOT^(2^16 e) at [e]."""
    # Pohlig and Hellman 1978 (doi:10.1109/TIT.1978.1055817): the log modulo each small order by
    # table, then the Chinese remainder theorem.
    logs = np.zeros(MAX_SHARES + 1, dtype=np.int64)
    for order in _ORDERS:
        cofactor = (PRIME - 1) // order
        remainder = {pow(_ROOT, cofactor * e, PRIME): e for e in range(order)}
        lift = cofactor * pow(cofactor, -1, order)
        logs[1:] += [lift * remainder[pow(x, cofactor, PRIME)] for x in range(1, MAX_SHARES + 1)]
    x = np.arange(1, MAX_SHARES + 1)
    gap = x[:, None] - x
    minus_one = (PRIME - 1) // 2  # the log of -1
    factors = (logs[x][:, None] - logs[abs(gap)] - minus_one * (gap < 0)) % (PRIME - 1)
    np.fill_diagonal(factors, 0)
    return factors.astype(np.float64), _geometric(_ROOT), _geometric(pow(_ROOT, 2**16, PRIME))


def _geometric(base: int) -> Integers:
    """base^e mod PRIME for e = 0..2^16-1, by doubling."""
    powers = np.ones(1, dtype=np.int64)
    while powers.size < 2**16:
        powers = np.concatenate([powers, powers * pow(base, powers.size, PRIME) % PRIME])
    return powers

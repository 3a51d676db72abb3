"""Random numbers for many clips at once, each clip from its own 64-bit seed, shape (n,), uint64.

A NumPy generator per clip costs a tenth of its synthesis. Here draw k of a clip is a hash of
(seed, k), independent of the other clips and of the order of calls.

    >>> draws = uniforms(np.array([7, 8], dtype=np.uint64), 3)
    >>> bool((draws[1] == uniforms(np.array([8], dtype=np.uint64), 3)[0]).all())
    True
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Seeds = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scrambles 64-bit words: the finalizer of SplitMix64.

    Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", section 5 (the
    constants are Stafford's variant 13). Words that differ in one bit give unrelated words.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def words(seeds: Seeds, num_draws: int) -> NDArray[np.uint64]:
    """Returns SplitMix64's first `num_draws` outputs under each seed, shape (n, num_draws)."""
    steps = _GOLDEN * np.arange(1, num_draws + 1, dtype=np.uint64)
    return mix(seeds[:, None] + steps)


def uniforms(seeds: Seeds, num_draws: int) -> NDArray[np.float64]:
    """Returns uniforms strictly between 0 and 1, shape (n, num_draws)."""
    # 52 bits and a half fit into a double exactly, so neither 0 nor 1 comes out, where `ndtri` is
    # infinite.
    return ((words(seeds, num_draws) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normals(seeds: Seeds, num_draws: int) -> NDArray[np.float64]:
    """Returns standard normals by the inverse distribution function, shape (n, num_draws)."""
    draws: NDArray[np.float64] = ndtri(uniforms(seeds, num_draws))
    return draws

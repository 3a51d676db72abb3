"""When a test that is looked at again and again may stop: alpha spending, one-sided.

A stage looks at its guardrails after every window. If each look were a test of its own, a harmless
update would be found harmful sooner or later. Instead the chance of a false alarm is spent over the
planned looks (Lan and DeMets 1983, Biometrika 70:659), here as the power family of Kim and DeMets
(1987, Biometrika 74:149), alpha (k / K)^2, by the number of the look: calendar time, so that what
is spent never depends on what was seen (Lan and DeMets 1989, Biometrika 76:614).

Why not an always-valid confidence sequence: the plan knows how many looks a stage has at most, and
at the levels of one segment (0.001 to 0.007) the normal mixture of Howard et al. 2021 (Ann.
Statist. 49:1055, arXiv:1810.08240), tuned to the last of seven looks, asks for 1.35 to 1.45 times
the information at the same power. What it has in exchange, looks without an end, no stage needs.

The statistics of successive looks must have the canonical joint distribution, in which the
correlation of looks j < k is the square root of the ratio of their information (Jennison and
Turnbull 2000, "Group Sequential Methods", section 3.1). An estimate whose covariance with a later
one is the variance of the later one has it. This holds for sums over independent windows, and also
where one deviation is common to all windows of a stage, as that of the phones that were drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from fedspeech.errors import require

FloatArray = NDArray[np.float64]

_FAR = 7.0  # a standard normal is beyond it with probability 1e-12
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(56)
_BLOCK = 8  # tests side by side, whose kernels fit a processor's cache
_MOST_ALIKE = 0.95
"""Ratio of information above which looks are taken to be this alike. Less correlation never makes a
bound smaller (Slepian 1962), so the level holds."""


def spent(alpha: float, looks: int) -> FloatArray:
    """The chance of a false alarm spent up to each look, shape (looks,); the last is alpha.

    Raises:
      ValueError: if alpha is no chance, or there is no look.
    """
    require(0 < alpha < 0.5, "alpha must be above 0 and below 0.5", alpha=alpha)
    require(looks >= 1, "there must be at least one look", looks=looks)
    return alpha * (np.arange(1, looks + 1) / looks) ** 2


def bounds(information: FloatArray, spending: FloatArray) -> FloatArray:
    """Standardized values above which a test stops, one per look.

    Under the null hypothesis the probability that any of the first k statistics is above its bound
    is `spending[k - 1]`, up to errors of integration below 1e-6. A look that did not take place
    spends nothing, and the next one spends what it left.

    Args:
      information: of the estimate at each look, shape (looks, ...), positive; NaN where a look did
        not take place.
      spending: spent up to each look, shape (looks,), ascending, as `spent` gives it.

    Returns:
      Bounds, shape of `information`; infinite where a look did not take place.
    """
    flat = information.reshape(len(information), -1)
    found = np.full(flat.shape, np.inf)
    for start in range(0, flat.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        test = _Test(flat[0, block].size)
        for look, now in enumerate(flat[:, block]):
            found[look, block] = test.look(now, spending[look])
    return found.reshape(information.shape)


class _Test:
    """Where the statistic is, if no bound was passed: recursive integration over looks.

    Armitage, McPherson and Rowe 1969, J. R. Statist. Soc. A 132:235; many tests side by side.
    """

    def __init__(self, tests: int) -> None:
        self._used = np.zeros(tests)
        self._before = np.zeros(tests)  # information of the last look; 0: none yet
        self._nodes = np.zeros((tests, len(_NODES)))
        self._mass = np.zeros((tests, len(_NODES)))  # density times weight

    def look(self, information: FloatArray, spending: float) -> FloatArray:
        """The bounds of one look."""
        bound = np.full(len(information), np.inf)
        there = ~np.isnan(information)
        first, later = there & (self._before == 0), there & (self._before > 0)
        bound[first] = -ndtri(spending - self._used[first])
        self._keep(first, bound, lambda nodes: np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi))
        if later.any():
            ratio = np.clip(self._before[later] / information[later], 0.0, _MOST_ALIKE)
            nodes, mass = self._nodes[later], self._mass[later]
            root, width = np.sqrt(ratio)[:, None], np.sqrt(1 - ratio)[:, None]
            bound[later] = _solve(nodes * root, width, mass, spending - self._used[later])

            def density(at: FloatArray) -> FloatArray:
                apart = (at[:, :, None] - (nodes * root)[:, None, :]) / width[:, :, None]
                kernel = np.exp(-(apart**2) / 2)
                return np.asarray(
                    (kernel @ mass[:, :, None])[:, :, 0] / (np.sqrt(2 * np.pi) * width)
                )

            self._keep(later, bound, density)
        self._used[there] = spending
        self._before[there] = np.maximum(information[there], self._before[there])
        return bound

    def _keep(self, which: NDArray[np.bool_], bound: FloatArray, density: Any) -> None:
        """Takes over the density below the new bounds."""
        if which.any():
            half = (bound[which] + _FAR)[:, None] / 2
            nodes = half * (_NODES + 1) - _FAR
            self._nodes[which] = nodes
            self._mass[which] = density(nodes) * half * _WEIGHTS


def _solve(center: FloatArray, width: FloatArray, mass: FloatArray, wanted: FloatArray) -> Any:
    """The value that a statistic passes with the wanted probability, by bisection."""
    low, high = np.full(len(wanted), -_FAR), np.full(len(wanted), _FAR)
    for _ in range(30):
        middle = (low + high) / 2
        above = (ndtr((center - middle[:, None]) / width) * mass).sum(1)
        low, high = np.where(above > wanted, middle, low), np.where(above > wanted, high, middle)
    return high

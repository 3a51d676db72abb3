"""What a round costs: Renyi divergences of exactly this mechanism, composed, then converted.

A curve holds the Renyi divergence at `ORDERS`; curves of rounds add up (Mironov 2017,
arXiv:1702.07476); `epsilon` converts the sum with dp-accounting (Canonne, Kamath, Steinke 2020,
arXiv:2004.00010, Proposition 12).

**Given participation** (`DiscreteGaussianSum`): Kairouz, Liu, Steinke 2021 (arXiv:2102.06387),
Proposition 14. A sum of m discrete Gaussians is within a factor exp(+-tau/2) of one discrete
Gaussian of variance m stddev^2, coordinate by coordinate.

**Poisson participation with noise on the phones** (`PoissonSampled`): our own composition, argued
here and attacked in the tests. A phone that stays away withholds its noise share too, so the sum
has m shares without it and m+1 with it, and the variance of d coordinates betrays its coin.

1. Fix everything but the phone's coin, rounding and noise. The others' values are a common shift
   and drop out. Without the phone the sum is B = m shares; with it A = x + (m+1) shares,
   ||x||_2 <= Delta; under sampling, M = (1-q) B + q A. Divergences are jointly convex, so random x
   (rounding) costs no more than the worst x. More honest others only help: every D_l below falls
   in m. So m = min_reporting - colluders, where "the others alone reach the minimum" fails only in
   a bad event that is priced apart.
2. For an integer order a, E_B[(M/B)^a] = sum_l C(a,l) (1-q)^(a-l) q^l exp((l-1) D_l(A||B)),
   exactly, with exponent 0 for l < 2.
3. D_l(A||B) for continuous Gaussians of variances (m+1) s^2 and m s^2 is
   l ||x||^2 / (2 s^2 (m+1-l)) + d v(l), v(l) = ln(m/(m+1))/2 + ln(m/(m+1-l))/(2(l-1)), finite for
   l <= m. (Complete the square: the l-th moment is a Gaussian of variance
   m (m+1) s^2 / (m+1-l), which must be positive.)
4. The same for two discrete Gaussians: the moment becomes a sum over the integers of a Gaussian
   with a real center. By Poisson summation such a sum exceeds its integral by a factor of at most
   1 + 3 exp(-2 pi^2 variance), and the normalizer of A is at least its integral. The excess is at
   most 4 exp(-2 pi^2 m s^2) per coordinate.
5. Replacing sums of shares by single discrete Gaussians costs (tau/2)(l + l - 1)/(l-1) per
   coordinate. We pay tau (2l-1)/(l-1), twice that, with tau of m+1 shares; the spare half is at
   least tau > 10 exp(-pi^2 s^2) and covers step 4.
6. The reverse direction D_a(B||M) is no larger. If H_g(P||Q) is the hockey-stick divergence and
   w = g-1 >= 0, then H_g(M||B) = q H_(1+w/q)(A||B) and H_g(B||M) = k H_(1+w/k)(B||A), where
   k = q - w(1-q) <= q (nothing if k <= 0). H falls in g, so H_g(B||M) <= H_g(M||B) follows for all
   g >= 1 from H_g(B||A) <= H_g(A||B), the wider law being the easier one to tell. A Renyi
   divergence of order a is an increasing function of the integral over g >= 1 of
   g^(a-2) H_g(forward) + g^(-a-1) H_g(backward), and the first weight is the larger one. The
   premise is checked numerically over dimensions, shares and shifts, and the divergences of both
   directions are compared directly, as is the general bound of Zhu and Wang 2019 (Theorem 5).

**A vector and a clip bit in one round** (`Joint`): divided by their own stddevs, the coordinates
of both are one Gaussian vector of one variance, with the squares of the shifts added; so the D_l of
the parts add, and steps 1 to 6 hold for the sum.

**Presence without a coin** (`Presence`): the same D_l, summed over the rounds that the phone may
join. Steps 3 to 6 hold for real orders too.

**Skellam** (`SkellamSum`): Agarwal, Kairouz, Liu 2021 (arXiv:2110.04995), Theorem 3.5 with the
variance of the whole sum, added up over coordinates; integer orders only.

**Drawing a cohort of fixed size** (`WithoutReplacement`): Wang, Balle, Kasiviswanathan 2019
(arXiv:1808.00087), Theorem 9, with one phone's vector replaced by another: twice the norm. The
cohort has the same size in both worlds, so no missing noise tells them apart. Phones that drop out
do no harm if each does so with the same probability: the proof exchanges the phone for one that was
not drawn, and the one that comes in its place may be given the same luck. Phones that differ in how
often they drop out are outside of this claim.
"""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.privacy.events import (
    CappedPoisson,
    DiscreteGaussianSum,
    Event,
    Gaussian,
    GivenParticipation,
    Joint,
    NonPrivate,
    PoissonSampled,
    Presence,
    Replaced,
    SharedNoise,
    SkellamSum,
    WithoutReplacement,
)

FloatArray = NDArray[np.float64]

_MAX_ORDER = 512
# Sampling has bounds at integer orders only; the finer steps serve events without it, whose best
# order is small where epsilon is large.
ORDERS: FloatArray = np.unique(
    np.concatenate([np.arange(1.05, 16, 0.05).round(2), np.arange(2.0, _MAX_ORDER + 1)])
)
_PRV_BELOW = 50.0  # epsilon above which Opacus' PRV takes half a minute and more
_INTEGERS: FloatArray = np.arange(2.0, _MAX_ORDER + 1)
_AT_INTEGERS = np.searchsorted(ORDERS, _INTEGERS)


def rdp(event: Event) -> FloatArray:
    """Returns the Renyi divergences of one event at `ORDERS`, infinite where there is no bound.

    Raises:
      TypeError: for an event that this accountant does not know.
    """
    match event:
        case NonPrivate() | CappedPoisson():  # only privacy loss distributions price a cap
            return np.full(ORDERS.shape, np.inf)
        case Gaussian():
            return _continuous(event)
        case DiscreteGaussianSum():
            return _given_participation(event)
        case SkellamSum():
            return _skellam(event)
        case Joint():
            return np.asarray(sum(rdp(part) for part in event.parts))
        case PoissonSampled():
            return _poisson(event)
        case Presence():
            return _presence(event)
        case Replaced():
            return rdp(doubled(event.event))
        case WithoutReplacement():
            return _without_replacement(event)
    raise TypeError(f"no price for an event of type {type(event).__name__}")


def epsilon(curve: FloatArray, delta: float) -> float:
    """Converts a composed curve at `ORDERS` to epsilon.

    Args:
      curve: shape of `ORDERS`; zeros mean that nothing was released.
      delta: in (0, 1).

    Raises:
      ValueError: if delta is not in (0, 1) or the curve is negative or not a number.
    """
    require(0 < delta < 1, "delta must be in (0, 1)", delta=delta)
    if not (curve >= 0).all():
        raise ValueError("a Renyi divergence is a number that is not negative")
    finite = np.isfinite(curve)
    if not finite.any():
        return math.inf
    if not curve.any():
        return 0.0
    import dp_accounting.rdp as dp_rdp  # here because it takes more than a second

    best, _ = dp_rdp.compute_epsilon(ORDERS[finite].tolist(), curve[finite].tolist(), delta)
    return float(best)


def tau(stddev: float, shares: int) -> float:
    """How far a sum of shares is from one discrete Gaussian, per coordinate.

    Kairouz, Liu, Steinke 2021, Theorem 1:
    10 sum_(k=1)^(shares-1) exp(-2 pi^2 stddev^2 k / (k+1)). Terms fall in k, so beyond a million
    the last one that was computed stands for each of the rest.
    """
    k = np.arange(1, min(shares, 10**6), dtype=np.float64)
    terms = np.exp(-2 * math.pi**2 * stddev**2 * k / (k + 1))
    rest = (shares - 1 - k.size) * float(terms[-1]) if k.size else 0.0
    return float(10 * (terms.sum() + rest))


@functools.lru_cache(maxsize=256)
def _given_participation(event: DiscreteGaussianSum) -> FloatArray:
    """Kairouz, Liu, Steinke 2021, Proposition 14, at every order."""
    d, s2 = event.dimension, event.sensitivity
    s1 = min(math.sqrt(d) * s2, s2**2)
    total = event.stddev * math.sqrt(event.shares)
    t = tau(event.stddev, event.shares)
    half = ORDERS / 2
    curve = np.minimum.reduce(
        [
            half * (s2 / total) ** 2 + t * d,
            half * ((s2 / total) ** 2 + 2 * s1 * t / total + t**2 * d),
            half * (s2 / total + t * math.sqrt(d)) ** 2,
        ]
    )
    return _frozen(curve)


EventT = TypeVar("EventT", bound=GivenParticipation)


def doubled(event: EventT) -> EventT:
    """Returns the event where one vector replaces another: they are up to two norms apart."""
    if isinstance(event, Gaussian):
        return replace(event, noise_multiplier=event.noise_multiplier / 2)
    if isinstance(event, Joint):
        return replace(event, parts=tuple(doubled(part) for part in event.parts))
    return replace(event, sensitivity=2 * event.sensitivity)


@functools.lru_cache(maxsize=256)
def _continuous(event: Gaussian) -> FloatArray:
    """Mironov 2017, Corollary 3."""
    return _frozen(ORDERS / (2 * event.noise_multiplier**2))


@functools.lru_cache(maxsize=256)
def _skellam(event: SkellamSum) -> FloatArray:
    """Agarwal, Kairouz, Liu 2021, Theorem 3.5, at integer orders; infinite elsewhere.

    Integer vectors have L1 norm at most min(sqrt(d) L2, L2^2), which holds of a difference of two
    such vectors as well.
    """
    variance = event.stddev**2 * event.shares
    l2 = event.sensitivity**2
    l1 = min(math.sqrt(event.dimension) * event.sensitivity, l2)
    excess = np.minimum(
        ((2 * _INTEGERS - 1) * l2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance)
    )
    return _at_integers(_INTEGERS * l2 / (2 * variance) + excess)


def divergence_with_phone(event: SharedNoise | SkellamSum, orders: FloatArray) -> FloatArray:
    """D_l of steps 3 to 5: with the phone against without it, both noisy.

    Args:
      event: shares counts the other phones.
      orders: above 1 and at most `event.shares`; sampling asks for integers.

    Returns:
      Shape of `orders`.
    """
    if isinstance(event, Joint):
        return np.asarray(sum(divergence_with_phone(part, orders) for part in event.parts))
    if isinstance(event, SkellamSum):
        raise TypeError("what an absent phone's missing Skellam noise tells is not derived")
    m, d = event.shares, event.dimension
    gap = m + 1 - orders
    shift = orders * event.sensitivity**2 / (2 * event.stddev**2 * gap)
    # As log1p: the two logarithms nearly cancel, and of m / (m + 1) few digits would be left at a
    # million shares.
    spread = -math.log1p(1 / m) / 2 - np.log1p((1 - orders) / m) / (2 * (orders - 1))
    discrete = tau(event.stddev, m + 1) * (2 * orders - 1) / (orders - 1)
    return shift + d * (spread + discrete)


@functools.lru_cache(maxsize=256)
def _presence(event: Presence) -> FloatArray:
    """D_l at every order up to the number of shares; infinite above."""
    curve = np.full(ORDERS.shape, np.inf)
    usable = event.event.shares >= ORDERS
    curve[usable] = divergence_with_phone(event.event, ORDERS[usable])
    return _frozen(curve)


@functools.lru_cache(maxsize=256)
def _poisson(event: PoissonSampled) -> FloatArray:
    """Step 2 at every integer order up to the number of shares; infinite elsewhere."""
    q, inner = event.probability, event.event
    orders = _INTEGERS
    if isinstance(inner, Gaussian):
        divergences = orders / (2 * inner.noise_multiplier**2)
    else:
        orders = orders[orders <= inner.shares]
        divergences = divergence_with_phone(inner, orders)
    if q < 1:
        # moment - 1 = sum_l B(a,l) (1-q)^(a-l) q^l (exp((l-1) D_l) - 1): positive terms, so that a
        # tiny q loses no digits.
        terms = _log_expm1((orders - 1) * divergences)[None, :]
        terms = terms + _log_binomials(orders.size) + orders * math.log(q)
        terms += np.maximum(orders[:, None] - orders[None, :], 0) * math.log1p(-q)
        divergences = np.logaddexp(0, _log_sum(terms)) / (orders - 1)
    return _at_integers(divergences)


@functools.lru_cache(maxsize=256)
def _without_replacement(event: WithoutReplacement) -> FloatArray:
    """Wang, Balle, Kasiviswanathan 2019, Theorem 9, at integer orders; never above no sampling."""
    base = rdp(doubled(event.event))[_AT_INTEGERS]
    share = event.cohort / event.population
    factors = math.log(2) + (_INTEGERS - 1) * base
    factors[0] = min(factors[0], math.log(4) + float(_log_expm1(base[:1])[0]))
    terms = factors[None, :] + _log_binomials(_INTEGERS.size) + _INTEGERS * math.log(share)
    sampled = np.logaddexp(0, _log_sum(terms)) / (_INTEGERS - 1)
    return _at_integers(np.minimum(sampled, base))


def _at_integers(values: FloatArray) -> FloatArray:
    """Places divergences at orders 2, 3, ...; all other orders are without a bound."""
    curve = np.full(ORDERS.shape, np.inf)
    curve[_AT_INTEGERS[: values.size]] = values
    return _frozen(curve)


@functools.lru_cache(maxsize=4)
def _log_binomials(count: int) -> FloatArray:
    """Ln C(a, l) for orders a (rows) and l (columns) from 2 on; minus infinity where l > a."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, count + 2)))])
    a = np.arange(2, count + 2)
    rest = a[:, None] - a[None, :]
    table = logs[a][:, None] - logs[a][None, :] - logs[np.maximum(rest, 0)]
    return _frozen(np.where(rest >= 0, table, -np.inf))


def _log_expm1(x: FloatArray) -> FloatArray:
    """ln(exp(x) - 1) for x >= 0, without overflow; minus infinity at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(x + np.log(-np.expm1(-x)))


def _log_sum(terms: FloatArray) -> FloatArray:
    if not terms.size:
        return np.zeros(terms.shape[0])
    # A row without any term has a peak of minus infinity, and the difference of two of those is no
    # number.
    peak = np.maximum(terms.max(axis=1, keepdims=True), -1e300)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(terms - peak).sum(axis=1)) + peak[:, 0])


def _frozen(curve: FloatArray) -> FloatArray:
    # Curves are cached: whoever wrote into one would change the price of every later round.
    curve.setflags(write=False)
    return curve


def opacus_checks(
    *, probability: float, noise_multiplier: float, rounds: int, delta: float
) -> dict[str, float]:
    """Prices Poisson sampling of the continuous Gaussian with Opacus: beside a claim, never one.

    Its PRV accountant states an upper bound .01 above its estimate, fails at extremes, where it is
    left out, and takes long at a large epsilon, where it is not asked. Never its GDP accountant,
    which underestimates (1.68 against 4.21 at q = .002, z = .6).

    Returns:
      Epsilons by name, of "opacus_rdp" and "prv" those that could be had.
    """
    import warnings

    from opacus.accountants import PRVAccountant, RDPAccountant

    found: dict[str, float] = {}
    history = [(noise_multiplier, probability, rounds)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        renyi = RDPAccountant()
        renyi.history = history
        found["opacus_rdp"] = float(renyi.get_epsilon(delta))
        if probability < 1 and found["opacus_rdp"] < _PRV_BELOW:
            numerical = PRVAccountant()
            numerical.history = history
            failures = (RuntimeError, ValueError, IndexError, OverflowError, MemoryError)
            with contextlib.suppress(*failures):  # no figure is better than a wrong one
                found["prv"] = float(numerical.get_epsilon(delta))
    return {name: value for name, value in found.items() if math.isfinite(value) and value >= 0}

"""What dp-accounting says of continuous Gaussian noise: Renyi divergences and loss distributions.

Both give upper bounds, so the smaller is a claim. Each function returns the library's epsilon as a
function of delta for `rounds` rounds of one event, or nothing where the library has no price: it
prices continuous noise that does not depend on who takes part, and no other.

Four of its habits are dealt with here. Under "replace" its Renyi accountant ignores the relation
for a plain Gaussian and its loss distributions double it themselves, so we halve the noise
multiplier and never name that relation, except for sampling without replacement, where it must be
named and does not halve. A sum of probabilities so close to one that its digits are gone is read
as "nothing was released", epsilon = 0: where one round costs that little, our own sum of positive
terms is used. Its grid of 1e-4 would fill the memory at an epsilon in the thousands: the grid
widens there, which can only raise the answer. And it composes loss distributions by a Fourier
transform raised to the power of the rounds, whose rounding errors grow with that power and are not
in its bound: at 1e6 rounds they exceed a delta of 1e-11, and the epsilon that it gives is then too
small. So it is asked at a delta that is smaller by more than these errors, and not at all where
nothing would be left.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fedspeech.privacy import accountant
from fedspeech.privacy.events import (
    CappedPoisson,
    Event,
    Gaussian,
    NonPrivate,
    PoissonSampled,
    Replaced,
    WithoutReplacement,
)

EpsilonAt = Callable[[float], float]
Part = tuple[Event, int]
"""One event, and how many rounds of it."""

# What dp-accounting takes by default.
_GRID = 1e-4
_FINE_GRID = 1e-5
_WIDEN_ABOVE = 20.0  # epsilon from which on the grid grows with it
_REFINE_BELOW = 0.1
_FINE_NOISE_MULTIPLIER = 1.0
# Errors of composed deltas, in units of 2^-52 times rounds: below 0.8 against 64-bit mantissas, for
# probabilities from 1e-6 to 1, noise from .5 to 2000 and 2 to 1e7 rounds.
_COMPOSITION_ERROR = 8 * 2.0**-52
_FEW_DIGITS = 1e-9  # divergence of one round, below which the library's digits are not trusted


def rdp(parts: Sequence[Part]) -> EpsilonAt | None:
    """Prices rounds by Renyi divergences.

    Args:
      parts: events with how many rounds of each, all under one relation; at least one.
    """
    if any(isinstance(event, NonPrivate) for event, _ in parts):
        return lambda delta: math.inf
    for event, _ in parts:
        if isinstance(event, CappedPoisson) or _library_event(event) is None:
            return None
    curves = [(accountant.rdp(event), rounds) for event, rounds in parts]
    own = np.asarray(sum(rounds * curve for curve, rounds in curves))
    own_at: EpsilonAt = functools.partial(accountant.epsilon, own)
    if min(curve[accountant.ORDERS == 2.0][0] for curve, _ in curves) < _FEW_DIGITS:
        return own_at
    from dp_accounting.privacy_accountant import NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    relation = NeighboringRelation.ADD_OR_REMOVE_ONE
    if any(isinstance(event, WithoutReplacement) for event, _ in parts):
        relation = NeighboringRelation.REPLACE_ONE
    with _quiet():
        library = RdpAccountant(neighboring_relation=relation)
        for event, rounds in parts:
            library.compose(_library_event(event), rounds)

    def at(delta: float) -> float:
        with _quiet():
            found = float(library.get_epsilon(delta))
        return found if found > 0 else own_at(delta)

    return at


def pld(parts: Sequence[Part]) -> EpsilonAt | None:
    """Prices rounds by privacy loss distributions; none for sampling without replacement.

    Args:
      parts: events with how many rounds of each; at least one.
    """
    if any(isinstance(event, NonPrivate) for event, _ in parts):
        return lambda delta: math.inf
    for event, _ in parts:
        if _library_event(event) is None or isinstance(event, WithoutReplacement):
            return None
    rough = sum(rounds * _rough(event) for event, rounds in parts)
    sampled = (PoissonSampled, CappedPoisson)
    # Rounds without sampling are one Gaussian to the library, so no power of a transform is taken.
    composed = sum(rounds if isinstance(event, sampled) else 1 for event, rounds in parts)
    error = composed * _COMPOSITION_ERROR
    fine = all(_noise_multiplier(event) >= _FINE_NOISE_MULTIPLIER for event, _ in parts)

    @_infinite_beyond_floats
    def at(delta: float) -> float:
        delta -= error
        if delta <= 0:
            return math.inf
        scale = accountant.epsilon(np.asarray(rough), delta)
        grid = _GRID * max(1.0, scale / _WIDEN_ABOVE)
        found = float(_distribution(tuple(parts), grid).get_epsilon(delta))
        if found < _REFINE_BELOW and fine:
            finer = float(_distribution(tuple(parts), _FINE_GRID).get_epsilon(delta))
            found = min(found, finer)  # both are upper bounds
        return found

    return at


def analytic(event: Event, rounds: int) -> EpsilonAt | None:
    """Prices a plain Gaussian exactly (Balle and Wang 2018, arXiv:1805.06530, Theorem 8)."""
    if isinstance(event, Replaced):
        inner = accountant.doubled(event.event)
    elif isinstance(event, Gaussian):
        inner = event
    else:
        return None
    if not isinstance(inner, Gaussian):
        return None
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    # Rounds of a Gaussian are one Gaussian with less noise, exactly.
    stddev = inner.noise_multiplier / math.sqrt(rounds)
    return _infinite_beyond_floats(lambda delta: float(get_epsilon_gaussian(stddev, delta)))


def _infinite_beyond_floats(at: EpsilonAt) -> EpsilonAt:
    """No bound where the library's exponentials overflow."""

    def guarded(delta: float) -> float:
        try:
            return at(delta)
        except OverflowError:
            return math.inf

    return guarded


def _library_event(event: Event) -> Any:
    """Returns one round as an event of dp-accounting, or nothing."""
    import dp_accounting

    match event:
        case Gaussian():
            return dp_accounting.GaussianDpEvent(event.noise_multiplier)
        case Replaced(event=Gaussian() as inner):
            return dp_accounting.GaussianDpEvent(inner.noise_multiplier / 2)
        case PoissonSampled(event=Gaussian() as inner):
            gaussian = dp_accounting.GaussianDpEvent(inner.noise_multiplier)
            return dp_accounting.PoissonSampledDpEvent(event.probability, gaussian)
        case WithoutReplacement(event=Gaussian() as inner):
            gaussian = dp_accounting.GaussianDpEvent(inner.noise_multiplier / 2)
            return dp_accounting.SampledWithoutReplacementDpEvent(
                event.population, event.cohort, gaussian
            )
        case CappedPoisson():
            return dp_accounting.TruncatedSubsampledGaussianDpEvent(
                event.population, event.probability, event.cap, event.event.noise_multiplier
            )
    return None


def _noise_multiplier(event: Event) -> float:
    """Of the Gaussian inside, halved where the price halves it; 0 where a fine grid is slow."""
    match event:
        case Gaussian():
            return event.noise_multiplier
        case PoissonSampled(event=Gaussian() as inner):
            return inner.noise_multiplier
        case Replaced(event=Gaussian() as inner):
            return inner.noise_multiplier / 2
    return 0.0


def _rough(event: Event) -> accountant.FloatArray:
    """A curve that tells how wide the grid may be: its error costs accuracy only."""
    if isinstance(event, CappedPoisson):
        return accountant.rdp(
            WithoutReplacement(
                population=event.population,
                cohort=max(1, min(event.population, round(event.population * event.probability))),
                event=event.event,
            )
        )
    return accountant.rdp(event)


@functools.lru_cache(maxsize=8)
def _distribution(parts: tuple[Part, ...], grid: float) -> Any:
    """Composes the loss distributions on a grid."""
    from dp_accounting.pld import PLDAccountant

    with _quiet():
        library = PLDAccountant(value_discretization_interval=grid)
        for event, rounds in parts:
            library.compose(_library_event(event), rounds)
        return library


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library from reporting orders that it leaves out, which is the safe side."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

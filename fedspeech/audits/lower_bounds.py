"""Lower bounds on epsilon from outcomes of a mechanism, each with an exact confidence.

(epsilon, delta) differential privacy says P[E | one world] <= e^epsilon P[E | the other] + delta of
every event E. Whoever has seen how often an event occurs in both worlds turns that around:

    epsilon >= ln((p - delta) / q)

A bound above a printed epsilon disproves the claim, up to the error level. A bound below proves
nothing but itself: this event, watched so often, shows no more.

* `many_runs`: one canary, many runs of either world. The event is chosen on some of the runs and
  counted on the others, so it may be any function of what was seen, and no union bound is paid.
  The limits of p and q are Clopper and Pearson's (1934): exact for binomial counts.
* `one_run`: many canaries in one run, each included by a coin of its own (Steinke, Nasr and
  Jagielski 2023, arXiv:2305.08846, Theorem 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom

from fedspeech.errors import require

CHOSEN_ON = 1 / 3
"""Share of the runs on which the event is chosen; the rest count it."""
_QUANTILES = np.linspace(0.02, 0.98, 49)
_GUESSES = (1.0, 0.5, 0.25, 0.1)
"""Shares of the canaries of one run that are guessed; the best share is paid for by a union."""
_LARGEST = 50.0


@dataclass(frozen=True, kw_only=True)
class LowerBound:
    """What outcomes prove of an epsilon.

    Attributes:
      epsilon: at least, with this confidence; 0 where they prove nothing.
      confidence: of the statement.
      observations: counted outcomes, those on which the event was chosen left out.
      reach: the most that so many outcomes can prove, were the mechanism to hide nothing.
      says: how often the event occurred, in words.
    """

    epsilon: float
    confidence: float
    observations: int
    reach: float
    says: str


def many_runs(
    included: NDArray[np.float64],
    left_out: NDArray[np.float64],
    *,
    delta: float,
    confidence: float = 0.99,
) -> LowerBound:
    """Bounds epsilon by the best event that some of the runs suggest, counted on the others.

    Events are half-lines: of single columns, and of the linear discriminant of all columns (Fisher
    1936), which finds what no column shows alone.

    Args:
      included: what was seen of every run with the canary, shape (runs, features), independent
        rows.
      left_out: of every run without it, shape (runs, features).
      delta: of the claim.
      confidence: of the bound, in (0, 1).

    Raises:
      ValueError: if a shape or number is out of range, or something seen is not finite.
    """
    require(0 < confidence < 1, "confidence must be in (0, 1)", confidence=confidence)
    require(0 <= delta < 1, "delta must be in [0, 1)", delta=delta)
    if included.ndim != 2 or included.shape[1:] != left_out.shape[1:]:
        raise ValueError(
            f"expected two arrays (runs, features), got {included.shape} and {left_out.shape}"
        )
    runs = min(len(included), len(left_out))
    require(runs >= 30, "at least 30 runs of either world are needed", runs=runs)
    if not (np.isfinite(included).all() and np.isfinite(left_out).all()):
        raise ValueError("everything seen must be finite")
    chosen = int(CHOSEN_ON * runs)
    event = _best_event(included[:chosen], left_out[:chosen], delta, confidence)
    counts = tuple(int(event.of(rows[chosen:]).sum()) for rows in (included, left_out))
    totals = tuple(len(rows) - chosen for rows in (included, left_out))
    if not event.likely_included:
        counts, totals = counts[::-1], totals[::-1]
    found = _epsilon(counts[0], counts[1], totals[0], totals[1], delta, confidence)
    return LowerBound(
        epsilon=max(0.0, float(found)),
        confidence=confidence,
        observations=sum(totals),
        reach=float(_epsilon(totals[0], 0, totals[0], totals[1], delta, confidence)),
        says=f"the event occurred in {counts[0]} of {totals[0]} runs of one world and in "
        f"{counts[1]} of {totals[1]} of the other",
    )


@dataclass(frozen=True, eq=False)
class _Event:
    """A half-line of a direction; where it is more likely says `likely_included`."""

    direction: NDArray[np.float64]
    threshold: float
    likely_included: bool

    def of(self, rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether it occurred, for each row."""
        above: NDArray[np.bool_] = rows @ self.direction > self.threshold
        return above


def _best_event(
    included: NDArray[np.float64], left_out: NDArray[np.float64], delta: float, confidence: float
) -> _Event:
    """The event whose bound is largest on the runs that choose."""
    best, chosen = -math.inf, _Event(np.zeros(included.shape[1]), 0.0, likely_included=True)
    for direction in _directions(included, left_out):
        here, there = included @ direction, left_out @ direction
        thresholds = np.quantile(np.concatenate([here, there]), _QUANTILES)
        # Between values, never on one: with two values in all, no quantile would part them.
        thresholds = np.append(thresholds, (here.mean() + there.mean()) / 2)
        above = [(side[:, None] > thresholds).sum(0) for side in (here, there)]
        for swapped in (False, True):
            hits, misses = above[::-1] if swapped else above
            ones, others = (len(there), len(here)) if swapped else (len(here), len(there))
            bounds = _epsilon(hits, misses, ones, others, delta, confidence)
            place = int(np.argmax(bounds))
            if bounds[place] > best:
                best = float(bounds[place])
                chosen = _Event(direction, float(thresholds[place]), likely_included=not swapped)
    return chosen


def _directions(
    included: NDArray[np.float64], left_out: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Every column, the linear discriminant, and the opposites of all."""
    features = included.shape[1]
    scale = np.concatenate([included, left_out]).std(0)
    scale[scale == 0] = 1.0
    one, other = included / scale, left_out / scale
    within = np.cov(one, rowvar=False) + np.cov(other, rowvar=False)
    # Where noise is off, a world has no spread at all, and the discriminant still has to exist.
    within = np.atleast_2d(within) + 1e-9 * np.eye(features)
    discriminant = np.linalg.solve(within, one.mean(0) - other.mean(0)) / scale
    found = [*np.eye(features), discriminant]
    return [*found, *(-direction for direction in found)]


def _epsilon(
    hits: NDArray[np.int64] | int,
    misses: NDArray[np.int64] | int,
    ones: int,
    others: int,
    delta: float,
    confidence: float,
) -> NDArray[np.float64]:
    """ln((p - delta) / q) at the exact limits of p and q; -infinity where p does not exceed delta.

    Each limit may fail with half of the error level.
    """
    risk = (1 - confidence) / 2
    hits, misses = np.asarray(hits), np.asarray(misses)
    low = np.where(hits > 0, beta.ppf(risk, np.maximum(hits, 1), ones - hits + 1), 0.0)
    high = np.where(
        misses < others, beta.ppf(1 - risk, misses + 1, np.maximum(others - misses, 1)), 1.0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(np.maximum(low - delta, 0.0) / high)
    return np.asarray(found, dtype=np.float64)


def one_run(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float = 0.99,
) -> LowerBound:
    """Bounds epsilon by how many of many canaries of one run are guessed rightly.

    Guessed are the canaries with the highest scores ("included") and as many with the lowest
    ("left out"). The claim must be about adding or removing, or silencing, one canary.

    Args:
      scores: of every canary, higher where it looks included, shape (canaries,).
      included: whether it was, each by an independent fair coin, shape (canaries,).
      delta: of the claim.
      confidence: of the bound, in (0, 1).

    Raises:
      ValueError: if a shape or number is out of range.
    """
    require(0 < confidence < 1, "confidence must be in (0, 1)", confidence=confidence)
    require(0 <= delta < 1, "delta must be in [0, 1)", delta=delta)
    if scores.shape != included.shape or scores.ndim != 1 or len(scores) < 10:
        raise ValueError(
            f"expected scores and coins of at least 10 canaries, got {scores.shape} and "
            f"{included.shape}"
        )
    order, canaries = np.argsort(scores, kind="stable"), len(scores)
    risk = (1 - confidence) / len(_GUESSES)
    best, says = 0.0, "no share of the canaries was guessed better than by luck"
    for share in _GUESSES:
        side = max(1, int(share * canaries / 2))
        right = int(included[order[-side:]].sum() + (~included[order[:side]]).sum())
        found = _one_run_epsilon(canaries, 2 * side, right, delta, risk)
        if found > best:
            best = found
            says = f"{right} of {2 * side} guesses about {canaries} canaries were right"
    every = 2 * max(1, canaries // 2)
    reach = _one_run_epsilon(canaries, every, every, delta, risk)
    return LowerBound(
        epsilon=best, confidence=confidence, observations=canaries, reach=reach, says=says
    )


def _one_run_epsilon(canaries: int, guesses: int, right: int, delta: float, risk: float) -> float:
    """The largest epsilon that so many right guesses refute at this risk; 0 if none."""
    if _one_run_p_value(0.0, canaries, guesses, right, delta) > risk:
        return 0.0
    if _one_run_p_value(_LARGEST, canaries, guesses, right, delta) <= risk:
        return _LARGEST
    found = brentq(
        lambda epsilon: _one_run_p_value(epsilon, canaries, guesses, right, delta) - risk,
        0.0, _LARGEST, xtol=1e-6,
    )  # fmt: skip
    return max(0.0, float(found) - 1e-5)  # on the side that claims less


def _one_run_p_value(
    epsilon: float, canaries: int, guesses: int, right: int, delta: float
) -> float:
    """Bounds the probability of so many right guesses of a mechanism that keeps its claim.

    Theorem 5.2: P[right >= v] <= f(v) + 2 m delta max_i (sum_(j<=i) P[W = v - j]) / i, where W is
    binomial with success e^epsilon / (1 + e^epsilon) over the guesses and f its upper tail.
    """
    success = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, success))
    if not delta:
        return tail
    steps = np.arange(1, right + 1)
    reached = np.cumsum(binom.pmf(right - steps, guesses, success))
    most = float((reached / steps).max()) if right else 0.0
    return min(1.0, tail + 2 * canaries * delta * most)


def jointly(bounds: Sequence[LowerBound], claimed: Sequence[float]) -> tuple[bool, float]:
    """Whether any of several bounds exceeds its claim, and the error level of saying so.

    The level is that of the union: the sum of the single ones.
    """
    beaten = any(bound.epsilon > claim for bound, claim in zip(bounds, claimed, strict=True))
    return beaten, min(1.0, sum(1 - bound.confidence for bound in bounds))

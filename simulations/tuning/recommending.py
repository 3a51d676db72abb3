"""From evaluated trials to results: figures with intervals, the choice, what it spends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedspeech.evaluation.segments import cut
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import stream
from simulations.results.spent import account_of
from simulations.tuning.evidence import Choice, Evidence
from simulations.tuning.results import Contour, Recommended, Tried, WorstSegment
from simulations.tuning.search import Evaluated, Ground, matrices
from simulations.tuning.space import Space, log_spaced

LEVELS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
FINE_STEPS = 17
MOST_POINTS = 20

Cells = list[tuple[str, str, tuple[tuple[int, int], ...]]]
"""Segment, value and members (seed's place, member) of groups of phones."""


def compare(
    evaluated: Sequence[Evaluated],
    grounds: Sequence[Ground],
    plan: PrivacyPlan,
    *,
    within: float,
    seed: int,
    minimum_phones: int,
    notice: str | None,
) -> tuple[tuple[Tried, ...], Choice | None]:
    """Gives every setting its figures and chooses among those that went to their end in budget.

    `within` is the accuracy that may be given up for a smaller epsilon; `seed` is of the resamples;
    `notice` must be printed beside an epsilon.
    """
    evidence = Evidence(matrices(evaluated), stream(seed, "tuning"))
    epsilons = [found.guarantee.epsilon_release for found in evaluated]
    eligible = [
        index
        for index, found in enumerate(evaluated)
        if not found.stopped and epsilons[index] <= plan.epsilon_budget
    ]
    choice = evidence.choose(eligible, epsilons, within) if eligible else None
    cells = _cells(grounds, minimum_phones)
    tried = tuple(
        Tried(
            number=found.number,
            **dict(found.setting),
            **dict(account_of(found.guarantee, notice, plan.epsilon_budget)),
            within_budget=epsilons[index] <= plan.epsilon_budget,
            accuracy=evidence.accuracy(index),
            by_seed=tuple(map(float, evidence.by_seed[:, index])),
            against_best=evidence.difference(index, choice.best) if choice else None,
            worst_segment=_worst(found, cells),
            stopped=found.stopped,
            curve=_mean_curve(found),
            signal_to_noise=_mean_signal(found),
        )
        for index, found in enumerate(evaluated)
    )
    return tried, choice


def recommended(choice: Choice, evaluated: Sequence[Evaluated], plan: PrivacyPlan) -> Recommended:
    """The choice by trial numbers, with what its plan spends round by round."""
    chosen = evaluated[choice.index]
    under = chosen.setting.plan(plan)
    steps = np.unique(np.linspace(1, plan.rounds, min(plan.rounds, MOST_POINTS)).astype(int))
    spent = {rounds: under.guarantee(rounds) for rounds in steps.tolist()}
    return Recommended(
        number=chosen.number,
        best=evaluated[choice.best].number,
        share_same=choice.share_same,
        flattery=choice.flattery,
        unresolved=tuple(evaluated[index].number for index in choice.unresolved),
        spending={rounds: (of.epsilon_release, of.epsilon_server) for rounds, of in spent.items()},
    )


def contours(space: Space, plan: PrivacyPlan) -> tuple[Contour, ...]:
    """Where epsilon_release has round values, exact on a fine grid and log-linear between.

    A clip norm changes epsilon by what rounding costs in its ring alone. Where that is nothing, one
    clip norm is priced for all: some accountants take seconds.
    """
    clips, noises = space.clip_norm, space.noise_multiplier
    if len(clips) < 2 or len(noises) < 2 or noises[0] <= 0:
        return ()
    fine = log_spaced(noises[0], noises[-1], FINE_STEPS)
    lines: dict[float, list[tuple[float, float]]] = {}
    budget = (plan.epsilon_budget,) if math.isfinite(plan.epsilon_budget) else ()

    def price(clip: float, noise: float) -> float:
        return space.at(clip, noise).plan(plan).guarantee(plan.rounds).epsilon_release

    first = np.array([price(clips[0], noise) for noise in fine])
    alike = all(
        math.isclose(price(clips[-1], noise), first[place], rel_tol=1e-3)
        for place, noise in ((0, fine[0]), (-1, fine[-1]))
    )
    for clip in clips:
        curve = first if alike else np.array([price(clip, noise) for noise in fine])
        for level in (*LEVELS, *budget):
            below = np.flatnonzero(curve <= level)
            # A level that the range does not cross, or that follows an infinite price, has no place
            # between two priced points.
            if not len(below) or below[0] == 0 or not math.isfinite(curve[below[0] - 1]):
                continue
            after = below[0]
            share = math.log(curve[after - 1] / level) / math.log(curve[after - 1] / curve[after])
            noise = fine[after - 1] * (fine[after] / fine[after - 1]) ** share
            lines.setdefault(level, []).append((clip, noise))
    return tuple(
        Contour(epsilon=level, points=tuple(points)) for level, points in sorted(lines.items())
    )


def _cells(grounds: Sequence[Ground], minimum_phones: int) -> Cells:
    """Every group that is large enough."""
    members = [
        (place, member)
        for place, ground in enumerate(grounds)
        for member in range(len(ground.panel.clips))
    ]
    known = [grounds[place].panel.segments[member] for place, member in members]
    return [
        (segment, cell.value, tuple(members[i] for i in cell.members))
        for segment in sorted({name for segments in known for name in segments})
        for cell in cut([segments.get(segment) for segments in known], minimum_phones)
        if not cell.withheld
    ]


def _worst(found: Evaluated, cells: Cells) -> WorstSegment | None:
    groups = [
        WorstSegment(
            segment=segment,
            value=value,
            accuracy=float(np.mean([found.outcomes[p].accuracies[j] for p, j in members])),
            phones=len(members),
        )
        for segment, value, members in cells
    ]
    return min(groups, key=lambda group: group.accuracy, default=None)


def _mean_curve(found: Evaluated) -> dict[int, float]:
    """Mean over seeds at the marks that every seed reached."""
    reached = set.intersection(*(set(outcome.curve) for outcome in found.outcomes))
    return {
        mark: float(np.mean([outcome.curve[mark] for outcome in found.outcomes]))
        for mark in sorted(reached)
    }


def _mean_signal(found: Evaluated) -> float | None:
    ratios = [
        outcome.signal_to_noise for outcome in found.outcomes if outcome.signal_to_noise is not None
    ]
    return float(np.mean(ratios)) if ratios else None

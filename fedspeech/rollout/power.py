"""What a roll-out could find, before it starts: the smallest loss per segment and stage.

found = forecast(plan)              # segments that are too small are merged first
found.refused                       # stages in which a guardrail would find nothing in time
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from fedspeech.rollout.guardrails import Counts, Sums, least_clips, segment_alpha
from fedspeech.rollout.plan import RolloutPlan, Stage, percent
from fedspeech.rollout.sequential import bounds, spent

POWER = 0.9
"""Chance of finding the loss that is called detectable."""


@dataclass(frozen=True, kw_only=True)
class Detectable:
    """What one segment shows in one stage.

    Attributes:
      segment: full name, such as "accent=scottish".
      share: of the stage, of the phones that take the new version.
      phones: of the segment that have the new version.
      clips: that they count in one window.
      noise_stddev: of that count.
      smallest: loss of accuracy, as a share, that is found with probability `POWER` by the last
        look; None: the cell would be withheld, so nothing is found.
      margin: that it must not exceed.
    """

    segment: str
    share: float
    phones: float
    clips: float
    noise_stddev: float
    smallest: float | None
    margin: float

    @property
    def suffices(self) -> bool:
        """Whether the stage's margin would be found."""
        return self.smallest is not None and self.smallest <= self.margin


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a roll-out could find.

    Attributes:
      plan: with small segments merged; this is the plan that is carried out.
      merged: full name of a segment to that of the merged one that it went into.
      detectable: every segment of every watched stage, stage by stage.
    """

    plan: RolloutPlan
    merged: Mapping[str, str]
    detectable: tuple[Detectable, ...]

    def of(self, stage: Stage) -> tuple[Detectable, ...]:
        """The segments of one stage."""
        return tuple(one for one in self.detectable if one.share == stage.share)

    @property
    def refused(self) -> tuple[Stage, ...]:
        """Stages in which the margin of some segment would not be found."""
        return tuple(
            stage for stage in self.plan.watched if not all(one.suffices for one in self.of(stage))
        )

    def reason(self, stage: Stage) -> str:
        """Why a stage is refused, and which population or epsilon would do."""
        worst = max(self.of(stage), key=lambda one: (one.smallest is None, one.smallest or 0.0))
        found = (
            f"its cell would be withheld ({worst.clips:.0f} clips a window, noise "
            f"{worst.noise_stddev:.0f}, k_min {self.plan.evaluation.k_min})"
            if worst.smallest is None
            else f"the smallest loss it finds is {100 * worst.smallest:.1f} points"
        )
        return (
            f"the stage of {percent(stage.share)} could not find a loss of {100 * stage.margin:g} "
            f"points in {worst.segment}, where {worst.phones:.0f} phones have the new version: "
            f"{found}. {_what_would_do(self.plan, stage)}"
        )


def forecast(plan: RolloutPlan) -> Forecast:
    """Merges segments that are too small for the stages, and says what the others show."""
    merged, groups = _merge(plan)
    found = tuple(one for stage in merged.watched for one in detectable(merged, stage))
    return Forecast(plan=merged, merged=groups, detectable=found)


def detectable(plan: RolloutPlan, stage: Stage) -> tuple[Detectable, ...]:
    """What each segment shows in a stage if every window comes.

    It is what the last look alone finds: earlier looks only add. The expected counts are judged by
    the same variance as the real ones.
    """
    asked, cells = plan.evaluation, plan.cells
    phones = plan.phones * np.asarray(list(cells.values()))
    answered = asked.participation * asked.clips * phones
    noise = np.full((stage.windows, len(cells)), plan.noise_stddev)
    new = np.broadcast_to(stage.share * answered, noise.shape)
    old = np.broadcast_to((1 - stage.share) * answered, noise.shape)
    counts = Counts(asked.accuracy * new, new, asked.accuracy * old, old, noise, noise)
    there = counts.usable(asked.k_min)
    # Three standard deviations: a cell that is withheld every other window is of no use.
    there &= new >= asked.k_min + least_clips(plan.noise_stddev)
    information = Sums(counts, there, plan).loss(plan.tolerance).information
    spending = spent(segment_alpha(plan, len(cells)), stage.windows)
    last = bounds(np.where(there, information, np.nan), spending)[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        smallest = plan.tolerance + (last + ndtri(POWER)) / np.sqrt(information[-1])
    return tuple(
        Detectable(
            segment=name,
            share=stage.share,
            phones=stage.share * float(phones[place]),
            clips=float(new[0, place]),
            noise_stddev=plan.noise_stddev,
            smallest=float(smallest[place]) if there[-1, place] else None,
            margin=stage.margin,
        )
        for place, name in enumerate(cells)
    )


def _merge(plan: RolloutPlan) -> tuple[RolloutPlan, dict[str, str]]:
    """Pools the smallest values of each attribute until every pool shows the margins."""
    groups: dict[str, str] = {}
    for name in plan.segments:
        parts: dict[str, tuple[str, ...]] = {value: (value,) for value in plan.segments[name]}
        while len(values := plan.segments[name]) > 1 and _lacks(plan, name):
            pair = sorted(values, key=lambda value: (values[value], value))[:2]
            members = tuple(sorted(part for value in pair for part in parts[value]))
            pooled = "+".join(members)
            parts[pooled] = members
            left = {value: share for value, share in values.items() if value not in pair}
            changed = left | {pooled: sum(values[value] for value in pair)}
            plan = dataclasses.replace(plan, segments={**plan.segments, name: changed})
        for pooled in plan.segments[name]:
            if len(parts[pooled]) > 1:
                groups |= {f"{name}={value}": f"{name}={pooled}" for value in parts[pooled]}
    return plan, groups


def _lacks(plan: RolloutPlan, attribute: str) -> bool:
    """Whether some stage would not show its margin in some value of an attribute."""
    own = {f"{attribute}={value}" for value in plan.segments[attribute]}
    return any(
        one.segment in own and not one.suffices
        for stage in plan.watched
        for one in detectable(plan, stage)
    )


def _what_would_do(plan: RolloutPlan, stage: Stage) -> str:
    """The population, the share of the stage, or the epsilon that would show its margin."""

    def suffices(changed: RolloutPlan, at: Stage = stage) -> bool:
        return all(one.suffices for one in detectable(changed, at))

    def with_epsilon(value: float) -> RolloutPlan:
        asked = dataclasses.replace(plan.evaluation, epsilon=value)
        return dataclasses.replace(plan, evaluation=asked)

    phones = _smallest(
        lambda factor: suffices(dataclasses.replace(plan, phones=int(plan.phones * factor)))
    )
    # With half of the phones on each side a comparison is at its best.
    most = max(stage.share, 0.5)
    share = _smallest(
        lambda factor: suffices(
            plan, dataclasses.replace(stage, share=min(most, stage.share * factor))
        ),
        most / stage.share,
    )
    epsilon = _smallest(lambda factor: suffices(with_epsilon(plan.evaluation.epsilon * factor)))
    ways = [
        phones and f"a population of {_rounded_up(plan.phones * phones):,} phones",
        share and f"a stage of {percent(_rounded_up(stage.share * share))}",
        epsilon and f"epsilon = {_rounded_up(plan.evaluation.epsilon * epsilon):g}",
    ]
    named = [way for way in ways if way]
    would = f"What would do: {', or '.join(named)}" if named else "Nothing alone would do"
    return would if epsilon else f"{would}; no epsilon would, for phones differ and are too few"


def _smallest(suffices: Callable[[float], bool], most: float = 1e6) -> float | None:
    """The smallest factor above 1, to two percent, at which something suffices; None: none does."""
    low, high = 1.0, min(2.0, most)
    while not suffices(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high > 1.02 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _rounded_up(value: float) -> float:
    """A value to two digits, upward."""
    digit = 10 ** (np.floor(np.log10(value)) - 1)
    found = float(np.ceil(value / digit) * digit)
    return int(found) if found >= 100 else round(found, 6)

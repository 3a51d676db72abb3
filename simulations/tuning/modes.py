"""Three ways to search: a grid, the smallest clip norm that keeps utility, the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedspeech.privacy.guarantee import Guarantee
from fedspeech.seeds import stream
from simulations.tuning.evidence import Estimate, Evidence
from simulations.tuning.search import Judged, Search, matrices
from simulations.tuning.space import Setting, tidy

COARSE = 5  # clip norms that a boundary search starts from
GENERATION = 6  # Pareto trials that are chosen knowing the same others, whatever the workers


def grid(search: Search) -> list[Judged]:
    """Tries every combination."""
    space = search.space
    return search.evaluate(space.settings(space.clip_norm, space.noise_multiplier))


@dataclass(frozen=True, eq=False)
class Boundary:
    """The smallest clip norm that keeps utility, and how sure that is.

    Attributes:
      clip_norm: the smallest that keeps it, as far as the means tell.
      below: the next smaller one, which loses it; None if even the smallest of the range keeps it.
      loses: the largest tried that loses utility for certain (95 % interval of the difference
        below the limit); None if none does.
      keeps: the smallest tried from which on up to the reference every one keeps it for certain.
      reference: trial number of the best of the clip norms that the search starts from.
      differences: clip norm to paired difference from the reference.
      numbers: clip norm to the number of its best trial.
    """

    clip_norm: float
    below: float | None
    loses: float | None
    keeps: float
    reference: int
    differences: dict[float, Estimate]
    numbers: dict[float, int]


def boundary(search: Search, within: float, seed: int) -> tuple[list[Judged], Boundary | None]:
    """Finds the smallest clip norm that keeps accuracy within `within` of the best, by bisection.

    Five clip norms over the whole range show where the best is and between which two of them
    utility is lost; bisection does the rest. It takes accuracy to rise with the clip norm up to the
    best; where it does not, the edge found is one of several.

    Args:
      search: over one noise multiplier and at least three clip norms.
      within: accuracy that may be lost, 0.005 is half a point.
      seed: of the resamples behind intervals.

    Returns:
      Everything tried, and the boundary; None where a budget ended the search before.
    """
    clips, noises = search.space.clip_norm, search.space.noise_multiplier
    tried: dict[int, list[Judged]] = {}

    def attempt(indices: Sequence[int]) -> bool:
        wanted = {index: search.space.settings((clips[index],), noises) for index in indices}
        found = search.evaluate([setting for group in wanted.values() for setting in group])
        for index, group in wanted.items():
            members = [one for one in found if one.setting in group]
            if len(members) < len(group):
                return False
            tried[index] = members
        return True

    def champion(index: int) -> Judged:
        return max(tried[index], key=lambda found: (not found.stopped, found.accuracy))

    def differences(reference: int) -> dict[int, Estimate]:
        """Each tried clip norm against the reference, whatever was tried since, on one draw."""
        order = sorted(tried)
        evidence = Evidence(
            matrices([champion(index) for index in order]), stream(seed, "tuning boundary")
        )
        place = order.index(reference)
        return {index: evidence.difference(i, place) for i, index in enumerate(order)}

    def everything() -> list[Judged]:
        return sorted((one for group in tried.values() for one in group), key=lambda j: j.number)

    coarse = sorted({round(place) for place in np.linspace(0, len(clips) - 1, COARSE)})
    if not attempt(coarse):
        return everything(), None
    best = max(coarse, key=lambda index: champion(index).accuracy)

    def keeps(index: int) -> bool:
        return differences(best)[index].mean >= -within

    right, left = best, None
    for index in reversed([index for index in coarse if index < best]):
        if not keeps(index):
            left = index
            break
        right = index
    while left is not None and right - left > 1:
        middle = (left + right) // 2
        if not attempt([middle]):
            return everything(), None
        if keeps(middle):
            right = middle
        else:
            left = middle
    found = differences(best)
    losing = [index for index in found if index < right and found[index].high < -within]
    sure = best
    for index in sorted((index for index in found if index < best), reverse=True):
        if found[index].low < -within:
            break
        sure = index
    return everything(), Boundary(
        clip_norm=clips[right],
        below=None if left is None else clips[left],
        loses=clips[max(losing)] if losing else None,
        keeps=clips[sure],
        reference=champion(best).number,
        differences={clips[index]: found[index] for index in sorted(found)},
        numbers={clips[index]: champion(index).number for index in sorted(found)},
    )


def pareto(search: Search, trials: int, seed: int) -> list[Judged]:
    """Seeks high accuracy and small epsilon at once with Optuna's multi-objective TPE sampler.

    Ozaki et al. 2022 (doi:10.1613/jair.1.13188). The first trial is the scenario's own setting, if
    it lies in the range. Trials are chosen in generations of six that know the same others.

    Args:
      search: with two directions.
      trials: how many.
      seed: of the sampler.
    """
    done: list[Judged] = []
    while len(done) < trials:
        before = len(done)
        numbers = range(len(done), min(len(done) + GENERATION, trials))
        settings: list[Setting] = []
        for number in numbers:
            chosen = search.suggestion(number, done, seed)
            if number == 0 and _inside(search):
                chosen = search.space.own
            settings.append(_tidied(search, chosen))

        def peers(guarantee: Guarantee, known: tuple[Judged, ...] = tuple(done)) -> list[Judged]:
            """Finished trials that are at least as private."""
            return [
                other
                for other in known
                if not other.stopped
                and other.guarantee.epsilon_release <= guarantee.epsilon_release
            ]

        found = search.evaluate(settings, peers)
        done += {one.number: one for one in found if one.number >= before}.values()
        if len(found) < len(settings) or len(done) == before:
            break  # the budget is spent, or there is nothing else to try
    return done


def _inside(search: Search) -> bool:
    """Whether the scenario's own setting lies in the space."""
    space, own = search.space, search.space.own
    axes = (
        (space.clip_norm, own.clip_norm),
        (space.noise_multiplier, own.noise_multiplier),
        (space.server_learning_rate, own.server_learning_rate),
        (space.local_epochs, own.local_epochs),
    )
    return all(axis is None or axis[0] <= value <= axis[-1] for axis, value in axes)


def _tidied(search: Search, setting: Setting) -> Setting:
    """The same with four digits in what was drawn."""
    space = search.space
    return space.at(
        tidy(setting.clip_norm),
        tidy(setting.noise_multiplier),
        tidy(setting.server_learning_rate) if space.server_learning_rate else None,
        setting.local_epochs if space.local_epochs else None,
    )

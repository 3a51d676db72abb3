"""Two ways to search: a grid, and the Pareto front."""

from __future__ import annotations

from fedspeech.privacy.guarantee import Guarantee
from simulations.tuning.search import Evaluated, Search
from simulations.tuning.space import Setting, tidy

GENERATION = 6  # Pareto trials that are chosen knowing the same others, whatever the workers


def grid(search: Search) -> list[Evaluated]:
    """Tries every combination."""
    space = search.space
    return search.evaluate(space.settings(space.clip_norm, space.noise_multiplier))


def pareto(search: Search, trials: int, seed: int) -> list[Evaluated]:
    """Seeks high accuracy and small epsilon at once with Optuna's multi-objective TPE sampler.

    Ozaki et al. 2022 (doi:10.1613/jair.1.13188). The first trial is the scenario's own setting, if
    it lies in the range. Trials are chosen in generations of six that know the same others.

    Args:
      search: with two directions.
      trials: how many.
      seed: of the sampler.
    """
    done: list[Evaluated] = []
    while len(done) < trials:
        before = len(done)
        numbers = range(len(done), min(len(done) + GENERATION, trials))
        settings: list[Setting] = []
        for number in numbers:
            chosen = search.suggestion(number, done, seed)
            if number == 0 and _inside(search):
                chosen = search.space.own
            settings.append(_tidied(search, chosen))

        def peers(
            guarantee: Guarantee, known: tuple[Evaluated, ...] = tuple(done)
        ) -> list[Evaluated]:
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

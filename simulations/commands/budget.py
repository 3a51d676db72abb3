"""`fedspeech budget`: what a plan costs, what that stands on, and which plan an epsilon buys.

The plan is made where runs make theirs (`fedspeech.privacy.filling`, for a scenario
`simulations.setup.planning`), so a run costs what is printed here.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspeech.errors import FedspeechError
from simulations.commands.options import (
    CorpusOption,
    JsonOption,
    SetOption,
    choice,
    scenario_of,
)
from simulations.console import Console

if TYPE_CHECKING:
    from fedspeech.privacy.filling import Filled
    from fedspeech.privacy.pricing import Price
    from simulations.scenario.schema import Scenario

# Options of the command by the field of the plan that they fill, where the names differ.
_OPTIONS = {"ring_bits": "bits", "participation_probability": "probability"}
_UNKNOWNS = {
    "noise": "noise_multiplier", "rounds": "rounds", "cohort": "cohort", "bits": "ring_bits",
}  # fmt: skip


_NOT_OF_THE_PLAN = (
    "scenario", "changes", "corpus", "solve", "epsilon", "against", "explain", "as_json",
)  # fmt: skip
_PARTICIPATION = "privacy.participation"


class BudgetRefused(FedspeechError):
    """Options that do not fit together, or an epsilon that nothing reaches."""


def budget(
    context: typer.Context,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", "-s", help="Price this scenario's plan: a name or a file."),
    ] = None,
    changes: SetOption = None,
    corpus: CorpusOption = None,
    mechanism: Annotated[
        str | None, choice("What adds noise.", "central", "distributed", "skellam", "local")
    ] = None,
    participation: Annotated[
        str | None,
        choice("Who joins.", "poisson", "fixed_size", "round_robin", key=_PARTICIPATION),
    ] = None,
    population: Annotated[int | None, typer.Option(help="Eligible phones.")] = None,
    cohort: Annotated[float | None, typer.Option(help="Phones per round, on average.")] = None,
    probability: Annotated[
        float | None, typer.Option(help="Of one phone in one round, instead.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Planned.")] = None,
    noise_multiplier: Annotated[
        float | None,
        typer.Option(help="Stddev over the clip norm: of the sum; local: of one phone."),
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Default 1 / (10 population).")] = None,
    dimension: Annotated[
        int | None, typer.Option(help="Coordinates of a delta; default 16384.")
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Clip norm; noise is relative to it.")
    ] = None,
    ring_bits: Annotated[
        int | None, typer.Option("--bits", help="Of the ring: 16, 24 or 32; default the smallest.")
    ] = None,
    cohort_cap: Annotated[int | None, typer.Option(help="More phones are turned away.")] = None,
    min_cohort: Annotated[
        int | None, typer.Option(help="No round of fewer phones takes place.")
    ] = None,
    min_reporting: Annotated[
        int | None,
        typer.Option(help="Fewer answers are never opened; sizes the noise."),
    ] = None,
    colluders: Annotated[
        int | None, typer.Option(help="Corrupt phones that may join a round, all of them.")
    ] = None,
    dropout_rate: Annotated[
        float | None, typer.Option(help="Share of a cohort list that never answers.")
    ] = None,
    availability: Annotated[
        float | None, typer.Option(help="Share there when the fewest are; poisson only.")
    ] = None,
    secure_aggregation: Annotated[
        str | None, choice("Default as in a run.", "masked", "ideal")
    ] = None,
    clip_quantile: Annotated[
        float | None, typer.Option(help="The clip norm adapts to this share of deltas.")
    ] = None,
    max_participations: Annotated[
        int | None, typer.Option(help="Rounds a phone joins at most.")
    ] = None,
    solve: Annotated[
        str | None,
        choice("What to find for --epsilon.", "noise", "rounds", "cohort", "bits"),
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Bound to solve for.")] = None,
    against: Annotated[
        str, choice("Whose epsilon --epsilon bounds.", "release", "server")
    ] = "release",
    explain: Annotated[
        bool, typer.Option("--explain", help="Print everything that the figures stand on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Price a plan before anybody runs it: two epsilons, against whom, and what they stand on."""
    # Options of the plan are named as the fields that they fill, so they are passed on by name.
    given = {
        name: value
        for name, value in context.params.items()
        if name not in _NOT_OF_THE_PLAN and value is not None
    }
    priced = None if scenario is None else scenario_of(scenario, corpus, None, changes, None)
    try:
        if (solve is None) != (epsilon is None):
            raise ValueError("--solve and --epsilon go together: one says what, the other how much")
        make = _from_options(given, solve) if priced is None else _from_scenario(given, priced)
        found, limit = _price(make, solve, epsilon, against, cross_check=explain or as_json)
        from simulations.report.plan_price import document, print_price

        if as_json:
            facts = document(found, explain)
            if solve is not None:
                facts["solved"] = {"for": solve, "limit": limit}
            print(json.dumps(facts, indent=2, allow_nan=False))  # noqa: T201
        else:
            print_price(found, Console(markup=True), (solve, limit), explain)
    except ValueError as error:
        raise BudgetRefused(_in_options(str(error))) from None


def _from_options(given: dict[str, Any], solve: str | None) -> Callable[..., Filled]:
    """What makes a plan from options and what is solved for."""
    from fedspeech.privacy.filling import fill
    from simulations.scenario.schema import AdaptiveClippingSettings
    from simulations.setup.planning import adaptive_clipping

    solved = _UNKNOWNS.get(solve or "")
    if solved in given:
        raise ValueError(f"--solve {solve} finds it: leave {_option(solved)} out")
    needed = {"mechanism", "participation", "population", "rounds", "noise_multiplier"} - {solved}
    for name in sorted(needed - set(given)):
        raise ValueError(f"{_option(name)} is needed, or --scenario")
    if solved == "cohort":
        if "probability" in given:
            raise ValueError("--solve cohort finds the probability too: leave --probability out")
    elif "cohort" not in given and "probability" not in given:
        raise ValueError("--cohort or --probability is needed: how many phones join a round")
    if "cohort_cap" in given and given.get("mechanism") == "central":
        _say("a cohort cap is priced by mixing two loss distributions: this may take a while")
    if (quantile := given.pop("clip_quantile", None)) is not None:
        settings = AdaptiveClippingSettings(target_quantile=quantile)
        given["adaptive_clipping"] = adaptive_clipping(settings, given.get("clip_norm", 1.0))
    if given.get("noise_multiplier") == 0:
        given["mechanism"] = "none"
    return functools.partial(fill, **given)


def _from_scenario(given: dict[str, Any], scenario: Scenario) -> Callable[..., Filled]:
    from simulations.setup.definition import Experiment
    from simulations.setup.planning import maker

    for name in given:
        raise ValueError(
            f"--scenario says it all: change it by --set, and leave {_option(name)} out"
        )
    return maker(scenario.privacy, Experiment.from_scenario(scenario).sizes)


def _price(
    make: Callable[..., Filled],
    unknown: str | None,
    epsilon: float | None,
    against: str,
    *,
    cross_check: bool,
) -> tuple[Price, str]:
    """Prices, or solves and prices; with what ended the search, if not epsilon."""
    from fedspeech.privacy.pricing import price
    from fedspeech.privacy.solving import solve

    if unknown is None:
        return price(make(), cross_check=cross_check), ""
    assert epsilon is not None
    _say(f"looking for {unknown}: some dozens of prices, seconds to half a minute")
    found = solve(make, unknown, epsilon, against=against)  # type: ignore[arg-type]
    return found.price, found.limit


def _say(what: str) -> None:
    """Tells somebody who waits, without touching what a program reads."""
    print(f"fedspeech: {what}", file=sys.stderr, flush=True)  # noqa: T201


def _option(field: str) -> str:
    return "--" + _OPTIONS.get(field, field).replace("_", "-")


def _in_options(message: str) -> str:
    fields = (
        "participation_probability", "noise_multiplier", "clip_norm", "cohort_cap", "min_cohort",
        "min_reporting", "max_participations", "dropout_rate", "availability", "ring_bits",
    )  # fmt: skip
    for field in fields:
        message = re.sub(rf"\b{field}\b", _option(field), message)
    return message

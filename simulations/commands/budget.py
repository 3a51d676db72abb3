"""`fedspeech budget`: what a plan costs, what that stands on, and which plan an epsilon buys.

The plan is made where runs make theirs (`fedspeech.privacy.filling`, for a scenario
`simulations.setup.planning`), so a run costs what is printed here.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, FedspeechError
from simulations.commands.options import (
    CorpusOption,
    JsonOption,
    SetOption,
    choice,
    in_options,
    option_of,
    print_json,
    scenario_of,
)
from simulations.console import Console

# Options of the command by the field of the plan that they fill, where the names differ.
_OPTIONS = {"ring_bits": "bits", "participation_probability": "probability"}
_NOT_OF_THE_PLAN = (
    "scenario", "changes", "corpus", "plan", "solve", "epsilon", "against", "explain", "as_json",
)  # fmt: skip
_PARTICIPATION = "privacy.participation"


def budget(
    context: typer.Context,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", "-s", help="Price this scenario's plan: a name or a file."),
    ] = None,
    changes: SetOption = None,
    corpus: CorpusOption = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Price one release of this plan file to the scenario's phones: a name or a file."
        ),
    ] = None,
    mechanism: Annotated[
        str | None,
        choice(
            "What adds noise.", "central", "distributed", "skellam", "matrix_factorization", "local"
        ),
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
    min_separation: Annotated[
        int | None,
        typer.Option(help="Rounds from one of a phone to its next, at least."),
    ] = None,
    bands: Annotated[
        int | None,
        typer.Option(help="Rounds whose noise stands in one round's; 1: independent."),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(help="Of the server's step, in which noise cancels; default 0."),
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
        found = fs.budget(
            priced, plan=plan, solve=solve, epsilon=epsilon, against=against,  # type: ignore[arg-type]
            cross_check=explain or as_json, **given,
        )  # fmt: skip
    except ArgumentRefused as error:
        raise FedspeechError(_with_options(in_options(error, _OPTIONS))) from None
    if as_json:
        print_json(found.record(explain))
        return
    console = Console(markup=True)
    found.print(console, explain=explain)
    if not explain:
        console.print("\n--explain prints what these figures stand on.", style="dim")


def _with_options(message: str) -> str:
    """A rule of the plan, which names fields, said with the options that fill them."""
    fields = (
        "participation_probability", "noise_multiplier", "clip_norm", "cohort_cap", "min_cohort",
        "min_reporting", "max_participations", "dropout_rate", "availability", "ring_bits",
        "min_separation",
    )  # fmt: skip
    for field in fields:
        message = re.sub(rf"(?<!-)\b{field}\b", option_of(field, _OPTIONS), message)
    return message

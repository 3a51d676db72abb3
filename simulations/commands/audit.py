"""`fedspeech audit`: what attacks find beside what a plan promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused
from simulations.commands.options import (
    CorpusOption,
    JsonOption,
    SetOption,
    said_in_options,
    scenario_of,
    show,
)

if TYPE_CHECKING:
    from simulations.scenario.schema import Scenario


@said_in_options()
def audit(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder, whose plan is attacked.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", "-s", help="Or a scenario: a name or a file."),
    ] = None,
    changes: SetOption = None,
    corpus: CorpusOption = None,
    rounds: Annotated[int, typer.Option(help="First rounds of the plan that are played.")] = 1,
    runs: Annotated[
        int, typer.Option(help="Runs with a canary, and as many without; more prove more.")
    ] = 2000,
    confidence: Annotated[float, typer.Option(help="Of every bound.")] = 0.99,
    seed: Annotated[
        int | None,
        typer.Option(help="Noise that can be repeated; default: that of the operating system."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Attack a plan by canaries: which epsilon do they prove, beside which one is claimed?"""
    if (run is None) == (scenario is None):
        raise ArgumentRefused("give a run folder or `scenario`, one of them")
    if scenario is None:
        what: Path | Scenario = run  # type: ignore[assignment]
    else:
        what = scenario_of(scenario, corpus, None, changes, None)
    found = fs.audit(
        what, rounds=rounds, runs=runs, confidence=confidence, seed=seed,
        progress=False if as_json else None,
    )  # fmt: skip
    show(found, as_json)
    raise typer.Exit(1 if found.broken else 0)

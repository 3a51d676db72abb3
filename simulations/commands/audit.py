"""`fedspeech audit`: what attacks find beside what a plan promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused
from simulations.commands.options import (
    CacheOption,
    CorpusOption,
    JsonOption,
    SetOption,
    WorkersOption,
    said_in_options,
    scenario_of,
    show,
)

if TYPE_CHECKING:
    from simulations.scenario.schema import Scenario


CLAIM_DISPROVEN = 3
"""Exit status of a claim that an attack disproves; 1 and 2 are of a command that fails."""


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
    attacks: Annotated[
        list[str] | None,
        typer.Option(
            help="A secret (speaker, link, membership, accent, ...), one attack such as "
            "speaker:weight-cosine, or canaries; may be repeated. Default: all."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of what attacks find; default: RUN/audit, or audits/NAME."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="First rounds of the plan that canaries are played in.")
    ] = 1,
    runs: Annotated[
        int, typer.Option(help="Runs with a canary, and as many without; more prove more.")
    ] = 2000,
    confidence: Annotated[float, typer.Option(help="Of every bound.")] = 0.99,
    seed: Annotated[
        int | None,
        typer.Option(help="Noise that can be repeated; default: that of the operating system."),
    ] = None,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Attack a scenario: what leaks, to whom, under which protection, beside which epsilon?"""
    if (run is None) == (scenario is None):
        raise ArgumentRefused("give a run folder or `scenario`, one of them")
    if scenario is None:
        what: Path | Scenario = run  # type: ignore[assignment]
    else:
        what = scenario_of(scenario, corpus, None, changes, None)
    found = fs.audit(
        what, attacks=attacks or None, out=out, rounds=rounds, runs=runs, confidence=confidence,
        seed=seed, workers=workers, cache=cache, progress=False if as_json else None,
    )  # fmt: skip
    show(found, as_json)
    raise typer.Exit(CLAIM_DISPROVEN if found.broken else 0)

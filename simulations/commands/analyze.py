"""`fedspeech analyze`: ask phones what a plan file asks, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import (
    CacheOption,
    CorpusOption,
    JsonOption,
    LedgerOption,
    SeedOption,
    SetOption,
    WorkersOption,
    choice,
    scenario_of,
    show,
)


def analyze(
    plan: Annotated[str, typer.Argument(help="A plan file, or the name of one that ships.")],
    scenario: Annotated[
        str,
        typer.Option("--scenario", "-s", help="Whose phones are asked: a name or a file."),
    ],
    corpus: CorpusOption = None,
    changes: SetOption = None,
    seed: SeedOption = None,
    ledger: LedgerOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default analytics/NAME-DATE.")
    ] = None,
    engine: Annotated[
        str,
        choice("What carries the messages. The counts are the same.", "inprocess", "flower"),
    ] = "inprocess",
    workers: WorkersOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask phones what a plan file asks, once, and print the noisy counts."""
    found = fs.analyze(
        plan, scenario_of(scenario, corpus, None, changes, seed), ledger=ledger, out=out,
        engine="flower" if engine == "flower" else "inprocess", workers=workers, cache=cache,
        progress=False if as_json else None,
    )  # fmt: skip
    show(found, as_json)

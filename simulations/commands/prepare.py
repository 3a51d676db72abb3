"""`fedspeech prepare`: a job for `flwr run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import (
    BaseOption,
    CacheOption,
    CorpusOption,
    LedgerOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    WorkersOption,
    scenario_of,
)


def prepare(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for job.json.")],
    scenario: ScenarioOption = "quick",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Write a scenario's job for `flwr run . -c 'job="OUT/job.json"'`."""
    fs.prepare(
        scenario_of(scenario, corpus, base, changes, seed), out, workers=workers, cache=cache,
        ledger=ledger,
    )  # fmt: skip

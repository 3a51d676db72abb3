"""`fedspeech export`: the files of a run for phones; checks, timings and an on-device round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ScenarioError
from simulations.commands.options import JsonOption, show
from simulations.console import Console


def export(
    run: Annotated[Path | None, typer.Argument(help="A run folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default RUN/export.")] = None,
    adapter: Annotated[
        str, typer.Option(help="global, or a held-out phone: its own adapter.")
    ] = "global",
    formats: Annotated[str, typer.Option(help="Such as float,int8,cc; default: all of them.")] = "",
    corpus: Annotated[Path | None, typer.Option(help="Where the run's recordings lie now.")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Recordings that the integer files are calibrated on."),
    ] = None,
    listening_hours: Annotated[
        float | None,
        typer.Option(
            help="Synthesized hours on which detection recipes are chosen; default: [listening]."
        ),
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Check this file and print every figure.")
    ] = None,
    benchmark: Annotated[Path | None, typer.Option(help="Time this file against torch.")] = None,
    dry_run_round: Annotated[
        Path | None,
        typer.Option(help="Train one round in this personal file; publish nothing."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export a run's adapter for phones, in every format, checked; or check, time, train a file."""
    chosen = [option for option in (verify, benchmark, dry_run_round) if option]
    if len(chosen) > 1 or (run is None and not chosen):
        raise ScenarioError(
            "export takes a run folder, or one of --verify, --benchmark and --dry-run-round with a "
            "file"
        )
    console = Console()
    if verify:
        fs.verify(verify, run, corpus=corpus).print(console)
    elif benchmark:
        show(fs.benchmark(benchmark, run), as_json)
    elif dry_run_round:
        show(fs.dry_run_round(dry_run_round, run), as_json)
    elif run:
        wanted = [name.strip() for name in formats.split(",") if name.strip()]
        try:
            found = fs.export(
                run, out, adapter=adapter, formats=wanted, corpus=corpus, calibration=calibration,
                listening_hours=listening_hours,
            )  # fmt: skip
        except fs.PartlyRefused as refused:
            refused.export.print(console)
            raise
        found.print(console)

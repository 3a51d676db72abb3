"""`fedspeech listen`: stream sound through an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.commands.options import JsonOption, in_options, show
from simulations.console import Console


def listen(
    file: Annotated[Path, typer.Argument(help="An exported streaming file.")],
    wav: Annotated[Path | None, typer.Option(help="A recording to listen to.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--evaluate", help="Recordings to count errors on.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--synthetic-hours", help="Count errors on so many synthesized hours."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Smoothed probability to detect at; default: the one at which the run of FILE "
            "counted at most 10 false accepts an hour, else 0.8.",
        ),
    ] = None,
    smoothing_ms: Annotated[
        int,
        typer.Option(min=1, help="Milliseconds to average over, a multiple of 20."),
    ] = 200,
    cooldown_ms: Annotated[
        int,
        typer.Option(min=0, help="Milliseconds without detection after one, likewise."),
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of synthesized sound.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The DET curve; default det.svg beside FILE.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stream sound through an exported file: print detections, or false accepts per hour."""
    if sum(option is not None for option in (wav, folder, hours)) != 1:
        raise ScenarioError("listen takes one of --wav, --evaluate and --synthetic-hours")
    heard = {
        "threshold": threshold, "smoothing_ms": smoothing_ms, "cooldown_ms": cooldown_ms
    }  # fmt: skip
    try:
        if wav:
            fs.listen(file, wav, **heard).print(Console())  # type: ignore[arg-type]
            return
        rates = fs.evaluate_listening(
            file, folder=folder, synthetic_hours=hours, seed=seed, out=out,
            **heard,  # type: ignore[arg-type]
        )  # fmt: skip
    except ArgumentRefused as error:
        raise ScenarioError(in_options(error)) from None
    show(rates, as_json)

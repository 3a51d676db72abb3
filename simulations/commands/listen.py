"""`fedspeech listen`: stream sound through an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ScenarioError
from simulations.commands.options import JsonOption, said_in_options, show


@said_in_options()
def listen(
    file: Annotated[
        Path, typer.Argument(help="An exported streaming file, or a run folder: its model.")
    ],
    wav: Annotated[Path | None, typer.Option(help="A recording to listen to.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Recordings of any length to count errors on."),
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
            help="Smoothed probability to detect at; default: the detection recipe in the card "
            "beside FILE, else 0.8.",
        ),
    ] = None,
    smoothing_ms: Annotated[
        int | None,
        typer.Option(
            min=1, help="Milliseconds to average over, a multiple of 20; default: the recipe's."
        ),
    ] = None,
    cooldown_ms: Annotated[
        int | None,
        typer.Option(min=0, help="Milliseconds without detection after one, likewise."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of synthesized sound.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The DET curve; default det.svg beside FILE.")
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Hear --synthetic-hours with every file of the run FILE."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stream sound through an exported file: print detections, or false accepts per hour.

    With --compare, FILE is a run: its model and all of its files listen by one recipe.
    """
    if sum(option is not None for option in (wav, folder, hours)) != 1:
        raise ScenarioError("listen takes one of --wav, --folder and --synthetic-hours")
    if compare and hours:
        show(fs.compare_kinds(file, synthetic_hours=hours, seed=seed), as_json)
        return
    if wav:
        show(
            fs.listen(
                file, wav, threshold=threshold, smoothing_ms=smoothing_ms,
                cooldown_ms=cooldown_ms,
            ),
            as_json,
        )  # fmt: skip
        return
    rates = fs.evaluate_listening(
        file, folder=folder, synthetic_hours=hours, seed=seed, out=out, threshold=threshold,
        smoothing_ms=smoothing_ms, cooldown_ms=cooldown_ms,
    )  # fmt: skip
    show(rates, as_json)

"""`fedspeech listen`: stream sound through an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedspeech.errors import ScenarioError
from simulations.commands.options import JsonOption


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
    from fedspeech.evaluation.streaming import ListeningRules
    from simulations.artifacts import stream_evaluation

    rules = ListeningRules(
        smoothing_hops=_hops("--smoothing-ms", smoothing_ms),
        cooldown_hops=_hops("--cooldown-ms", cooldown_ms),
    )
    if threshold is None:
        threshold = stream_evaluation.threshold_of(file)
    if wav:
        stream_evaluation.listen_to(file, wav, threshold, rules)
        return
    stream_evaluation.evaluate(
        file, folder=folder, hours=hours, threshold=threshold, rules=rules, seed=seed, out=out,
        as_json=as_json,
    )  # fmt: skip


def _hops(option: str, duration_ms: int) -> int:
    """A duration in hops of the front end.

    Raises:
      BadParameter: if it is no whole number of hops.
    """
    from fedspeech.audio.spec import FrontendSpec

    hop_ms = FrontendSpec().hop_ms
    if duration_ms % hop_ms:
        raise typer.BadParameter(
            f"must be a multiple of {hop_ms:g} ms, got {duration_ms}", param_hint=option
        )
    return int(duration_ms // hop_ms)

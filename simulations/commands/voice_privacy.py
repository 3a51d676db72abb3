"""`fedspeech voice-privacy`: what is left of a speaker, and of use, from plain JSON."""

from __future__ import annotations

from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import FedspeechError
from simulations.commands.options import JsonOption, print_json, show
from simulations.console import Console


def voice_privacy(
    source: Annotated[str, typer.Argument(help="A JSON file; - or nothing: standard input.")] = "-",
    metric: Annotated[str | None, typer.Option(help="What to compute: a name of --list.")] = None,
    list_metrics: Annotated[
        bool, typer.Option("--list", help="List every metric with the fields of its input.")
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=100, max=100_000, help="Draws behind an interval.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure voice privacy and use: EER, linkability, ranks, WER and more, with intervals."""
    if list_metrics:
        rows = fs.voice_privacy_metrics()
        if as_json:
            print_json(list(rows))
            return
        console = Console()
        for row in rows:
            console.print(f"{row['metric']}: {row['says']}\n    {row['fields']}")
        return
    if metric is None:
        raise FedspeechError("--metric names what to compute; --list shows all")
    show(fs.voice_privacy_file(metric, source, seed=seed, resamples=resamples), as_json)

"""`fedspeech jingles`: a test set for sound that wakes one class of devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import (
    CacheOption,
    JsonOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    said_in_options,
    scenario_of,
    show,
)


@said_in_options()
def jingles(
    device: Annotated[str, typer.Argument(help="Class of devices, such as speakerphone.")],
    scenario: ScenarioOption = "default",
    changes: SetOption = None,
    threshold: Annotated[float, typer.Option(help="At which devices wake now.")] = 0.7,
    candidates: Annotated[int, typer.Option(help="Jingles that are drawn.")] = 24,
    recordings: Annotated[int, typer.Option(help="Devices of each class that hear each.")] = 12,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the test set's recordings.")
    ] = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw jingles, keep those that wake one class of devices most, and try thresholds on them."""
    found = fs.find_jingles(
        device, scenario_of(scenario, None, None, changes, None), threshold=threshold,
        candidates=candidates, recordings=recordings, out=out, seed=seed, cache=cache,
        progress=False if as_json else None,
    )  # fmt: skip
    show(found, as_json)

"""`fedspeech tune`: search clip norm and noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import fedspeech as fs
from simulations.commands.options import (
    BaseOption,
    CacheOption,
    CorpusOption,
    DeviceOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    WorkersOption,
    choice,
    said_in_options,
    scenario_of,
)

if TYPE_CHECKING:
    from simulations.tuning.results import Mode


@said_in_options({"public": "population public"})
def tune(
    mode: Annotated[str, choice("How to search.", "grid", "pareto")] = "grid",
    scenario: ScenarioOption = "quick",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    clip_norm: Annotated[
        str | None, typer.Option(help="LO:HI:STEPS (log-spaced), or a,b,c.")
    ] = None,
    noise_multiplier: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    server_learning_rate: Annotated[
        str | None,
        typer.Option(help="Likewise; without it, learning rate x clip norm stays constant."),
    ] = None,
    local_epochs: Annotated[str | None, typer.Option(help="Likewise, whole numbers.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many; default 3, charged 1.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Of mode pareto.")] = 24,
    max_accuracy_drop_points: Annotated[
        float,
        typer.Option(min=0, max=100, help="Percentage points of accuracy that privacy may cost."),
    ] = 0.5,
    population: Annotated[
        str | None,
        choice("Declares the recordings of --corpus public.", "public"),
    ] = None,
    charge: Annotated[
        Path | None,
        typer.Option(help="Ledger of the population that pays for every trial."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder, or one to go on with; default runs/tune-NAME."),
    ] = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
) -> None:
    """Search clip norm and noise: a recommendation with its uncertainty, and a scenario to run."""
    fs.tune(
        scenario_of(scenario, corpus, base, changes, seed), mode=cast("Mode", mode),
        clip_norm=clip_norm, noise_multiplier=noise_multiplier,
        server_learning_rate=server_learning_rate, local_epochs=local_epochs, seeds=seeds,
        trials=trials, max_accuracy_drop_points=max_accuracy_drop_points,
        public=population is not None, charge=charge, out=out, workers=workers, cache=cache,
        device=device,
    )  # fmt: skip

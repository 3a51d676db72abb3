"""`fedspeech mitigate`: what a risk policy does before anybody trains again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import (
    CorpusOption,
    JsonOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    said_in_options,
    scenario_of,
    show,
)


@said_in_options()
def mitigate(
    policy: Annotated[Path, typer.Argument(metavar="FILE", help="A risk policy, TOML.")],
    scenario: ScenarioOption = "default",
    changes: SetOption = None,
    corpus: CorpusOption = None,
    phones: Annotated[int, typer.Option(help="Simulated, of the scenario's kinds.")] = 20_000,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a risk policy on simulated users, beside what training together would cost."""
    chosen = scenario_of(scenario, corpus, None, changes, seed)
    show(fs.mitigate(policy, chosen, phones=phones), as_json)

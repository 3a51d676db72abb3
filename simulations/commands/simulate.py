"""`fedspeech simulate`: one run from scenario to report."""

from __future__ import annotations

from typing import Annotated

import fedspeech as fs
from simulations.commands.options import (
    BaseOption,
    CacheOption,
    CorpusOption,
    DeviceOption,
    LedgerOption,
    OutOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    WorkersOption,
    choice,
    scenario_of,
)


def simulate(
    scenario: ScenarioOption = "default",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    out: OutOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    engine: Annotated[
        str,
        choice(
            "What carries the messages; flower is Flower's simulation engine, on Ray "
            "(RAY_ADDRESS names a cluster that is there). The bits are the same.",
            "inprocess",
            "flower",
        ),
    ] = "inprocess",
    ledger: LedgerOption = None,
) -> None:
    """Run a scenario: federated rounds, personalization, export, report."""
    fs.simulate(
        scenario_of(scenario, corpus, base, changes, seed), out=out, workers=workers, cache=cache,
        device=device, ledger=ledger, engine="flower" if engine == "flower" else "inprocess",
    )  # fmt: skip

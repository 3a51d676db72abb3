"""`fedspeech simulate`: one run from scenario to report."""

from __future__ import annotations

import typer

from simulations.commands.options import (
    BaseOption,
    CacheOption,
    CorpusOption,
    EngineOption,
    LedgerOption,
    OutOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    WorkersOption,
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
    engine: EngineOption = "inprocess",
    ledger: LedgerOption = None,
) -> None:
    """Run a scenario: federated rounds, personalization, export, report."""
    if engine not in ("inprocess", "flower"):
        raise typer.BadParameter(f"{engine!r} is not inprocess or flower", param_hint="--engine")
    resolved = scenario_of(scenario, corpus, base, changes, seed)
    # Only now, since torch takes seconds that a typing error need not wait.
    from simulations.run.runner import simulate as run

    run(
        resolved,
        out=out,
        workers=workers,
        cache=cache,
        engine="flower" if engine == "flower" else "inprocess",
        ledger=ledger,
    )

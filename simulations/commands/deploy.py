"""`fedspeech deploy`: a deployment on this machine, and keys for several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import (
    BaseOption,
    CacheOption,
    CorpusOption,
    LedgerOption,
    OutOption,
    ScenarioOption,
    SeedOption,
    SetOption,
    WorkersOption,
    said_in_options,
    scenario_of,
)


def local(
    nodes: Annotated[int, typer.Option(min=1, help="SuperNodes, a shard each.")] = 4,
    scenario: ScenarioOption = "quick",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    out: OutOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    ledger: LedgerOption = None,
    seeded_noise: Annotated[
        bool,
        typer.Option(
            "--seeded-noise",
            help="Noise from the seed, so that the run can be repeated; every artifact says so.",
        ),
    ] = False,
) -> None:
    """Bring up SuperLink and SuperNodes on this machine, run a scenario, report, tear down.

    TLS and node authentication with certificates made on the spot; noise from the operating system.
    """
    # Whoever knows a seed can take its noise off a sum, so a deployment has to be asked for it.
    noise = "seeded" if seeded_noise else "os"
    settings = [*(changes or []), f"simulation.shards={nodes}", f"noise_entropy={noise}"]
    fs.simulate(
        scenario_of(scenario, corpus, base, settings, seed), out=out, workers=workers, cache=cache,
        engine="deployment", ledger=ledger,
    )  # fmt: skip


@said_in_options()
def keys(
    folder: Annotated[Path, typer.Argument(help="A new folder, for this user alone.")],
    address: Annotated[str, typer.Option(help="IP address of the SuperLink.")],
    nodes: Annotated[int, typer.Option(min=1, help="SuperNodes.")],
    valid_days: Annotated[int, typer.Option(min=1, help="Of certificates.")] = 365,
) -> None:
    """Make certificates and keys for a deployment on several machines."""
    fs.deployment_keys(folder, address, nodes=nodes, valid_days=valid_days)
    typer.echo(f"{folder}: ca.pem, server.pem, server.key, node-0 to node-{nodes - 1} with .pub")

"""`fedspeech secagg`: what masks cost."""

from __future__ import annotations

from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, said_in_options, show


@said_in_options()
def bench(
    phones: Annotated[int, typer.Option(min=2, help="On the cohort list.")] = 100,
    dimension: Annotated[int, typer.Option(min=1, help="Coordinates.")] = 10_000,
    bits: Annotated[int, typer.Option(min=1, max=32, help="Of the ring.")] = 16,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Share that vanishes.")] = 0.1,
    threat_model: Annotated[
        str,
        typer.Option(help="Server that the graph withstands: malicious or semi_honest."),
    ] = "malicious",
    colluders: Annotated[
        int | None, typer.Option(min=0, help="Default: a tenth of the phones.")
    ] = None,
    unshared: Annotated[
        bool, typer.Option("--unshared", help="Also without computing shared things once.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run one masked sum on one core, and its primitives alone: CPU seconds, bytes, neighbors."""
    cost = fs.secagg_cost(
        phones, dimension, bits=bits, dropout=dropout, colluders=colluders, unshared=unshared,
        threat_model=threat_model,  # type: ignore[arg-type]
    )  # fmt: skip
    show(cost, as_json)

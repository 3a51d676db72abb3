"""`fedspeech ledger`: what a population has spent, run by run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, said_in_options, show


@said_in_options()
def ledger(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A population's ledger, or a run folder.")
    ],
    head: Annotated[
        str | None,
        typer.Option(help="A row that must be in it, NUMBER:SHA256 as an earlier call printed it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a ledger and print what its population has spent, run by run."""
    found = fs.ledger(path, head=head)
    show(found, as_json)

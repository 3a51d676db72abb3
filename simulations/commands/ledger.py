"""`fedspeech ledger`: what a population has spent, run by run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.commands.options import JsonOption, in_options, show


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
    try:
        found = fs.ledger(path, head=head)
    except ArgumentRefused as error:
        raise ScenarioError(in_options(error)) from None
    show(found, as_json)

"""`fedspeech report`: the page of a run."""

from __future__ import annotations

from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import RunArgument


def report(
    run: RunArgument,
    publish: Annotated[
        bool, typer.Option("--publish", help="Leave out what only the operator may see.")
    ] = False,
) -> None:
    """Write a run's report as one offline HTML file."""
    typer.echo(str(fs.load_run(run).report(publish=publish)))

"""`fedspeech report`: the page of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from simulations.commands.options import RunArgument


def report(
    run: RunArgument,
    publish: Annotated[
        bool, typer.Option("--publish", help="Leave out what only the operator may see.")
    ] = False,
) -> None:
    """Write a run's report as one offline HTML file."""
    from simulations.report.writing import write_report

    typer.echo(str(write_report(run, publish=publish)))

"""`fedspeech report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    publish: Annotated[
        bool, typer.Option("--publish", help="Leave out what only the operator may see.")
    ] = False,
) -> None:
    """Write a run's report as one offline HTML file."""
    from simulations.report.writing import write_report

    typer.echo(str(write_report(run, publish=publish)))

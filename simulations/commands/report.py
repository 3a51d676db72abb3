"""`fedspeech report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import RunArgument


def report(
    run: RunArgument,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="For everybody: without what the operator alone may see."),
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="That a page for everybody passes; default: the public's.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Signs the manifest that lies beside such a page.")
    ] = None,
) -> None:
    """Write a run's report as one offline HTML file; for everybody only what passes the gate."""
    typer.echo(str(fs.load_run(run).report(publish=publish, policy=policy, key=key)))

"""`fedspeech scenarios`: the scenarios that ship, and every key of one."""

from __future__ import annotations

from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import SetOption, read
from simulations.console import Console, table


def list_shipped() -> None:
    """List the scenarios that ship with the package."""
    shipped = fs.scenarios()
    Console().print(table(shipped.columns, [tuple(row.values()) for row in shipped]))


def show(
    name: Annotated[str, typer.Argument(help="A shipped scenario, or a .toml file.")],
    changes: SetOption = None,
) -> None:
    """Print a scenario with every key and default: a file to start from."""
    typer.echo(fs.to_toml(read(name, changes or ())), nl=False)

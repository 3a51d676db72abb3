"""`fedspeech scenarios`: the scenarios that ship, and every key of one."""

from __future__ import annotations

from typing import Annotated

import typer

from simulations.commands.options import SetOption, read
from simulations.console import Console, table


def list_shipped() -> None:
    """List the scenarios that ship with the package."""
    from simulations.scenario.reading import read_scenario, scenario_names

    shipped = [(name, read_scenario(name).description) for name in scenario_names()]
    Console().print(table(("scenario", "what it is"), shipped))


def show(
    name: Annotated[str, typer.Argument(help="A shipped scenario, or a .toml file.")],
    changes: SetOption = None,
) -> None:
    """Print a scenario with every key and default: a file to start from."""
    scenario = read(name, changes or ())
    from simulations.scenario.writing import to_toml

    typer.echo(to_toml(scenario), nl=False)

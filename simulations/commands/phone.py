"""`fedspeech phone`: what a phone holds, and what left it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption
from simulations.commands.options import show as show_found


def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a phone's store.")],
    keys: Annotated[Path, typer.Option(help="Folder of its software key store.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a phone holds, until when, under which consent, what left it and what was erased.

    No content is opened for it. A process that holds the store must have ended.
    """
    show_found(fs.phone_show(folder, keys=keys), as_json)

"""`fedspeech resume`: go on with a run that stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations.commands.options import (
    CacheOption,
    WorkersOption,
)


def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    workers: WorkersOption = None,
    cache: CacheOption = None,
) -> None:
    """Go on with a run that was killed, interrupted or out of disk."""
    from simulations.run.resume import resume as go_on

    go_on(run, workers=workers, cache=cache)

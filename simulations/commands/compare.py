"""`fedspeech compare`: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations.console import Console


def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Show how two runs differ: settings, accuracy, epsilons."""
    from simulations.report.comparison import comparison

    Console().print(comparison(first, second))

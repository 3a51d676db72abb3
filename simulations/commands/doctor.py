"""`fedspeech doctor`: whether every part works on this machine."""

from __future__ import annotations

import typer

import fedspeech as fs
from simulations.console import Console


def doctor() -> None:
    """Check this machine: versions, cores, memory, disk, and one pass through every part."""
    console = Console()
    found = fs.doctor(lambda finding: finding.print(console))
    raise typer.Exit(0 if found.healthy else 1)

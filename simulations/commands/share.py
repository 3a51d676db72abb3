"""`fedspeech share`: may this file leave, and may those that left before still be used?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, show

PolicyOption = Annotated[Path, typer.Option(help="What the audience may be given: a TOML file.")]


def check(
    file: Annotated[Path, typer.Argument(help="What somebody wants to share.")],
    policy: PolicyOption,
    manifest: Annotated[
        Path | None,
        typer.Option(help="What it says of itself; default: FILE.manifest.json beside it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a file against every rule; exit status 0 only if it passes all of them."""
    found = fs.share_check(file, policy=policy, manifest=manifest)
    show(found, as_json)
    raise typer.Exit(0 if found.passed else 1)


def recheck(
    folder: Annotated[Path, typer.Argument(help="A folder of artifacts and their manifests.")],
    policy: PolicyOption,
    as_json: JsonOption = False,
) -> None:
    """Hold what was shared before against the rules of today."""
    found = fs.share_recheck(folder, policy=policy)
    show(found, as_json)
    raise typer.Exit(0 if found.passed else 1)

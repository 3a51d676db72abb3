"""`fedspeech evidence`: what the files of a run show a reviewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, said_in_options, show


@said_in_options()
def evidence(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A new or empty folder for the papers."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Whose transcripts and access log are looked at: a TOML file."),
    ] = None,
    phone: Annotated[Path | None, typer.Option(help="Folder of a phone's store.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Folder of its keys.")] = None,
    rollout: Annotated[Path | None, typer.Option(help="Folder of a roll-out.")] = None,
    risk_policy: Annotated[
        Path | None, typer.Option(help="What phones ask before they act: a TOML file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a reviewer's questions from files, each with the line that shows it."""
    show(fs.evidence(
        run, out=out, policy=policy, phone=phone, keys=keys, rollout=rollout,
        risk_policy=risk_policy,
    ), as_json)  # fmt: skip

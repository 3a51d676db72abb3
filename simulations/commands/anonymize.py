"""`fedspeech anonymize`: recordings in other voices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, choice, show


def anonymize(
    source: Annotated[Path, typer.Argument(help="A recording, or a folder of recordings.")],
    target: Annotated[
        Path, typer.Argument(help="A new .wav or .flac file, or a new or empty folder.")
    ],
    method: Annotated[
        Any,
        choice("How voices are changed.", "mcadams", "resampling", "f0-reversion", "noise"),
    ],
    per: Annotated[
        Any, choice("What gets a voice of its own; a speaker is a folder.", "utterance", "speaker")
    ] = "utterance",
    seed: Annotated[
        int | None, typer.Option(help="Of the draws; default: the operating system draws.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write recordings in other voices. No method protects against an attacker who knows it."""
    show(fs.anonymize(source, target, method=method, per=per, seed=seed), as_json)

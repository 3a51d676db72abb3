"""`fedspeech redact`: transcripts without what names or finds a person."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import fedspeech as fs


def redact(
    source: Annotated[
        str,
        typer.Argument(
            help="JSON lines with text, contacts and region; - or nothing: standard input."
        ),
    ] = "-",
) -> None:
    """Redact transcripts, one JSON object a line: text, contacts, region to redacted, label."""
    for found in fs.redact_lines(source):
        typer.echo(json.dumps(found._asdict()))

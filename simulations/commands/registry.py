"""`fedspeech registry`: what was published for phones, and what each is handed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, print_json, said_in_options, show

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The registry's folder.")]
_NAMES = {"base": "for", "epoch": "keys-epoch"}


def begin(
    folder: FolderArgument,
    trust: Annotated[Path, typer.Option(help="Public keys of the publisher: trust.json.")],
    as_json: JsonOption = False,
) -> None:
    """Begin a registry for a publisher's keys."""
    show(fs.registry(folder, trust=trust), as_json)


def list_releases(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Check a registry's rows and list what was published."""
    show(fs.registry(folder), as_json)


@said_in_options()
def publish(
    folder: FolderArgument,
    adapter: Annotated[Path, typer.Argument(help="An adapter.safetensors of an export.")],
    key: Annotated[Path, typer.Option(help="The signing key.")],
    model: Annotated[str, typer.Option(help="Name of the line of adapters.")],
    valid_days: Annotated[float, typer.Option(help="For how long phones take it.")] = 90.0,
    seeded_noise: Annotated[
        bool,
        typer.Option(
            "--seeded-noise",
            help="Mark a trial: the noise can be computed from the seed of its run.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign an adapter as the next version, whole and as differences to the last three."""
    found = fs.registry_publish(
        folder, adapter, key=key, model=model, valid_days=valid_days, seeded_noise=seeded_noise
    )
    show(found, as_json)


def rotate(
    folder: FolderArgument,
    statement: Annotated[Path, typer.Argument(help="What `fedspeech ota rotate` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Publish new keys; adapters are then published under them again."""
    show(fs.registry_rotate(folder, statement), as_json)


@said_in_options(_NAMES)
def latest(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle.")],
    base: Annotated[str, typer.Option("--for", help="The phone's base, a file or its SHA-256.")],
    have: Annotated[
        str | None, typer.Option(help="Version in use on the phone; default: none.")
    ] = None,
    epoch: Annotated[
        int | None,
        typer.Option("--keys-epoch", help="Of the keys that it trusts; default: that of --have."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Line of adapters; default: the only one for the base.")
    ] = None,
    most: Annotated[
        str | None, typer.Option(help="Nothing above this version: a roll-out has not come to it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the bundle that a phone needs next: new keys, a difference, or a whole adapter."""
    found = fs.registry_latest(
        folder, out, base=base, have=have, epoch=epoch, model=model, most=most
    )
    if found is not None:
        show(found, as_json)
    elif as_json:
        print_json({"kind": "none"})
    else:
        typer.echo("the phone has the newest")

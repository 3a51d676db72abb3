"""`fedspeech ota`: adapters for phones over the air, and what a phone does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, said_in_options, show

AdapterArgument = Annotated[Path, typer.Argument(help="An adapter.safetensors of an export.")]
BundleArgument = Annotated[Path, typer.Argument(help="A bundle, as it came.")]
PhoneArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A phone's folder.")]
KeyOption = Annotated[Path, typer.Option(help="The signing key.")]
TrustOption = Annotated[Path, typer.Option(help="Public keys of the publisher: trust.json.")]
ModelOption = Annotated[str, typer.Option(help="Name of the line of adapters.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The bundle.")]
DaysOption = Annotated[float, typer.Option(help="For how long phones take it.")]
TrialOption = Annotated[
    bool,
    typer.Option(
        "--seeded-noise",
        help="Mark a trial: the noise can be computed from the seed of its run.",
    ),
]


def keys(
    folder: Annotated[Path, typer.Argument(help="A new folder, for this user alone.")],
) -> None:
    """Make a publisher's signing key, recovery key, and the public halves for the app."""
    fs.ota_keys(folder)
    typer.echo(f"{folder}: signing.pem, recovery.pem (keep it offline), trust.json (for the app)")


@said_in_options()
def make(
    adapter: AdapterArgument,
    out: OutOption,
    key: KeyOption,
    model: ModelOption,
    version: Annotated[str, typer.Option(help="EPOCH.NUMBER, above every one before.")],
    delta_from: Annotated[
        Path | None, typer.Option(help="The adapter file that phones have; default: the whole.")
    ] = None,
    valid_days: DaysOption = 90.0,
    phone: Annotated[
        str | None, typer.Option(help="The one phone whose user's own adapter this is.")
    ] = None,
    seeded_noise: TrialOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign an adapter for phones."""
    made = fs.ota_make(
        adapter, out, key=key, model=model, version=version, delta_from=delta_from,
        valid_days=valid_days, phone=phone, seeded_noise=seeded_noise,
    )  # fmt: skip
    show(made, as_json)


@said_in_options()
def rotate(
    folder: Annotated[Path, typer.Argument(help="A new folder for the new keys.")],
    out: OutOption,
    recovery: Annotated[Path, typer.Option(help="The recovery key that phones trust so far.")],
    trust: TrustOption,
    as_json: JsonOption = False,
) -> None:
    """Make new keys, and the statement by which phones trust them instead."""
    made = fs.ota_rotate(folder, out, recovery=recovery, trust=trust)
    show(made, as_json)


@said_in_options()
def verify(
    bundle: BundleArgument,
    trust: TrustOption,
    delta_from: Annotated[
        Path | None, typer.Option(help="The adapter file that a difference starts from.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle as a phone does."""
    found = fs.ota_verify(bundle, trust=trust, delta_from=delta_from)
    show(found, as_json)


@said_in_options()
def enroll(
    folder: PhoneArgument,
    adapter: Annotated[Path, typer.Option(help="That the app ships with.")],
    trust: TrustOption,
    model: ModelOption,
    version: Annotated[
        str | None, typer.Option(help="That it was published as; default: before the first.")
    ] = None,
    phone: Annotated[
        str | None, typer.Option(help="Pseudonym, if its user's adapter may come back to it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a phone's folder with what its app ships with."""
    made = fs.ota_enroll(folder, adapter, trust=trust, model=model, version=version, phone=phone)
    show(made, as_json)


def apply(bundle: BundleArgument, folder: PhoneArgument, as_json: JsonOption = False) -> None:
    """Hand a bundle to a phone."""
    show(fs.ota_apply(bundle, folder), as_json)


def confirm(folder: PhoneArgument, as_json: JsonOption = False) -> None:
    """Note that the adapter in use works; a rollback comes back to it."""
    show(fs.ota_confirm(folder), as_json)


def rollback(folder: PhoneArgument, as_json: JsonOption = False) -> None:
    """Go back to the last adapter that worked."""
    show(fs.ota_rollback(folder), as_json)

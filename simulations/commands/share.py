"""`fedspeech share`: may this file leave, and may those that left before still be used?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, choice, said_in_options, show

PolicyOption = Annotated[Path, typer.Option(help="What the audience may be given: a TOML file.")]

ActorOption = Annotated[str, typer.Option(help="Who, as the access log names them.")]
RoleOption = Annotated[
    str,
    typer.Option("--as", metavar="ROLE", help="Their role: owner, analyst, auditor or partner."),
]
PurposeOption = Annotated[str, typer.Option(help="Why, in words.")]


@said_in_options()
def run(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    to: Annotated[str, choice("The audience.", "public", "partner", "internal")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new or empty folder.")],
    policy: PolicyOption,
    key: Annotated[Path, typer.Option(help="The Ed25519 key that signs the manifests.")],
    purpose: Annotated[str, typer.Option(help="Why the files are shared.")],
    days: Annotated[float, typer.Option(help="For how long they may be used.")] = 180.0,
    seeded_noise: Annotated[
        bool,
        typer.Option(
            "--seeded-noise",
            help="A trial: the noise can be computed from the seed of its run.",
        ),
    ] = False,
    actor: ActorOption = "owner",
    role: RoleOption = "owner",
    as_json: JsonOption = False,
) -> None:
    """Make the files of a run for an audience; what does not pass the gate is not written."""
    found = fs.share(
        folder, to=to, out=out, policy=policy, key=key, purpose=purpose, days=days,
        seeded_noise=seeded_noise, actor=actor, role=role,
    )  # fmt: skip
    show(found, as_json)


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
    found = fs.share_recheck(folder, policy=policy, workers=os.cpu_count() or 1)
    show(found, as_json)
    raise typer.Exit(0 if found.passed else 1)


def read(
    file: Annotated[Path, typer.Argument(help="An artifact, or a file of a run.")],
    policy: PolicyOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the copy goes.")],
    purpose: PurposeOption,
    actor: ActorOption,
    role: RoleOption,
    as_json: JsonOption = False,
) -> None:
    """Copy an artifact for somebody whose role may read it; the access log says so first."""
    show(fs.share_read(
        file, policy=policy, out=out, purpose=purpose, actor=actor, role=role
    ), as_json)  # fmt: skip


def log(
    policy: PolicyOption,
    purpose: PurposeOption,
    actor: ActorOption = "owner",
    role: RoleOption = "owner",
    as_json: JsonOption = False,
) -> None:
    """Print who read what and what was given away, which is a row itself."""
    show(fs.share_log(policy, purpose=purpose, actor=actor, role=role), as_json)


def pseudonymize(
    file: Annotated[Path, typer.Argument(help="Text, a table or a document.")],
    policy: PolicyOption,
    key: Annotated[Path, typer.Option(help="Of the release; made if nothing lies there.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the copy goes.")],
) -> None:
    """Copy a text with a placeholder for everybody of the policy's registry."""
    typer.echo(str(fs.share_pseudonymize(file, policy=policy, key=key, out=out)))


def destroy(
    key: Annotated[Path, typer.Argument(help="The key of a release.")],
    policy: PolicyOption,
    purpose: PurposeOption,
    actor: ActorOption = "owner",
    role: RoleOption = "owner",
) -> None:
    """Destroy the key of placeholders, so that nobody links them to people any more."""
    typer.echo(fs.share_destroy(key, policy=policy, purpose=purpose, actor=actor, role=role))

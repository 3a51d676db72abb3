"""`fedspeech share`: may this file leave, and may those that left before still be used?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import JsonOption, choice, said_in_options, show

PolicyOption = Annotated[Path, typer.Option(help="What the audience may be given: a TOML file.")]


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
    as_json: JsonOption = False,
) -> None:
    """Make the files of a run for an audience; what does not pass the gate is not written."""
    found = fs.share(
        folder, to=to, out=out, policy=policy, key=key, purpose=purpose, days=days,
        seeded_noise=seeded_noise,
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
    found = fs.share_recheck(folder, policy=policy)
    show(found, as_json)
    raise typer.Exit(0 if found.passed else 1)

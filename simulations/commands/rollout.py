"""`fedspeech rollout`: a new version in stages, guarded by counts, with every decision a row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused
from simulations.commands.options import JsonOption, SetOption, read, said_in_options, show

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The roll-out's folder.")]
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan of a roll-out, TOML.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it stands in the row.")]


@said_in_options()
def plan(file: PlanArgument, as_json: JsonOption = False) -> None:
    """Say the smallest loss that each segment shows in each stage, before anything starts."""
    show(fs.rollout_forecast(file), as_json)


@said_in_options()
def start(
    folder: FolderArgument,
    file: PlanArgument,
    registry: Annotated[Path, typer.Option(help="Where the versions were published.")],
    model: Annotated[str, typer.Option(help="Name of the line of adapters.")],
    base: Annotated[
        str | None, typer.Option(help="SHA-256 of the base; default: the only one of the model.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Ledger of the run that trained the adapter.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Plan file of the federated evaluation.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", "-s", help="Of the phones; its stage must have counts."),
    ] = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open the first stage of the newest version, against the one before it."""
    found = fs.rollout_start(
        folder, file, registry=registry, model=model, base=base, ledger=ledger,
        evaluation=evaluation, scenario=None if scenario is None else read(scenario, changes or ()),
    )  # fmt: skip
    show(found, as_json)


@said_in_options()
def look(
    folder: FolderArgument,
    window: Annotated[
        Path | None, typer.Argument(help="Counts, JSON, or a release by version; default: two.")
    ] = None,
    new: Annotated[
        Path | None, typer.Option(help="A release that evaluates the new version in the window.")
    ] = None,
    old: Annotated[Path | None, typer.Option(help="Likewise of the old version.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look after one more window: promotes, pauses or rolls back by itself."""
    show(fs.rollout_look(folder, window, new=new, old=old), as_json)


def promote(folder: FolderArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Open the next stage by hand."""
    show(fs.rollout_promote(folder, reason), as_json)


def pause(folder: FolderArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Keep the share as it is; harm still rolls back."""
    show(fs.rollout_pause(folder, reason), as_json)


def resume(folder: FolderArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """End a pause."""
    show(fs.rollout_resume(folder, reason), as_json)


def rollback(folder: FolderArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Give every phone the old version back."""
    show(fs.rollout_rollback(folder, reason), as_json)


def status(
    folder: FolderArgument,
    registry: Annotated[
        Path | None, typer.Option(help="Compare the versions with what was published here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a roll-out's rows and say where it stands."""
    show(fs.rollout_status(folder, registry=registry), as_json)


def page(
    folder: FolderArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; default: rollout.html in it.")
    ] = None,
) -> None:
    """Write a roll-out as one offline page."""
    typer.echo(fs.rollout_page(folder, out))


@said_in_options()
def statement(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The statement.")],
    key: Annotated[Path, typer.Option(help="The signing key.")],
    valid_days: Annotated[float, typer.Option(help="For how long phones act on it.")] = 90.0,
) -> None:
    """Sign what every phone is told of the stage that is open."""
    typer.echo(fs.rollout_statement(folder, out, key=key, valid_days=valid_days))


def hear(
    file: Annotated[Path, typer.Argument(metavar="STATEMENT", help="A signed statement.")],
    phone: Annotated[Path, typer.Argument(metavar="PHONE", help="A phone's folder.")],
) -> None:
    """Hand a statement to a phone: it says take, wait or go back."""
    typer.echo(fs.rollout_hear(file, phone))


@said_in_options({"losses": "loss"})
def simulate(
    file: PlanArgument,
    loss: Annotated[
        list[str] | None,
        typer.Option(help="What the update costs a segment, such as accent=scottish:5, in points."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many roll-outs.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Carry a plan out many times with an update of known effect."""
    losses = dict(_loss(text) for text in loss or [])
    show(fs.rollout_simulate(file, losses=losses, seeds=seeds), as_json)


def _loss(text: str) -> tuple[str, float]:
    """A segment and its loss as a share."""
    name, _, points = text.rpartition(":")
    try:
        return name, float(points) / 100
    except ValueError:
        raise ArgumentRefused(
            f"`loss` is SEGMENT:POINTS, such as accent=scottish:5, got {text!r}"
        ) from None

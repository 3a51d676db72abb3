"""`fedspeech ledger`: what a population has spent, run by run, from its ledger alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspeech.errors import ScenarioError
from simulations.commands.options import JsonOption
from simulations.console import Console, table

if TYPE_CHECKING:
    from fedspeech.hash_chain import Head
    from fedspeech.privacy.ledger import Ledger


def ledger(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A population's ledger, or a run folder.")
    ],
    head: Annotated[
        str | None,
        typer.Option(help="A row that must be in it, NUMBER:SHA256 as an earlier call printed it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a ledger and print what its population has spent, run by run."""
    from fedspeech import hash_chain
    from fedspeech.hash_chain import Head
    from fedspeech.privacy.ledger import Ledger

    file = path / "ledger.jsonl" if path.is_dir() else path
    try:
        named = Head.parse(head) if head else None
    except ValueError as error:
        raise ScenarioError(f"--head: {error}") from error
    # The head before the file, as in `Ledger.inspect`: another process may append in between.
    kept = hash_chain.kept_head(file)
    account = Ledger.inspect(file, head=named)
    if as_json:
        json.dump(_facts(account) | _checked(account, kept, named), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    from fedspeech.privacy.phrasing import example_paragraph, paragraphs
    from simulations.report.phrasing import epsilon

    console = Console(soft_wrap=True)
    rows = [
        (
            run.run_id[:8], run.purpose, run.plan.mechanism, run.plan.participation,
            f"{run.plan.noise_multiplier:g}", f"{run.plan.clip_norm:g}",
            str(run.charged), str(run.completed),
        )
        for run in account.runs
    ]  # fmt: skip
    header = (
        "run", "for", "noise", "participation", "z", "clip norm", "charged", "completed",
    )  # fmt: skip
    found = account.guarantee()
    for line in _checked_words(file, account, kept, named):
        console.print(line)
    console.print(table(header, rows, right=header[-2:]))
    for notice in account.notices:
        console.print(f"as it stands, {notice}")
    for noise in sorted({run.noise for run in account.runs}):
        console.print(noise)
    console.print(
        f"together: epsilon_release {epsilon(found.epsilon_release)} ({found.relation_release}), "
        f"epsilon_server {epsilon(found.epsilon_server)} ({found.relation_server}), delta "
        f"{found.delta:.1e}, {found.rounds} rounds of {account.runs_charged} runs"
    )
    console.print(paragraphs(found))
    if hidden := account.example_guarantee():
        console.print(example_paragraph(hidden))


def _checked_words(file: Path, account: Ledger, kept: Head | None, named: Head | None) -> list[str]:
    """What was checked, and what that does and does not show."""
    last = account.head
    assert last is not None  # a ledger without a run was refused
    rows = f"{last.sequence + 1} rows"
    outside = [head.sequence + 1 for head in (kept, named) if head]
    if not outside:
        shown = (
            f"{file}: its {rows} follow one another, so none was edited, inserted or removed "
            "between two others. NOT CHECKED, since no head of it is kept for this user on this "
            "machine: whether rows were cut off its end, or the whole file was written anew"
        )
    elif max(outside) > last.sequence:
        shown = (
            f"{file}: its {rows} are those that were written: they follow one another, and the "
            "last is the head that was kept outside"
        )
    else:
        shown = (
            f"{file}: its {rows} follow one another, up to row {max(outside)} as kept outside. "
            f"NOT CHECKED: whether rows were cut off after its {rows}"
        )
    return [
        f"{shown}. Whoever can change both this file and what is kept outside it is not noticed",
        f"head, to be kept elsewhere and compared with --head: {last}",
    ]


def _checked(account: Ledger, kept: Head | None, named: Head | None) -> dict[str, str | None]:
    """The same as data: the last row, and the heads that it was compared with."""
    found = {"head": account.head, "kept_head": kept, "named_head": named}
    return {name: str(head) if head else None for name, head in found.items()}


def _facts(account: Ledger) -> dict[str, Any]:
    """The account as plain data; infinities as words."""
    guarantee = account.guarantee().to_record(infinite="infinite")
    of_run = ("run_id", "purpose", "charged", "completed", "noise")
    of_plan = ("mechanism", "participation", "noise_multiplier", "clip_norm", "rounds")
    runs = [
        {
            **{name: getattr(run, name) for name in of_run},
            **{name: getattr(run.plan, name) for name in of_plan},
        }
        for run in account.runs
    ]
    facts = {"runs": runs, "guarantee": guarantee, "notices": account.notices}
    if hidden := account.example_guarantee():
        facts["examples_hidden"] = hidden.to_record()
    return facts

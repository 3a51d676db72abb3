"""`fedspeech ledger`: what a population has spent, run by run, from its ledger alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspeech.errors import ScenarioError
from simulations.console import Console

if TYPE_CHECKING:
    from fedspeech.hash_chain import Head
    from fedspeech.privacy.ledger import Ledger


def ledger(
    file: Annotated[Path, typer.Argument(help="A population's ledger, or a run folder.")],
    head: Annotated[
        str | None,
        typer.Option(
            "--head", help="A row that must be in it, NUMBER:SHA256 as an earlier call printed it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a ledger and print what its population has spent, run by run."""
    statement(file, head=head, as_json=as_json)


def statement(path: Path, *, head: str | None = None, as_json: bool) -> None:
    """Checks every row of a ledger and writes its account to stdout; changes nothing.

    Args:
      path: the file, or a run folder that holds one.
      head: a row that must be in it, as an earlier statement printed it.
      as_json: print one JSON object instead of text.

    Raises:
      LedgerDamaged: if there is none, a row does not check, or a head is not in it.
      ScenarioError: if `head` is none.
    """
    from fedspeech import hash_chain
    from fedspeech.hash_chain import Head
    from fedspeech.privacy.ledger import Ledger

    file = path / "ledger.jsonl" if path.is_dir() else path
    try:
        named = Head.parse(head) if head else None
    except ValueError as error:
        raise ScenarioError(f"--head: {error}") from error
    kept = hash_chain.kept_head(file)
    account = Ledger.inspect(file, head=named)
    if as_json:
        json.dump(_facts(account) | _checked(account, kept, named), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    from rich.table import Table

    from fedspeech.privacy.phrasing import example_paragraph, paragraphs
    from simulations.report.phrasing import epsilon

    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("run", "for", "noise", "participation", "z", "clip norm"):
        table.add_column(name)
    for name in ("charged", "completed"):
        table.add_column(name, justify="right")
    for run in account.runs:
        plan = run.plan
        table.add_row(
            run.run_id[:8], run.purpose, plan.mechanism, plan.participation,
            f"{plan.noise_multiplier:g}", f"{plan.clip_norm:g}",
            str(run.charged), str(run.completed),
        )  # fmt: skip
    found = account.guarantee()
    for line in _checked_words(file, account, kept, named):
        console.print(line)
    console.print(table)
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
    runs = [
        {
            "run_id": run.run_id,
            "purpose": run.purpose,
            "charged": run.charged,
            "completed": run.completed,
            "mechanism": run.plan.mechanism,
            "participation": run.plan.participation,
            "noise_multiplier": run.plan.noise_multiplier,
            "clip_norm": run.plan.clip_norm,
            "rounds": run.plan.rounds,
            "noise": run.noise,
        }
        for run in account.runs
    ]
    facts = {"runs": runs, "guarantee": guarantee, "notices": account.notices}
    if hidden := account.example_guarantee():
        facts["examples_hidden"] = hidden.to_record()
    return facts

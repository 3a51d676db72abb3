"""What a population has spent, run by run, from its ledger alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused
from fedspeech.privacy.phrasing import scientific_up
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.hash_chain import Head
    from fedspeech.privacy.guarantee import Guarantee
    from fedspeech.privacy.ledger import Ledger


@dataclass(frozen=True, eq=False)
class LedgerReport(Printed):
    """A ledger that was checked, and what its population has spent.

    Attributes:
      file: of the ledger.
      account: its rows.
      kept: the head that is kept for this user on this machine; None: none is.
      named: the head that was asked for; None: none was.
    """

    file: Path
    account: Ledger
    kept: Head | None
    named: Head | None

    @property
    def guarantee(self) -> Guarantee:
        """Both epsilons of everything that was charged."""
        return self.account.guarantee()

    def record(self) -> dict[str, Any]:
        """Everything as plain data; infinities as words."""
        return _facts(self.account) | _checked(self.account, self.kept, self.named)

    def __repr__(self) -> str:
        """The file and how many runs it holds."""
        return f"LedgerReport({str(self.file)!r}, {len(self.account.runs)} runs)"

    def print(self, console: Console) -> None:
        """Prints what was checked, run by run, and what was spent."""
        from fedspeech.privacy.phrasing import example_paragraph, paragraphs
        from simulations.report.phrasing import epsilon

        account, found = self.account, self.guarantee
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
        for line in _checked_words(self.file, account, self.kept, self.named):
            console.print(line, soft_wrap=True)
        console.print(table(header, rows, right=header[-2:]), soft_wrap=True)
        for run in account.runs:
            if run.window is not None and run.charged:
                asked = f"{run.window.says}, {run.window.days}"
                console.print(f"{run.run_id[:8]} asked once: {asked}", soft_wrap=True)
        for notice in account.notices:
            console.print(f"as it stands, {notice}", soft_wrap=True)
        for noise in sorted({run.noise for run in account.runs}):
            console.print(noise, soft_wrap=True)
        console.print(
            f"together: epsilon_release {epsilon(found.epsilon_release)} "
            f"({found.relation_release}), epsilon_server {epsilon(found.epsilon_server)} "
            f"({found.relation_server}), delta {scientific_up(found.delta, 1)}, "
            f"{found.rounds} rounds of {account.runs_charged} runs",
            soft_wrap=True,
        )
        console.print(paragraphs(found), soft_wrap=True)
        if hidden := account.example_guarantee():
            console.print(example_paragraph(hidden), soft_wrap=True)


def ledger(path: str | os.PathLike[str], *, head: str | None = None) -> LedgerReport:
    """Checks a ledger and says what its population has spent, run by run.

        >>> import fedspeech as fs
        >>> fs.ledger("runs/quick")
        LedgerReport('runs/quick/ledger.jsonl', 1 runs)

    Args:
      path: a population's ledger, or a run folder.
      head: a row that must be in it, NUMBER:SHA256 as an earlier call gave it.

    Raises:
      LedgerDamaged: if rows were edited, inserted or removed, or the head is not in it.
      ArgumentRefused: if `head` is no such row.
    """
    from fedspeech import hash_chain
    from fedspeech.hash_chain import Head
    from fedspeech.privacy.ledger import Ledger

    place = Path(path)
    file = place / "ledger.jsonl" if place.is_dir() else place
    try:
        named = Head.parse(head) if head else None
    except ValueError as error:
        raise ArgumentRefused(f"`head`: {error}") from error
    # The head before the file, as in `Ledger.inspect`: another process may append in between.
    kept = hash_chain.kept_head(file)
    return LedgerReport(file, Ledger.inspect(file, head=named), kept, named)


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
            **({"window": run.window.to_record()} if run.window else {}),
        }
        for run in account.runs
    ]
    facts = {"runs": runs, "guarantee": guarantee, "notices": account.notices}
    if hidden := account.example_guarantee():
        facts["examples_hidden"] = hidden.to_record()
    return facts

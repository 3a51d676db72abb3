"""`fedspeech ledger`: what a population has spent, run by run, from its ledger alone."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedspeech.privacy.ledger import Ledger
from simulations.report.words import epsilon


def statement(path: Path, *, as_json: bool) -> None:
    """Checks every row of a ledger and writes its account to stdout; changes nothing.

    Args:
      path: the file, or a run folder that holds one.
      as_json: print one JSON object instead of text.

    Raises:
      LedgerDamaged: if there is none, or a row does not check.
    """
    file = path / "ledger.jsonl" if path.is_dir() else path
    account = Ledger.inspect(file)
    if as_json:
        json.dump(_facts(account), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    from rich.console import Console
    from rich.table import Table

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
    console.print(f"{file}: every row checks")
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
    console.print(found.words())


def _facts(account: Ledger) -> dict[str, Any]:
    """The account as plain data; infinities as words."""
    guarantee = asdict(account.guarantee())
    for name in ("epsilon_release", "epsilon_server"):
        if math.isinf(guarantee[name]):
            guarantee[name] = "infinite"
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
    return {"runs": runs, "guarantee": guarantee, "notices": account.notices}

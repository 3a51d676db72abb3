"""What a run's population has spent, as result files have it: always the ledger's own account.

Nothing here prices a round. A ledger that several runs share prices each round under the plan that
it was charged for, which no single plan can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedspeech.errors import LedgerDamaged
from fedspeech.job import Job
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.ledger import Ledger
from simulations.results.account import Account
from simulations.results.rows import RoundRow
from simulations.results.run_folder import RunFolder
from simulations.results.summary import Summary


def account(folder: RunFolder, job: Job, summary: Summary) -> Ledger:
    """The ledger of a finished or interrupted run, read as it stands now.

    Raises:
      LedgerDamaged: if it is gone, does not check, does not hold the run, or holds less than the
        run's own summary knows of.
    """
    ledger = Ledger.inspect(folder.ledger, job.run_id)
    if ledger.rounds_charged < summary.guarantee.rounds:
        raise LedgerDamaged(
            f"{ledger.path.name} holds {ledger.rounds_charged} rounds, and when the run in "
            f"{folder.path.name} ended it held {summary.guarantee.rounds}: rows were cut off, or "
            "it is another file; nothing is stated of what was spent until somebody has looked"
        )
    return ledger


def stated(ledger: Ledger, rows: Sequence[RoundRow], job: Job) -> Guarantee:
    """What a card or a published report states: every round that was begun, as if charged.

    Readers see which rounds gave no model, and must not see why: a round that was abandoned before
    its phones were asked for updates is not charged, one abandoned later is. So the price of both
    is stated, which is never less than what was spent. Where the run itself chose how many rounds
    there are, all planned ones are priced (`fedspeech.aggregation.early_stopping`).
    """
    begun = sum(row.status != "refused" for row in rows)
    if job.early_stopping is not None:
        begun = max(begun, job.plan.rounds)
    return ledger.guarantee(more_rounds=max(0, begun - ledger.own_rounds_charged))


def with_account(summary: Summary, ledger: Ledger, spent: Guarantee | None = None) -> Summary:
    """A summary with what its population has spent by now, later runs included.

    `spent` is said instead of the ledger's whole account, as `stated` has it.
    """
    found = account_of(
        spent or ledger.guarantee(), ledger.noise_notice, summary.epsilon_budget,
        runs=ledger.runs_charged,
    )  # fmt: skip
    hidden = ledger.example_guarantee()
    return summary.model_copy(update={**dict(found), "examples_hidden": hidden})


def account_of(
    spent: Guarantee, noise_notice: str | None, budget: float | None, *, runs: int = 1
) -> Account:
    """An account as result files have it; a `budget` of None or infinity is none."""
    return Account(
        guarantee=spent,
        noise_notice=noise_notice,
        runs_charged=runs,
        epsilon_budget=budget if budget is not None and math.isfinite(budget) else None,
    )

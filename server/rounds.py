"""Rounds over a Flower Grid, as the server sees them: cohort lists, minimums, charge, sums, step.

The order protects: the budget is asked before any message leaves, the ledger is charged on disk
before phones are asked for what the charge pays for, and the minimum of reporting phones is checked
before the sum is opened. An abandoned round is never drawn again; its index is spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.cohorts import MASKED_GROUPS
from fedspeech.errors import BudgetExhausted, ProtocolAbort, ScenarioError
from fedspeech.job import Job
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, noise_commitment, open_sum
from server.faults import FaultyGrid
from server.gathering import Abandoned, IdealGathering, MaskedGathering
from server.grids import Nodes
from server.shards import Shards


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundRecord:
    """What the server knows of one round when it is over.

    Attributes:
      round: from 0.
      status: "completed"; "abandoned", with a reason; "refused", before any message left.
      reason: in words, or ""; of a completed round, what the job's defense did.
      cohort: phones that joined; None if nobody was asked.
      reporting: phones in the sum; None if there is none.
      wrap_warning: a coordinate of the sum came near the edge of the ring.
      signal_to_noise: length of the signal in the decoded mean over that of its noise, estimated
        (`fedspeech.round.open_sum`); 0 is nothing but noise, None is no noise.
      accumulated_signal_to_noise: the same of the sum of all decoded means so far.
      clip_norm: that phones clipped to; None if no sum was opened.
      total: the opened sum, shape (vector length,), uint32, or those of all groups one after the
        other; None if none was opened.
    """

    round: int
    status: Literal["completed", "abandoned", "refused"]
    reason: str = ""
    cohort: int | None = None
    reporting: int | None = None
    wrap_warning: bool = False
    signal_to_noise: float | None = None
    accumulated_signal_to_noise: float | None = None
    clip_norm: float | None = None
    guarantee: Guarantee
    seconds: float
    total: NDArray[np.uint32] | None = None


OnRound = Callable[[RoundRecord, ServerState], None]


def run_rounds(
    grid: Nodes,
    job: Job,
    ledger: Ledger,
    state: ServerState,
    on_round: OnRound,
    first_round: int = 0,
) -> ServerState:
    """Runs the plan's rounds, or as many as the budget and the job's early stopping allow.

    Raises:
      ScenarioError: if groups of a round are to be summed under masks.
      ProtocolAbort: if the nodes do not host the job's population, or none of them answers a
        round.
    """
    if job.plan.groups > 1 and job.plan.secure_aggregation == "masked":
        raise ScenarioError(MASKED_GROUPS)
    shards = Shards(FaultyGrid(grid, job) if job.faults else grid, job)
    for round_number in range(first_round, job.plan.rounds):
        if stopped_early(job, state):
            break
        state, record = _run_round(shards, job, ledger, state, round_number)
        on_round(record, state)
        if record.status == "refused":
            break
    return state


def stopped_early(job: Job, state: ServerState) -> bool:
    """Whether no further round begins, by public validation clips alone.

    It follows from the state, so a run that is resumed stops where it would have stopped.
    """
    return job.early_stopping is not None and job.early_stopping.stops(state.public_losses)


def _run_round(
    shards: Shards, job: Job, ledger: Ledger, state: ServerState, round_number: int
) -> tuple[ServerState, RoundRecord]:
    """Runs one round, or says why it came to nothing."""
    plan, key, started = job.plan, job.round_key(round_number), time.perf_counter()
    how = MaskedGathering if plan.secure_aggregation == "masked" else IdealGathering
    gathering = how(shards, job, key, state)

    def record(status: Literal["completed", "abandoned", "refused"], **more: Any) -> RoundRecord:
        return RoundRecord(
            round=round_number,
            status=status,
            cohort=gathering.cohort,
            reporting=gathering.reporting,
            guarantee=ledger.guarantee(),
            seconds=time.perf_counter() - started,
            **more,
        )

    try:
        ledger.require_budget(round_number)
        gathering.join()
    except BudgetExhausted as error:
        return state, record("refused", reason=str(error))
    except Abandoned as error:
        return state, record("abandoned", reason=str(error))

    # Abandoned before this line a round costs nothing: no answer so far depends on speech.
    commitment = noise_commitment(job, state, key)
    charge = ledger.charge(round_number, key.attempt, key.round_id, commitment)

    def abandoned(reason: str) -> tuple[ServerState, RoundRecord]:
        ledger.outcome(charge, completed=False, reason=reason)
        return state, record("abandoned", reason=reason)

    try:
        total = gathering.collect()
    except Abandoned as error:
        return abandoned(str(error))
    assert gathering.reporting is not None
    try:
        advanced, latest = open_sum(job.query, state, job, key, total, gathering.reporting)
    except ProtocolAbort as error:
        return abandoned(str(error))
    ledger.outcome(charge, completed=True)
    return advanced, record(
        "completed",
        reason=advanced.defended,
        wrap_warning=any(plan.wrap_warning(part) for part in np.split(total, plan.groups)),
        signal_to_noise=latest,
        accumulated_signal_to_noise=advanced.signal_to_noise,
        clip_norm=state.clip_norm,
        total=total,
    )

"""Rounds over a Flower Grid, as the server sees them: rosters, floors, charge, sums, step.

The order protects: the budget is asked before any message leaves, the ledger is charged on disk
before phones are asked for what the charge pays for, and the floor on survivors is checked before
the sum is opened. An abandoned round is never drawn again; its index is spent.

A shard that fails or stays silent abandons the round. The plan prices how likely one phone decides
over a floor for phones that drop out each for itself; with a quarter of them gone at once, whoever
is left may stand just at the floor, and whether the round takes place would tell of single phones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedspeech import messages
from fedspeech.errors import BudgetExhausted, ProtocolAbort
from fedspeech.job import Job, sorted_union
from fedspeech.messages import (
    Counts,
    CountsRequest,
    ProtectedUpdate,
    Roster,
    RosterRequest,
    RoundKey,
    UpdateRequest,
)
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, open_sum, signal_to_noise
from fedspeech.secagg import ideal


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundRecord:
    """What the server knows of one round when it is over.

    Attributes:
      round: from 0.
      status: "completed"; "abandoned", with a reason; "refused", before any message left.
      reason: in words, or "".
      cohort: phones that joined; None if nobody was asked.
      survivors: phones in the sum; None if there is none.
      wrap_warning: a coordinate of the sum came near the edge of the ring.
      signal_to_noise: norm of the decoded mean over the expected norm of its noise; None without
        noise.
      guarantee: as of the end of the round.
      seconds: wall time.
      total: the opened sum, shape (padded dimension,), uint32; None if none was opened.
    """

    round: int
    status: Literal["completed", "abandoned", "refused"]
    reason: str = ""
    cohort: int | None = None
    survivors: int | None = None
    wrap_warning: bool = False
    signal_to_noise: float | None = None
    guarantee: Guarantee
    seconds: float
    total: NDArray[np.uint32] | None = None


OnRound = Callable[[RoundRecord, ServerState], None]


def run_rounds(
    grid: Grid, job: Job, ledger: Ledger, state: ServerState, on_round: OnRound
) -> ServerState:
    """Runs the plan's rounds, or as many as the budget allows.

    Args:
      grid: any Flower Grid whose nodes run `clients.app`.
      job: the run.
      ledger: of this population; it may hold earlier charges.
      state: to start from.
      on_round: told of every round when it is over, refused ones included.

    Returns:
      The state after the last round.

    Raises:
      ProtocolAbort: if the nodes do not host the job's population, or none of them answers a
        round.
    """
    nodes = _find_shards(grid, job)
    for round_number in range(job.plan.rounds):
        state, record = _run_round(grid, nodes, job, ledger, state, round_number)
        on_round(record, state)
        if record.status == "refused":
            break
    return state


def _run_round(
    grid: Grid,
    nodes: Sequence[int],
    job: Job,
    ledger: Ledger,
    state: ServerState,
    round_number: int,
) -> tuple[ServerState, RoundRecord]:
    """Runs one round, or says why it came to nothing."""
    plan, key, started = job.plan, job.round_key(round_number), time.perf_counter()

    def record(status: Literal["completed", "abandoned", "refused"], **seen: Any) -> RoundRecord:
        return RoundRecord(
            round=round_number, status=status, guarantee=ledger.guarantee(),
            seconds=time.perf_counter() - started, **seen,
        )  # fmt: skip

    try:
        ledger.require_budget(round_number)
    except BudgetExhausted as error:
        return state, record("refused", reason=str(error))

    request = RosterRequest(key=key)
    rosters, failures = _ask(grid, nodes, "query.roster", request, Roster, key)
    roster = sorted_union([answer.phones for answer in rosters])
    if failures or len(roster) < plan.min_cohort:
        reason = f"{len(roster)} phones joined, the plan's floor is {plan.min_cohort}"
        reason = "; ".join(failures) or reason
        return state, record("abandoned", reason=reason, cohort=len(roster))

    charge = ledger.charge(round_number, key.attempt, key.rid)
    update_request = UpdateRequest(key=key, adapter=state.adapter, roster=roster)
    updates, failures = _ask(grid, nodes, "train", update_request, ProtectedUpdate, key)
    survivors = sorted_union([update.survivors for update in updates])
    if not np.isin(survivors, roster).all():
        raise ProtocolAbort(f"round {round_number}: a phone outside the roster sent an update")
    if failures or len(survivors) < plan.min_survivors:
        reason = f"{len(survivors)} phones survived, the plan's floor is {plan.min_survivors}"
        reason = "; ".join(failures) or reason
        ledger.outcome(charge, completed=False, reason=reason)
        return state, record(
            "abandoned", reason=reason, cohort=len(roster), survivors=len(survivors)
        )
    total = ideal.add([update.total for update in updates], plan.bits)
    if plan.norm_warning(total):
        reason = (
            f"the sum is longer than honest phones can make it (bound {plan.norm_bound:.4g}): "
            "it is not used"
        )
        ledger.outcome(charge, completed=False, reason=reason)
        return state, record(
            "abandoned", reason=reason, cohort=len(roster), survivors=len(survivors)
        )
    advanced = open_sum(state, job, key, total)
    ledger.outcome(charge, completed=True)
    return advanced, record(
        "completed",
        cohort=len(roster),
        survivors=len(survivors),
        wrap_warning=plan.wrap_warning(total),
        signal_to_noise=signal_to_noise(plan, total, key, len(survivors)),
        total=total,
    )


def _find_shards(grid: Grid, job: Job) -> list[int]:
    """Asks every node which shard it hosts and returns node ids in shard order.

    Node ids are random in Flower's engines and replies come in any order.
    """
    answers = {}
    for reply in _send(grid, list(grid.get_node_ids()), "query.counts", CountsRequest(), "counts"):
        if reply.has_error():
            raise ProtocolAbort(f"a node cannot host its phones: {reply.error.reason}")
        answer = messages.from_record(reply.content, Counts)
        answers[answer.shard] = (reply.metadata.src_node_id, answer)
    hosted = sum(answer.num_phones for _, answer in answers.values())
    if sorted(answers) != list(range(job.num_shards)) or hosted != job.plan.population:
        raise ProtocolAbort(
            f"the plan is for {job.plan.population} phones in {job.num_shards} shards, but the "
            f"nodes host {hosted} phones in shards {sorted(answers)}"
        )
    return [answers[shard][0] for shard in sorted(answers)]


AnswerT = TypeVar("AnswerT", Roster, ProtectedUpdate)


def _ask(
    grid: Grid,
    nodes: Sequence[int],
    kind: str,
    request: messages.Message,
    answer_type: type[AnswerT],
    key: RoundKey,
) -> tuple[list[AnswerT], list[str]]:
    """Sends a request to every shard; returns answers in shard order, and what went wrong.

    A shard that does not answer has gone wrong too. If none does, nothing can be learned from going
    on.

    Raises:
      ProtocolAbort: if no shard answers.
    """
    by_node: dict[int, AnswerT] = {}
    failures: list[str] = []
    heard: set[int] = set()
    for reply in _send(grid, nodes, kind, request, str(key.round)):
        node = reply.metadata.src_node_id
        heard.add(node)
        try:
            if reply.has_error():
                raise ProtocolAbort(reply.error.reason)
            answer = messages.from_record(reply.content, answer_type)
            if answer.key != key:
                raise ProtocolAbort(f"an answer to round {answer.key.round}, not {key.round}")
            if node in by_node:
                raise ProtocolAbort("a second answer to one request")
            by_node[node] = answer
        except ProtocolAbort as error:
            failures.append(f"shard {list(nodes).index(node)}: {error}")
    failures += [f"shard {i}: silence" for i, node in enumerate(nodes) if node not in heard]
    if not by_node:
        raise ProtocolAbort(f"round {key.round}: no shard answered {kind}: " + "; ".join(failures))
    return [by_node[node] for node in nodes if node in by_node], failures


def _send(
    grid: Grid, nodes: Sequence[int], kind: str, request: messages.Message, group: str
) -> list[Message]:
    """One message per shard, never one per phone."""
    record = messages.to_record(request)
    return list(
        grid.send_and_receive([Message(record, node, kind, group_id=group) for node in nodes])
    )

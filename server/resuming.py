"""How a run begins, or goes on that was killed: which round comes next, and what was lost.

A round is over once its checkpoint is on disk. Of the round after the last checkpoint anything may
be there: cohort lists, a charge, an opened sum, a row.

* Seeded noise: the round is replayed from its beginning. Coins, training, rounding and
  noise come from the same streams, so the same integers are summed; masks and sessions are fresh.
  The charge that may be there is checked and paid once. This takes phones that forget what they did
  in that round, which only a simulator can make them (`clients.durable_state.go_back`).
* Noise from the operating system: its keys are gone, and phones answer once. The round has failed,
  its index is spent, a charge stays, and the run goes on with the next index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fedspeech.errors import FedspeechError, LedgerDamaged, ScenarioError
from fedspeech.job import Job
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from server.rounds import RoundRecord
from server.rows import LAST, LEDGER, ROUNDS, keep_rows
from server.state import Checkpoint, load_checkpoint, save_checkpoint

CHARGED = "the run was killed in this round; it stays charged and is never drawn again"
NOT_CHARGED = (
    "the run was killed before or in this round, and nobody was asked for an update; it is not "
    "charged, and never drawn again"
)


@dataclass(frozen=True, eq=False)
class Resumed:
    """Where an interrupted run goes on.

    Attributes:
      checkpoint: the last; its next_round is the one to start with.
      lost: rounds between, to be reported as any other.
      replay: whether the round that was not over is replayed.
    """

    ledger: Ledger
    checkpoint: Checkpoint
    lost: tuple[RoundRecord, ...] = ()
    replay: bool = True


def start(job: Job, folder: Path) -> Resumed:
    """Begins a run: a row in its population's ledger, then a first checkpoint.

    Raises:
      FedspeechError: if a run of this job stands there, or a link leads to a folder that is not
        here.
      ScenarioError: if the same run was charged there before: its seeded noise would be the same.
      LedgerDamaged: if the ledger does not check.
    """
    path, last = folder / LEDGER, folder / LAST
    if last.exists():
        raise FedspeechError(
            f"a run of this job stands in {folder}: -c 'resume=\"next\"' goes on with it, "
            "`fedspeech prepare` makes another"
        )
    if not (place := path.resolve()).parent.is_dir():
        raise FedspeechError(
            f"the ledger of this population is {place}, whose folder is not on this machine: "
            "prepare the job where its server runs"
        )
    # Killed before its first checkpoint, a run has charged nothing; its own file has its row.
    account = (place, job.plan, job.run_id, job.noise_entropy)
    if place.exists() and not path.is_symlink():
        ledger = Ledger.resume(*account, None, job.example_cost)
    else:
        ledger = Ledger.open(*account, example_cost=job.example_cost)
    before = {run.run_id for run in ledger.runs if run.charged}
    if job.noise_entropy == "seeded" and job.run_id in before:
        raise ScenarioError(
            "the ledger was charged for this very seeded noise before: the same scenario and "
            f"seed draw the same noise; change seed={job.seed}"
        )
    state = ServerState.initial(job, job.load_arrays())
    checkpoint = Checkpoint(state=state, next_round=0, opened=ledger.opened)
    last.parent.mkdir(exist_ok=True)
    save_checkpoint(last, checkpoint)
    return Resumed(ledger, checkpoint)


def resume(job: Job, folder: Path, *, replay: bool) -> Resumed:
    """Finds where a run goes on; settles in the ledger, and drops of the rows, what was lost.

    Raises:
      FedspeechError: if there is no checkpoint, or a round that was charged is to be replayed under
        noise from the operating system.
      LedgerDamaged: if the ledger does not check, or belongs to another run.
    """
    ledger_path, checkpoint = folder / LEDGER, load_checkpoint(folder / LAST)
    try:
        ledger = Ledger.resume(
            ledger_path,
            job.plan,
            job.run_id,
            job.noise_entropy,
            checkpoint.opened,
            job.example_cost,
        )
    except ValueError as error:
        raise FedspeechError(f"this run cannot go on: {error}") from error
    if len(ledger.charges) < checkpoint.state.completed:
        raise LedgerDamaged(
            f"{ledger_path.name} holds {len(ledger.charges)} charges of this run, whose checkpoint "
            f"has {checkpoint.state.completed} completed rounds: rows were cut off"
        )
    first = checkpoint.next_round
    keep_rows(folder / ROUNDS, first)
    charged = {charge.round: charge for charge in ledger.charges if charge.round >= first}
    if replay:
        if charged and job.noise_entropy != "seeded":
            raise FedspeechError("only seeded noise is replayed: other noise cannot be drawn twice")
        return Resumed(ledger, checkpoint)
    for charge in charged.values():
        if not ledger.settled(charge):
            ledger.outcome(charge, completed=False, reason=CHARGED)
    lost = tuple(
        RoundRecord(
            round=number,
            status="abandoned",
            reason=CHARGED if number in charged else NOT_CHARGED,
            guarantee=ledger.guarantee(),
            seconds=0.0,
        )
        # One at least: coins of the round after the checkpoint may have fallen though nothing was
        # charged.
        for number in range(first, min(max(charged, default=first) + 1, job.plan.rounds))
    )
    checkpoint = replace(checkpoint, next_round=first + len(lost))
    return Resumed(ledger, checkpoint, lost, replay=False)

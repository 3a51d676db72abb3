"""How a run begins, or goes on that was killed: which round comes next, and what was lost.

A round is over once its checkpoint is on disk. Of the round after the last checkpoint anything may
be there: cohort lists, a charge, an opened sum, a row.

* Seeded noise: the round is replayed from its beginning. Coins, training, rounding and
  noise come from the same streams, so the same integers are summed; masks and sessions are fresh.
  The charge that may be there is checked and paid once. This takes phones that forget what they did
  in that round, which only a simulator can make them (`clients.durable_state.go_back`).
* Noise from the operating system: its keys are gone, and phones answer once. The round has failed,
  its index is spent, a charge stays, and the run goes on with the next index.

Correlated noise takes back that of earlier rounds, so a resumed run needs the secret that they were
drawn from. Under noise from the operating system the server keeps it in `SECRET`, beside the job,
readable by its user alone, until the last round is over: with it and the models, whoever has it
reads the sums without noise. A run that has lost it does not go on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedspeech.errors import FedspeechError, LedgerDamaged, ScenarioError
from fedspeech.files import sync_folder
from fedspeech.job import Job
from fedspeech.privacy.correlated_noise import SECRET_BYTES, CorrelatedNoise
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, correlated_noise
from server.rounds import RoundRecord, stopped_early
from server.rows import LAST, LEDGER, ROUNDS, keep_rows
from server.state import Checkpoint, load_checkpoint, save_checkpoint

SECRET = "server-noise.key"
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
      AlreadyReleased: if a day of its query's window was charged to another run.
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
    once: Any = {"purpose": job.query.purpose, "window": job.query.release_window}
    if place.exists() and not path.is_symlink():
        ledger = Ledger.resume(*account, None, job.example_cost, **once)
    else:
        ledger = Ledger.open(*account, example_cost=job.example_cost, **once)
    before = {run.run_id for run in ledger.runs if run.charged}
    if job.noise_entropy == "seeded" and job.run_id in before:
        raise ScenarioError(
            "the ledger was charged for this very seeded noise before: the same scenario and "
            f"seed draw the same noise; change seed={job.seed}"
        )
    state = ServerState.initial(job, job.load_arrays(), _noise(job, folder, ledger))
    checkpoint = Checkpoint(state=state, next_round=0, opened=ledger.opened)
    last.parent.mkdir(exist_ok=True)
    save_checkpoint(last, checkpoint)
    return Resumed(ledger, checkpoint)


def resume(job: Job, folder: Path, *, replay: bool) -> Resumed:
    """Finds where a run goes on; settles in the ledger, and drops of the rows, what was lost.

    Raises:
      FedspeechError: if there is no checkpoint, if a round that was charged is to be replayed under
        noise from the operating system, or if the secret behind correlated noise is gone.
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
            window=job.query.release_window,
        )
    except ValueError as error:
        raise FedspeechError(f"this run cannot go on: {error}") from error
    if len(ledger.charges) < checkpoint.state.completed:
        raise LedgerDamaged(
            f"{ledger_path.name} holds {len(ledger.charges)} charges of this run, whose checkpoint "
            f"has {checkpoint.state.completed} completed rounds: rows were cut off"
        )
    first = checkpoint.next_round
    if not all_over(job, checkpoint):
        noise = _noise(job, folder, ledger) or correlated_noise(job)
        checkpoint = replace(checkpoint, state=replace(checkpoint.state, noise=noise))
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


def all_over(job: Job, checkpoint: Checkpoint) -> bool:
    """Whether no round is left: the last one is over, or early stopping ended the run."""
    return checkpoint.next_round >= job.plan.rounds or stopped_early(job, checkpoint.state)


def _noise(job: Job, folder: Path, ledger: Ledger) -> CorrelatedNoise | None:
    """Correlated noise of the operating system, from the secret that the server keeps.

    Raises:
      FedspeechError: if rounds were charged and the secret is gone, or another one stands there.
    """
    if job.plan.factorization is None or job.noise_entropy == "seeded":
        return None
    path, drawn = folder / SECRET, ledger.noise_commitments
    if drawn and not path.is_file():
        raise FedspeechError(
            f"{SECRET} is gone, from which this run drew its noise: later rounds take back noise "
            "of earlier ones, and drawn anew it would be other noise than was priced. This run "
            "cannot go on; what it has spent stays on its ledger"
        )
    if not path.is_file():
        _write_secret(path)
    noise = CorrelatedNoise(job.plan, path.read_bytes())
    if drawn - {noise.commitment}:
        raise FedspeechError(
            f"{SECRET} is not the secret that this run drew its noise from: its ledger names "
            "another. This run cannot go on with it"
        )
    return noise


def _write_secret(path: Path) -> None:
    """Makes a secret that only its user can read, on disk before any noise is drawn from it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)

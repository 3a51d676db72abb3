"""Flower ServerApp: open the job, run its rounds, leave everything beside it.

Beside `job.json` stand then `ledger.jsonl`, `rounds.jsonl` (a line per round, as the server sees
it), `checkpoints/last.safetensors` and, for whoever follows the run, a checkpoint per round; where
a run fails, `failed.txt` says why, and while a node stays silent, `waiting.txt` says which.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedspeech.errors import FedspeechError
from fedspeech.files import hold, write_whole
from fedspeech.job import Job
from fedspeech.round import ServerState
from server.grids import OneByOneGrid
from server.resuming import Resumed, begin, resume
from server.rounds import RoundRecord, run_rounds
from server.state import Checkpoint, save_checkpoint

LEDGER, ROUNDS, LAST = "ledger.jsonl", "rounds.jsonl", "checkpoints/last.safetensors"
FAILED, WAITING, LOCK = "failed.txt", "waiting.txt", "server.lock"
LOCK_WAIT_S = 60.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the job named by `-c 'job="PATH"'`.

    With `resume="next"` it goes on with the first round that was not begun, with
    `resume="replay"` it replays the one that was not over: see `server.resuming`.
    """
    path = Path(str(context.run_config.get("job", "")))
    if not path.is_absolute():
        raise FedspeechError(
            f"job must be an absolute path, got {str(path)!r}: this process has another current "
            "folder than the command that began the run"
        )
    try:
        _run(
            OneByOneGrid(grid, path.with_name(WAITING)),
            path,
            str(context.run_config.get("resume", "")),
        )
    except Exception as error:  # whatever it is: Flower itself keeps no reason
        with contextlib.suppress(OSError):  # the disk may be the reason
            path.with_name(FAILED).write_text(_words(error))
        raise


def _words(error: Exception) -> str:
    """Why a run failed, for who asked for it."""
    if isinstance(error, FedspeechError):
        return str(error)
    return f"an error of fedspeech itself: {type(error).__name__}: {error}"


def _run(grid: Grid, path: Path, how: str) -> None:
    """Runs the rounds that are left, as the only server of this job."""
    job, folder = Job.load(path), path.parent
    held = hold(folder / LOCK, wait_s=LOCK_WAIT_S)
    if held is None:
        raise FedspeechError(f"another server runs the job in {folder}")
    with held:
        (folder / FAILED).unlink(missing_ok=True)  # of a run before
        _play(grid, job, folder, how)


def _play(grid: Grid, job: Job, folder: Path, how: str) -> None:
    """Runs the rounds that are left."""
    resumed = _start(job, folder, how)
    ledger, checkpoint = resumed.ledger, resumed.checkpoint
    state = checkpoint.state

    def on_round(record: RoundRecord, state: ServerState) -> None:
        nonlocal checkpoint
        over = record.round + (record.status != "refused")
        checkpoint = Checkpoint(state=state, next_round=over, opened=ledger.opened)
        save_checkpoint(folder / round_checkpoint(record.round), checkpoint)
        with (folder / ROUNDS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row_of(record, job)) + "\n")
        save_checkpoint(folder / LAST, checkpoint)

    for record in resumed.lost:
        on_round(record, state)
    run_rounds(grid, job, ledger, state, on_round, checkpoint.next_round)


def round_checkpoint(round_number: int) -> str:
    """Where the checkpoint after one round stands, below the job's folder."""
    return f"checkpoints/round-{round_number:05d}.safetensors"


def row_of(record: RoundRecord, job: Job) -> dict[str, object]:
    """One line of rounds.jsonl: the record without the sum, rounds counted from 1, the noise."""
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    del row["total"]
    told = {"round": record.round + 1, "guarantee": record.guarantee.to_record()}
    return {**row, **told, "noise_notice": job.entropy().notice}


def _start(job: Job, folder: Path, how: str) -> Resumed:
    """Begins a run, or takes one up.

    Raises:
      FedspeechError: if there is one already and nothing was said of resuming, or it cannot be.
    """
    last = folder / LAST
    if how:
        if how not in ("next", "replay"):
            raise FedspeechError(f'resume must be "next" or "replay", got {how!r}')
        resumed = resume(job, folder / LEDGER, last, replay=how == "replay")
        over = resumed.checkpoint.next_round - len(resumed.lost)
        keep_rows(folder / ROUNDS, over)
        return resumed
    if last.exists():
        raise FedspeechError(
            f"a run of this job stands in {folder}: -c 'resume=\"next\"' goes on with it, "
            "`fedspeech prepare` makes another"
        )
    last.parent.mkdir(exist_ok=True)
    ledger = begin(job, folder / LEDGER)
    state = ServerState.initial(job, job.load_arrays())
    checkpoint = Checkpoint(state=state, next_round=0, opened=ledger.opened)
    save_checkpoint(last, checkpoint)
    return Resumed(ledger, checkpoint)


def keep_rows(path: Path, rounds: int) -> None:
    """Drops the lines of all rounds but the first `rounds`."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["round"] <= rounds]
    write_whole(path, b"".join(kept))

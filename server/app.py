"""Flower ServerApp: open the job, run its rounds, leave everything beside it.

Beside `job.json` stand then `ledger.jsonl`, `rounds.jsonl` (a line per round, as the server sees
it), `checkpoints/last.safetensors` and, for whoever follows the run, a checkpoint per round; where
a run fails, `failed.txt` says why, and while a node stays silent, `waiting.txt` says which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedspeech.errors import FedspeechError
from fedspeech.files import hold
from fedspeech.job import Job
from fedspeech.round import ServerState
from server.grids import Nodes, OneByOneGrid
from server.resuming import SECRET, Resumed, all_over, resume, start
from server.rounds import RoundRecord, run_rounds
from server.rows import LAST, leave_round
from server.state import Checkpoint, load_checkpoint, save_checkpoint

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
    how = str(context.run_config.get("resume", ""))
    try:
        serve(OneByOneGrid(grid, path.with_name(WAITING)), path, how)
    except Exception as error:  # whatever it is: Flower itself keeps no reason
        with contextlib.suppress(OSError):  # the disk may be the reason
            path.with_name(FAILED).write_text(_words(error))
        raise


def _words(error: Exception) -> str:
    """Why a run failed, for who asked for it."""
    if isinstance(error, FedspeechError):
        return str(error)
    return f"an error of fedspeech itself: {type(error).__name__}: {error}"


def serve(grid: Nodes, path: Path, how: str, told: Callable[[], object] = lambda: None) -> None:
    """Runs the rounds of a job that are left, as its only server: the loop of every engine.

    A round is over once the last checkpoint is on disk, after whoever follows the run has been
    told: killed before, it was interrupted, whatever was told of it.

    Raises:
      FedspeechError: if there is a run already and nothing was said of resuming, if it cannot go
        on, or if another server runs the job.
    """
    job, folder = Job.load(path), path.parent
    held = hold(folder / LOCK, wait_s=LOCK_WAIT_S)
    if held is None:
        raise FedspeechError(f"another server runs the job in {folder}")
    with held:
        (folder / FAILED).unlink(missing_ok=True)  # of a run before
        _play(grid, job, folder, _opened(job, folder, how), told)


def _play(
    grid: Nodes, job: Job, folder: Path, resumed: Resumed, told: Callable[[], object]
) -> None:
    """Runs the rounds that are left and leaves each."""
    ledger, begun = resumed.ledger, resumed.checkpoint

    def on_round(record: RoundRecord, state: ServerState) -> None:
        over = record.round + (record.status != "refused")  # a budget raised later may cover it
        checkpoint = Checkpoint(state=state, next_round=over, opened=ledger.opened)
        leave_round(folder, record, checkpoint, job)
        told()
        save_checkpoint(folder / LAST, checkpoint)

    for record in resumed.lost:
        on_round(record, begun.state)
    run_rounds(grid, job, ledger, begun.state, on_round, begun.next_round)
    if all_over(job, load_checkpoint(folder / LAST)):
        (folder / SECRET).unlink(missing_ok=True)  # no noise is drawn any more


def _opened(job: Job, folder: Path, how: str) -> Resumed:
    """Begins a run, or takes one up."""
    if not how:
        return start(job, folder)
    if how not in ("next", "replay"):
        raise FedspeechError(f'resume must be "next" or "replay", got {how!r}')
    return resume(job, folder, replay=how == "replay")

"""Flower ServerApp: open the job, run its rounds, leave the adapter and the rows beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedspeech.job import Job
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from server.rounds import RoundRecord, run_rounds
from server.state import save_checkpoint

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the job named by `-c job="PATH"`; ledger, rows and checkpoint stand in its folder."""
    path = Path(str(context.run_config.get("job", "")))
    job = Job.load(path)
    rows = path.with_name("rounds.jsonl")

    def on_round(record: RoundRecord, state: ServerState) -> None:
        seen = {
            "round": record.round + 1,
            "status": record.status,
            "reason": record.reason,
            "cohort": record.cohort,
            "survivors": record.survivors,
            "seconds": record.seconds,
            "guarantee": asdict(record.guarantee),
        }
        with rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")
        save_checkpoint(path.with_name("checkpoint.safetensors"), state)

    arrays = job.load_arrays()
    ledger = Ledger.open(path.with_name("ledger.jsonl"), job.plan, job.run_id, job.noise)
    run_rounds(grid, job, ledger, ServerState.initial(job, arrays), on_round)

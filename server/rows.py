"""What the server of a run leaves for whoever follows it: a line and a checkpoint per round.

The server may be this process or one of Flower's, on this machine or another: `Follower` reads the
same files in every case, so a run has one record of its rounds whatever carries its messages.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from fedspeech.files import write_whole
from fedspeech.job import Job
from fedspeech.privacy.guarantee import Guarantee
from server.rounds import OnRound, RoundRecord
from server.state import Checkpoint, load_checkpoint, save_checkpoint

LEDGER, ROUNDS, LAST = "ledger.jsonl", "rounds.jsonl", "checkpoints/last.safetensors"


def leave_round(folder: Path, record: RoundRecord, checkpoint: Checkpoint, job: Job) -> None:
    """Leaves a round that is over: its checkpoint, then its line, which says both are there."""
    save_checkpoint(folder / round_checkpoint(record.round), checkpoint)
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    del row["total"]  # rows hold figures alone, and count rounds from 1
    row |= {"round": record.round + 1, "guarantee": record.guarantee.to_record()}
    row["noise_notice"] = job.entropy().notice
    with (folder / ROUNDS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def round_checkpoint(round_number: int) -> str:
    """Where the checkpoint after one round stands, below the job's folder."""
    return f"checkpoints/round-{round_number:05d}.safetensors"


def keep_rows(path: Path, rounds: int) -> None:
    """Drops the lines of all rounds but the first `rounds`."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["round"] <= rounds]
    write_whole(path, b"".join(kept))


class Follower:
    """Hands on the rounds of a run, each once, in order."""

    def __init__(self, folder: Path, known: int, on_round: OnRound) -> None:
        self._folder, self._known, self._on_round = folder, known, on_round

    def __call__(self) -> bool:
        """Hands on what was left since the last call; says whether there was any."""
        path, known = self._folder / ROUNDS, self._known
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for row in map(json.loads, lines):
            number = row.pop("round") - 1
            if number < self._known:
                continue
            del row["noise_notice"]
            checkpoint = self._folder / round_checkpoint(number)
            state = load_checkpoint(checkpoint).state
            guarantee = Guarantee.from_record(row.pop("guarantee"))
            # Its checkpoint goes last: until the row is kept, a killed run needs it again.
            self._on_round(RoundRecord(round=number, guarantee=guarantee, **row), state)
            checkpoint.unlink()
            self._known = number + 1
        return self._known > known

"""The task on fedspeech: local training alone, or whole private rounds behind the in-process grid.

    python -m benchmarks.peers.ours FOLDER PHONES ROUNDS local|private

A private round is all of it: coins, training, clip, rotation, rounding, noise on every phone, the
ring's sum (`ideal`), ledger on disk, decoding, server step. One process, one thread.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers import task
from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.job import Job
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.population import PopulationArrays
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.round import ServerState
from fedspeech.seeds import Streams, stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from server.rounds import run_rounds
from simulations.engines.in_process import InProcessGrid

SHAPE = AdapterShape(name="head", num_windows=1, num_features=task.FEATURES, num_labels=task.LABELS)
TRAINING = LocalTraining(
    learning_rate=task.LEARNING_RATE, momentum=0.0, batch_size=task.CLIPS,
    local_epochs=task.STEPS, max_examples=task.CLIPS,
)  # fmt: skip
SHARDS = 4


def main() -> None:
    """Trains and prints one line."""
    folder, phones, rounds, kind = Path(sys.argv[1]), *map(int, sys.argv[2:4]), sys.argv[4]
    torch.set_num_threads(1)
    play = local(folder, phones) if kind == "local" else None
    result = task.timed(rounds, play) if play else private(folder, phones, rounds)
    task.done({"version": version("fedspeech"), **result})


def local(folder: Path, phones: int):
    """Local training of all phones, side by side."""
    clips, labels = task.read(folder)
    datasets = [LocalDataset(c.copy(), y.copy()) for c, y in zip(clips, labels, strict=True)]
    adapter = SHAPE.build()
    parameters = adapter.spec.unflatten(np.zeros(adapter.spec.size, np.float32))

    def play(number: int) -> int:
        rngs = Streams(functools.partial(stream, 1, "batches", number), range(phones))
        return len(train_cohort(adapter, parameters, datasets, TRAINING, rngs))

    return play


def private(folder: Path, phones: int, rounds: int) -> dict[str, float]:
    """Whole rounds; the time from the end of the first to the end of the last."""
    clips, labels = task.read(folder)
    empty = LocalDataset(np.zeros((0, task.FEATURES), np.float32), np.zeros(0, np.int64))
    arrays = PopulationArrays(
        embeddings=clips.reshape(-1, task.FEATURES),
        labels=labels.reshape(-1),
        offsets=np.arange(0, phones * task.CLIPS + 1, task.CLIPS),
        background=empty,
        validation=empty,
        initial=np.zeros(task.PARAMETERS, np.float32),
    )
    with tempfile.TemporaryDirectory() as place:
        arrays.save(Path(place) / "arrays")
        job = Job(
            seed=1, noise_entropy="seeded", num_shards=SHARDS,
            plan=PrivacyPlan(dropout_rate=0.0,
                dimension=task.PARAMETERS, clip_norm=task.CLIP_NORM,
                noise_multiplier=task.NOISE_MULTIPLIER, population=phones,
                participation_probability=1.0, rounds=rounds + 1, max_participations=rounds + 1,
                min_cohort=int(0.7 * phones), min_reporting=int(0.7 * phones),
                delta=1 / (10 * phones), epsilon_budget=1e9, secure_aggregation="ideal",
            ),
            query=AdapterTraining(
                training=TRAINING, adapter=SHAPE,
                optimizer=FedOpt(
                    optimizer="fedavg", learning_rate=1.0, momentum=0.0, beta_2=0.0, adaptivity=1.0
                ),
            ),
            base_sha256="0" * 64, arrays=str(Path(place) / "arrays"),
            arrays_sha256=arrays.sha256(),
        )  # fmt: skip
        path = Path(place) / "job.json"
        job.save(path)
        marks = []

        def on_round(record, _) -> None:
            assert record.status == "completed", record.reason
            marks.append((time.perf_counter(), time.process_time(), record.reporting))

        ledger = Ledger.open(
            Path(place) / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy, scratch=True
        )
        state = ServerState.initial(job, arrays)
        with InProcessGrid("clients.app:app", SHARDS, {"job": str(path)}) as grid:
            run_rounds(grid, job, ledger, state, on_round)
    first, last = marks[0], marks[-1]
    return {
        "phones": sum(mark[2] for mark in marks[1:]), "rounds": rounds,
        "seconds": last[0] - first[0], "cpu_seconds": last[1] - first[1],
    }  # fmt: skip


if __name__ == "__main__":
    main()

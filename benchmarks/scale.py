"""What a population costs, and what a cohort costs: CPU seconds a round and peak memory.

    python -m benchmarks.scale [--json] [--rounds 5] [--masked]

The whole round over messages, one process: coins, training, clipping, noise, the sum, the server's
step. An adapter of 4,096 parameters, 15 clips per phone. Sums are ideal; with `--masked`, the whole
protocol is played, both sides of it. Rows of a block run in one process, so that their ratio tells
more than either figure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.job import Job
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.population import PopulationArrays
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.round import ServerState
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from fedspeech.training.virtual_phones import VirtualPhones
from server.rounds import RoundRecord, run_rounds
from simulations.engines.in_process import InProcessGrid

VOICES, CLIPS, FEATURES, LABELS = 300, 30, 255, 16
DIMENSION = (FEATURES + 1) * LABELS


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--masked", action="store_true", help="play the whole protocol")
    arguments = parser.parse_args()
    rows = []
    sums = "masked" if arguments.masked else "ideal"
    for populations, cohort, rounds in (
        ((10_000, 1_000_000), 1_000, arguments.rounds),
        ((1_000_000,), 10_000, 1 if arguments.masked else 2),
    ):
        with multiprocessing.get_context("spawn").Pool(1) as process:  # a peak of its own
            rows += process.apply(measure, (populations, cohort, rounds, sums))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{sums} sums, d = {DIMENSION:,}, {LABELS} labels, one process; medians over rounds")
    print("population   cohort   CPU s/round   phones/CPU s   peak MB   against the smaller")
    for row in rows:
        print(
            f"{row['population']:>10,}{row['cohort']:>9,}{row['cpu_s']:>14.2f}"
            f"{row['cohort'] / row['cpu_s']:>15,.0f}{row['peak_mb']:>10,.0f}{row['ratio']:>22.2f}"
        )


def measure(
    populations: tuple[int, ...], cohort: int, rounds: int, sums: str
) -> list[dict[str, Any]]:
    """Runs each population's rounds; returns a row for each."""
    rows: list[dict[str, Any]] = []
    for population in populations:
        with tempfile.TemporaryDirectory() as folder:
            seconds = statistics.median(_rounds(Path(folder), population, cohort, rounds, sums))
        rows.append(
            {
                "population": population,
                "cohort": cohort,
                "cpu_s": seconds,
                "ratio": seconds / (rows[0]["cpu_s"] if rows else seconds),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
            }
        )
    return rows


def _rounds(folder: Path, population: int, cohort: int, rounds: int, sums: str) -> list[float]:
    """CPU seconds of each round after a first one, which warms up."""
    job = _job(folder, population, cohort, rounds + 1, sums)
    path = folder / "job.json"
    job.save(path)
    seconds: list[float] = []

    def on_round(record: RoundRecord, state: ServerState) -> None:
        if record.status != "completed":
            raise RuntimeError(record.reason)
        seconds.append(time.process_time())

    ledger = Ledger.open(
        folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy, scratch=True
    )
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}, 1) as grid:
        run_rounds(grid, job, ledger, ServerState.initial(job, job.load_arrays()), on_round)
    return [after - before for before, after in pairwise(seconds)]


def _job(folder: Path, population: int, cohort: int, rounds: int, sums: str) -> Job:
    """A run whose phones are drawn from voices of random clips."""
    rng = stream(0, "scale")
    count = VOICES * CLIPS
    nothing = LocalDataset(np.zeros((0, FEATURES), np.float32), np.zeros(0, np.int64))
    arrays = PopulationArrays(
        embeddings=rng.standard_normal((count, FEATURES), dtype=np.float32),
        labels=rng.integers(0, LABELS, count),
        offsets=np.arange(0, count + 1, CLIPS),
        background=nothing,
        validation=nothing,
        initial=np.zeros(DIMENSION, np.float32),
    )
    arrays.save(folder / "arrays")
    IdentityDirectory.create(folder / "identities.key")
    plan = PrivacyPlan(
        dimension=DIMENSION,
        clip_norm=0.1,
        noise_multiplier=3.0,
        population=population,
        participation_probability=cohort / population,
        rounds=rounds,
        max_participations=rounds,
        min_cohort=cohort * 7 // 10,
        min_reporting=cohort * 2 // 3,
        dropout_rate=0.04,
        delta=1 / (10 * population),
        epsilon_budget=1e6,
        secure_aggregation=sums,
    )
    return Job(
        seed=1,
        noise_entropy="seeded",
        num_shards=4,
        plan=plan,
        query=AdapterTraining(
            training=LocalTraining(batch_size=16, local_epochs=2, max_examples=64),
            adapter=AdapterShape(
                name="head", num_windows=1, num_features=FEATURES, num_labels=LABELS
            ),
            optimizer=FedOpt(
                optimizer="fedavgm", learning_rate=1.0, momentum=0.9, beta_2=0.99, adaptivity=1e-3
            ),
        ),
        base_sha256="0" * 64,
        arrays=str(folder / "arrays"),
        arrays_sha256=arrays.sha256(),
        virtual_phones=VirtualPhones(seed=1, share=0.5),
        identities=str(folder / "identities.key"),
        durable_state=str(folder / "memory"),
    )


if __name__ == "__main__":
    main()

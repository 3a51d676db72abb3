"""How low can epsilon go before accuracy does? The scenario `default` under more and more noise.

    python -m benchmarks.privacy_curve --seeds 1 2 3 --noise 0 1 2 3 4 6 8 12

Only the noise changes; phones, base, clip norm, rounds and server stay. Accuracy is the federated
adapter's on phones never trained on, before personalizing; the last columns are the phones whose
accent the base never heard.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from fedspeech.evaluation.personalization import phone_accuracies
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from fedspeech.vectors import FloatVector
from server.rounds import run_rounds
from simulations.engines.in_process import InProcessGrid
from simulations.evaluation.evaluator import Evaluator
from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import Scenario
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import BuiltExperiment, build_experiment


def main() -> None:
    """Runs every seed and noise multiplier and prints one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--noise", type=float, nargs="+", default=[0, 1, 2, 3, 4, 6, 8, 12])
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = []
    for noise in arguments.noise:
        runs = [
            measure(noise, seed, arguments.cache, arguments.workers) for seed in arguments.seeds
        ]
        rows.append({name: [run[name] for run in runs] for name in runs[0]} | {"noise": noise})
        if not arguments.json:
            print(line(rows[-1]), flush=True)
    if arguments.json:
        json.dump(rows, sys.stdout, indent=1)


def measure(noise: float, seed: int, cache: Path, workers: int) -> dict[str, float]:
    """Federates once and judges base and federated adapter on all and on unheard accents."""
    private = noise > 0
    scenario = read_scenario(
        "default" if private else "no-privacy",
        [
            f"seed={seed}",
            f"privacy.noise_multiplier={noise}",
            "privacy.epsilon_budget=inf",
            'privacy.secure_aggregation="ideal"',  # the same bits, faster
        ],
    )
    built = build_experiment(
        scenario,
        cache=cache,
        simulation_only=None,
        workers=workers,
        progress=lambda done, total: None,
    )
    job = built.job
    initial = ServerState.initial(job, job.load_arrays())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        job.save(path)
        ledger = Ledger.open(
            Path(folder) / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy, scratch=True
        )
        with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
            last = run_rounds(grid, job, ledger, initial, lambda record, state: None)
    spent = ledger.guarantee()
    return {
        "epsilon_release": spent.epsilon_release,
        "epsilon_server": spent.epsilon_server,
        "base": accuracy(built, scenario, initial.model, unheard=False),
        "federated": accuracy(built, scenario, last.model, unheard=False),
        "base_unheard": accuracy(built, scenario, initial.model, unheard=True),
        "federated_unheard": accuracy(built, scenario, last.model, unheard=True),
    }


def accuracy(
    built: BuiltExperiment, scenario: Scenario, vector: FloatVector, *, unheard: bool
) -> float:
    """Mean over held-out phones, all of them or those of accents that the base never heard."""
    correct = Evaluator(built, scenario).correct(vector)
    chosen = [
        found
        for found, phone in zip(correct, built.held_out, strict=True)
        if not unheard or phone.phone.segments["accent"] not in built.speakers.pretraining_accents
    ]
    return float(phone_accuracies(chosen).mean())


def line(row: dict[str, list[float]]) -> str:
    """One row of the table in Markdown: means over seeds, and the spread of the last column."""
    means = {name: np.mean(values) for name, values in row.items()}
    gains = 100 * (np.array(row["federated_unheard"]) - np.array(row["base_unheard"]))
    return (
        f"| {row['noise']:g} | {means['epsilon_release']:.2f} | {means['epsilon_server']:.2f} "
        f"| {means['base']:.1%} | {means['federated']:.1%} | {means['base_unheard']:.1%} "
        f"| {means['federated_unheard']:.1%} | {gains.mean():+.1f} "
        f"({gains.min():+.1f} to {gains.max():+.1f}) |"
    )


if __name__ == "__main__":
    main()

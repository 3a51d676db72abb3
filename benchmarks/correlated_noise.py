"""Correlated against independent noise of the server, at the same epsilon and participation.

    python -m benchmarks.correlated_noise --seeds 1 2 3 --epsilons 1 0.5 0.25

Phones take turns: 300 of 3,000 in each of 40 rounds, so each joins four, ten rounds apart. Noise is
solved for each epsilon and mechanism; phones, base, cohorts, clip norm and server stay. Accuracy is
the federated adapter's on phones never trained on, before personalizing. Phones are drawn from 150
synthetic voices of the scenario `default`, which makes a run small.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.privacy_curve import accuracy
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.solving import solve
from fedspeech.round import ServerState
from server.rounds import run_rounds
from simulations.engines.in_process import InProcessGrid
from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import Scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import build_experiment
from simulations.setup.planning import maker

MECHANISMS = ("central", "matrix_factorization")


def main() -> None:
    """Runs every seed, epsilon and mechanism, prints a line each, and then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 0.5, 0.25])
    parser.add_argument("--voices", type=int, default=150)
    parser.add_argument("--cache", type=Path, default=cache_folder())
    arguments = parser.parse_args()
    found = []
    for seed in arguments.seeds:
        for epsilon in arguments.epsilons:
            for mechanism in MECHANISMS:
                found.append(measure(mechanism, epsilon, seed, arguments.voices, arguments.cache))
                print(json.dumps(found[-1]), flush=True)
    print(table(found))


def measure(
    mechanism: str, epsilon: float, seed: int, voices: int, cache: Path
) -> dict[str, float | str]:
    """Federates once with the least noise that meets epsilon, and judges the adapter."""
    scenario = described(mechanism, seed, voices)
    make = maker(scenario.privacy, Experiment.from_scenario(scenario).sizes)
    noise = solve(make, "noise", epsilon).price.plan.noise_multiplier
    privacy = scenario.privacy.model_copy(update={"noise_multiplier": noise})
    scenario = scenario.model_copy(update={"privacy": privacy})
    built = build_experiment(
        scenario, cache=cache, simulation_only=None, workers=1, progress=lambda done, total: None
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
    assert spent.epsilon_release <= epsilon
    return {
        "mechanism": mechanism,
        "epsilon": epsilon,
        "seed": seed,
        "noise": noise,
        "signal_to_noise": last.signal_to_noise or 0.0,
        "base": accuracy(built, scenario, initial.model, unheard=False),
        "federated": accuracy(built, scenario, last.model, unheard=False),
    }


def described(mechanism: str, seed: int, voices: int) -> Scenario:
    """The scenario `default` with turns, and noise of the server."""
    return read_scenario(
        "default",
        [
            f"seed={seed}",
            f"corpus.voices={voices}",
            f"privacy.mechanism={mechanism}",
            "privacy.participation=round_robin",
            "privacy.max_participations=4",
            "privacy.epsilon_budget=inf",
            'privacy.secure_aggregation="ideal"',  # the same bits, faster
        ],
    )


def table(found: list[dict[str, float | str]]) -> str:
    """Means over seeds in Markdown, with the spread of the gain of correlated noise."""
    lines = [
        "| epsilon_release | noise, independent / correlated | signal to noise | base "
        "| federated, independent | federated, correlated | difference in points (min to max) |",
        "|---|---|---|---|---|---|---|",
    ]
    for epsilon in dict.fromkeys(row["epsilon"] for row in found):
        plain, own = (
            {
                name: np.array([row[name] for row in found if row["epsilon"] == epsilon
                                and row["mechanism"] == mechanism])
                for name in ("noise", "signal_to_noise", "base", "federated")
            }
            for mechanism in MECHANISMS
        )  # fmt: skip
        gain = 100 * (own["federated"] - plain["federated"])
        lines.append(
            f"| {epsilon:g} | {plain['noise'].mean():.2f} / {own['noise'].mean():.2f} "
            f"| {plain['signal_to_noise'].mean():.1f} / {own['signal_to_noise'].mean():.1f} "
            f"| {plain['base'].mean():.1%} | {plain['federated'].mean():.1%} "
            f"| {own['federated'].mean():.1%} "
            f"| {gain.mean():+.1f} ({gain.min():+.1f} to {gain.max():+.1f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What do phones gain by training on what their users retried, and how wrong may retries be?

    python -m benchmarks.weak_labels [--seeds 1 2 3 4 5 6 7 8]

Held-out phones of the embedded corpus adapt the head of the shipped base to twelve clips of each
word. Labels come from simulated users: commands that they accepted, corrections of half of the
confusions, retries of four in five of what was not heard. A retry tells another word than was meant
with the stated probability, and counts as much as stated; everything else counts 1. Gains are
differences of accuracy on a phone's other words, paired by phone; a seed's are a mean over its
phones, and intervals are Student's over seeds, each with phones of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from simulations.evaluation.evaluator import Evaluator
from simulations.evaluation.weak_labels import NOISE, Gains, turns_negative
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import build_experiment

WEIGHTS = (1.0, 0.5, 0.25)
CHANGES = (
    "corpus.federated_phones=40", "corpus.held_out_phones=48", "corpus.utterances_per_word=20",
    "privacy.participation_probability=1.0", 'privacy.secure_aggregation="ideal"',
    "personalization.shots=[12]", "personalization.headline_shots=12",
)  # fmt: skip


def main() -> None:
    """Prints a line per weight, with and without the guard."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 9)))
    seeds = parser.parse_args().seeds
    ways = list(itertools.product((True, False), WEIGHTS))
    found = [_of_seed(seed, ways) for seed in seeds]
    for place, (guarded, weight) in enumerate(ways):
        strong = np.array([one[place][0].mean() for one in found])
        gain = np.array([(one[place][1] - one[place][0]).mean(axis=1) for one in found])
        counts = np.mean([one[place][2].mean(axis=1) for one in found], axis=0)
        ends = np.array([turns_negative(one) for one in gain])
        print(
            json.dumps({
                "guard": guarded, "retry counts": weight, "seeds": len(seeds),
                "accepted, corrected, retried": counts.round(1).tolist(),
                "strong alone": round(100 * float(strong.mean()), 1),
                "gain by noise": dict(zip(NOISE, _intervals(100 * gain), strict=True)),
                "gain ends at": _intervals(ends[:, np.newaxis])[0],
            }),
            flush=True,
        )  # fmt: skip


def _of_seed(seed: int, ways: list[tuple[bool, float]]) -> list[Gains]:
    scenario = read_scenario("quick", [*CHANGES, f"seed={seed}"])
    built = build_experiment(
        Experiment.from_scenario(scenario), cache=cache_folder(), simulation_only=None, workers=1,
        progress=lambda done, of: None,
    )  # fmt: skip
    evaluator = Evaluator(built, scenario)
    start = evaluator.ready(built.job.load_arrays().initial)
    return [
        evaluator.weak_label_gains(start, weight, guarded=guarded) for guarded, weight in ways
    ]  # fmt: skip


def _intervals(values: NDArray[np.float64]) -> list[str]:
    """Mean and 95 % of each column, over seeds."""
    mean, count = values.mean(axis=0), len(values)
    half = t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return [f"{m:+.2f} ({m - h:+.2f} to {m + h:+.2f})" for m, h in zip(mean, half, strict=True)]


if __name__ == "__main__":
    main()

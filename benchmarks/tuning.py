"""What a search costs beside single runs, and whether it finds an answer that is known.

    python -m benchmarks.tuning cost --scenario quick
    python -m benchmarks.tuning answers

`cost`: CPU seconds of a 5 x 5 grid over one seed against 25 times those of one `fedspeech simulate`
(the mean of a few, with a warm cache, times 25), both as commands, imports and reports included.
The limit is one third.

`answers`: on `quick` with 48 held-out phones a seed. What a 5 x 5 grid over seeds 1 to 5 recommends
is tried beside a fine grid of clip norms on seeds 11 to 15, which nothing was chosen on: other
speakers, cohorts and noise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from simulations.scenario.reading import read_scenario
from simulations.setup.embedding import cache_folder
from simulations.tuning.results import Tuning
from simulations.tuning.space import log_spaced
from simulations.tuning.tuner import Request, tune

COMMAND = [sys.executable, "-c", "from simulations.cli import main; main()"]
SCENARIO = read_scenario("quick", ["corpus.held_out_phones=48"])
FINE = log_spaced(0.00625, 0.8, 15)  # steps of the square root of two
COARSE = log_spaced(0.025, 0.4, 5)
SEEDS, FRESH = 1, 11


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cost", "answers"))
    parser.add_argument("--scenario", default="quick")
    parser.add_argument("--runs", type=int, default=3, help="single runs whose mean is taken")
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "cost":
            cost(arguments, Path(folder))
        else:
            answers(arguments, Path(folder))


def cost(arguments: argparse.Namespace, folder: Path) -> None:
    """CPU seconds of both, and their ratio."""
    common = ["--scenario", arguments.scenario, "--cache", str(arguments.cache)]
    common += ["--workers", str(arguments.workers)]
    cpu_seconds("simulate", *common, "--out", str(folder / "warm"))
    single = [
        cpu_seconds("simulate", *common, "--out", str(folder / f"run-{number}"))
        for number in range(arguments.runs)
    ]
    one = sum(single) / len(single)
    grid = cpu_seconds("tune", *common, "--seeds", "1", "--out", str(folder / "tune"))
    found = read(folder / "tune")
    assert len(found.tried) == 25
    stopped = sum(bool(trial.stopped) for trial in found.tried)
    print(f"one simulate: {one:.1f} CPU s (mean of {len(single)}); 25 of them: {25 * one:.0f}")
    print(f"5 x 5 grid: {grid:.1f} CPU s, {stopped} trials stopped early")
    print(f"ratio {grid / (25 * one):.3f} (limit 0.333)")


def cpu_seconds(*command: str) -> float:
    """User and system time of a command and all of its children."""
    before = os.times()
    subprocess.run([*COMMAND, *command], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return sum(
        getattr(after, name) - getattr(before, name)
        for name in ("children_user", "children_system")
    )


def answers(arguments: argparse.Namespace, folder: Path) -> None:
    """What the search found beside what is so."""

    def run(name: str, *, first: int, **request: object) -> Tuning:
        scenario = SCENARIO.model_copy(update={"seed": first})
        asked = Request(**{"mode": "grid", "seeds": 5, **request})  # type: ignore[arg-type]
        where = tune(
            scenario, asked, out=folder / name, workers=arguments.workers, cache=arguments.cache
        )
        return read(where)

    found = run("grid", first=SEEDS, clip_norm=COARSE)
    assert found.recommended is not None
    chosen = found.trial(found.recommended.number)
    clips = tuple(sorted({*FINE, chosen.clip_norm}))
    truth = run("fine", first=FRESH, clip_norm=clips, noise_multiplier=(chosen.noise_multiplier,))
    at = next(trial for trial in truth.tried if trial.clip_norm == chosen.clip_norm)
    assert at.against_best is not None
    best = max(truth.tried, key=lambda trial: trial.accuracy.mean)
    print(
        f"\nrecommended on seeds 1 to 5: clip {chosen.clip_norm:g}, noise "
        f"{chosen.noise_multiplier:g}\non seeds 11 to 15: {at.accuracy.mean:.1%} there, best of "
        f"{len(truth.tried)} clip norms {best.accuracy.mean:.1%} at {best.clip_norm:g}; difference "
        f"{100 * at.against_best.mean:+.2f} points [{100 * at.against_best.low:+.2f}, "
        f"{100 * at.against_best.high:+.2f}]"
    )


def read(folder: Path) -> Tuning:
    """The results of a tuning."""
    return Tuning.model_validate_json((folder / "results.json").read_text())


if __name__ == "__main__":
    main()

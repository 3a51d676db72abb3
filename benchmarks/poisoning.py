"""Phones that lie against what stands against them: success, accuracy, worst accent, epsilon, cost.

    python -m benchmarks.poisoning --seeds 1 2 3 --out poisoning.jsonl
    python -m benchmarks.poisoning --out poisoning.jsonl --table     # what is there, as Markdown

Phones are drawn from synthetic voices of the scenario `default`; 3,000 of them, 300 expected in a
round. A share of the phones lies. Rounds are played by `fedspeech.round.run_round`, with the phones
of `fedspeech.audits.poisoning` among the honest ones; liars keep their coins, so a share of the
population is a share of a round. Accuracy is the federated adapter's on phones that never trained,
before personalizing. Success is the share of their target words that are taken for the attackers'
word: the next one, or with a trigger the first. A file keeps one row for every run; runs that it
holds are not played again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.robust import Defense
from fedspeech.audits.poisoning import ATTACKS, Liars, Trigger, drawn
from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.job import Job
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.population import PopulationArrays
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import ServerState, run_round
from fedspeech.vectors import FloatVector
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import BuiltExperiment, build_experiment
from simulations.setup.planning import plan_of

NOBODY = "nobody lies"
DEFENSES: dict[str, tuple[int, Defense]] = {
    "norm test alone": (1, Defense()),
    "rejection": (1, Defense(max_loss_rise=0.02)),
    "5 groups, median": (5, Defense(rule="median")),
    "10 groups, trimmed": (10, Defense(rule="trimmed_mean")),
    "5 groups, median, rejection": (5, Defense(rule="median", max_loss_rise=0.02)),
}
ONE = 1 / 300  # one phone of a round: ten phones that keep their coins, or one that always comes
SHARES = (ONE, 0.01, 0.05, 0.2)


def main() -> None:
    """Plays what the file does not hold, a row each, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--defenses", nargs="+", choices=list(DEFENSES), default=list(DEFENSES))
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--voices", type=int, default=60)
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--out", type=Path, default=Path("poisoning.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    arguments = parser.parse_args()
    if not arguments.table:
        measure(arguments)
    rows = rows_of(arguments.out)
    print(table(rows))
    for attack, name in (("flip_boosted", "accuracy"), ("backdoor_boosted", "triggered")):
        print(f"\n{name} against the share of liars, {attack}, %:\n\n{curve(rows, attack, name)}")


def measure(arguments: argparse.Namespace) -> None:
    """Plays every run that the file does not hold."""
    held = {identity(row) for row in rows_of(arguments.out)}
    for seed in arguments.seeds:
        built = None
        for attack, defense, share in wanted(arguments):
            if (attack, defense, share, seed) in held:
                continue
            built = built or made(seed, arguments)
            row = played(built, arguments, seed, attack, defense, share)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, str, float]]:
    """Every defense without liars, then every attack, defense and share."""
    for defense in arguments.defenses:
        yield NOBODY, defense, 0.0
    yield from itertools.product(arguments.attacks, arguments.defenses, arguments.shares)


def scenario_of(seed: int, arguments: argparse.Namespace, groups: int = 1) -> Any:
    """The scenario `default` with few voices, fewer rounds and less noise."""
    settings = [
        f"seed={seed}", f"corpus.voices={arguments.voices}", "corpus.held_out_phones=40",
        'privacy.secure_aggregation="ideal"', "privacy.colluders=0", "privacy.epsilon_budget=inf",
        f"privacy.rounds={arguments.rounds}", "privacy.noise_multiplier=1.0",
        f"privacy.groups={groups}",
    ]  # fmt: skip
    if groups > 1:  # a minimum of a small group is seldom met by one phone only if it is low
        settings += ["privacy.min_cohort_share=0.4", "privacy.min_reporting_share=0.35"]
    return read_scenario("default", settings)


def made(seed: int, arguments: argparse.Namespace) -> BuiltExperiment:
    """Base, adapter and phones; the same for every defense."""
    return build_experiment(
        scenario_of(seed, arguments), cache=arguments.cache, simulation_only=None, workers=1,
        progress=lambda done, total: None,
    )  # fmt: skip


def played(
    built: BuiltExperiment,
    arguments: argparse.Namespace,
    seed: int,
    attack: str,
    defense: str,
    share: float,
) -> dict[str, Any]:
    """One run with liars among the phones, and what became of it."""
    groups, rule = DEFENSES[defense]
    scenario = scenario_of(seed, arguments, groups)
    plan = plan_of(scenario.privacy, Experiment.from_scenario(scenario).sizes).plan
    job = dataclasses.replace(built.job, plan=plan, defense=None if rule == Defense() else rule)
    arrays = job.load_arrays()
    trigger = Trigger.from_public(arrays.validation, 0, seed)
    liars = None
    if share:
        phones = drawn(plan.population, share, seed)
        liars = Liars(job, arrays, ATTACKS[attack], phones, trigger)
    begun = time.perf_counter()
    state, failed, spoke = rounds_of(job, arrays, liars)
    seconds = (time.perf_counter() - begun) / plan.rounds
    spent = plan.guarantee(plan.rounds)
    return {
        "attack": attack, "defense": defense, "share": share, "seed": seed,
        **judged(built, state.model, trigger),
        "failed_rounds": failed, "defended_rounds": spoke,
        "epsilon_release": spent.epsilon_release, "relation": spent.relation_release,
        "epsilon_server": spent.epsilon_server,
        "epsilon_if_liars_withhold_noise": withheld(plan, round(share * plan.population)),
        "phones": plan.expected_cohort, "bytes_up": plan.vector_length * plan.bits // 8,
        "seconds_per_round": seconds,
    }  # fmt: skip


def rounds_of(
    job: Job, arrays: PopulationArrays, liars: Liars | None
) -> tuple[ServerState, int, int]:
    """The last state, rounds that failed, and rounds in which a defense did something."""
    state, failed, spoke = ServerState.initial(job, arrays), 0, 0
    told = arrays if liars is None else liars.arrays
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(
            Path(folder) / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy, scratch=True
        )
        for number in range(job.plan.rounds):
            if liars is not None:
                liars.starts(state.sent)
            send = None if liars is None else liars.send
            try:
                state, _ = run_round(job.query, state, job, told, ledger, number, send)
                spoke += bool(state.defended)
            except (CohortTooSmall, ProtocolAbort):
                failed += 1
    return state, failed, spoke


def judged(built: BuiltExperiment, model: FloatVector, trigger: Trigger) -> dict[str, float]:
    """What held-out phones hear: accuracy, its lowest accent, and both kinds of success."""
    clips = [phone.judged for phone in built.held_out]
    embeddings = np.concatenate([each.embeddings for each in clips])
    labels = np.concatenate([each.labels for each in clips])
    accents = np.repeat(
        [phone.phone.segments["accent"] for phone in built.held_out], [len(each) for each in clips]
    )

    def heard(these: NDArray[np.float32]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = score_clips(built.adapter, model[np.newaxis], these)[0].argmax(1)
        return found

    said, targets = heard(embeddings), int(labels.max()) + 1
    right, spoken = said == labels, labels < len(built.base.vocabulary.labels) - 2
    targets = len(built.base.vocabulary.labels) - 2
    other = spoken & (labels != trigger.label)
    return {
        "accuracy": float(right.mean()),
        "worst_accent": float(min(right[accents == each].mean() for each in set(accents))),
        "taken_for_next": float((said == (labels + 1) % targets)[spoken].mean()),
        "triggered": float((heard(trigger.on(embeddings)) == trigger.label)[other].mean()),
    }


def withheld(plan: PrivacyPlan, liars: int) -> float:
    """epsilon_server if so many phones may all come, in one sum, and add no noise.

    Infinite where the honest rest of the smallest sum is nobody.
    """
    honest = plan.min_reporting - liars
    if honest < 1:
        return float("inf")
    # The same noise of each phone; the sum has that of fewer.
    weaker = plan.noise_multiplier * (honest / plan.min_reporting) ** 0.5
    return dataclasses.replace(plan, noise_multiplier=weaker).guarantee(plan.rounds).epsilon_server


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Runs that were played."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def identity(row: dict[str, Any]) -> tuple[str, str, float, int]:
    """What a run was."""
    return row["attack"], row["defense"], row["share"], row["seed"]


SUCCESS = {"label_flip": "taken_for_next", "flip_boosted": "taken_for_next",
           "backdoor": "triggered", "backdoor_boosted": "triggered"}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds in Markdown, smallest to largest of success and accuracy behind them."""
    lines = [
        "| attack | liars | defense | success, % | accuracy, % | worst accent, % "
        "| rounds lost / defended | epsilon_release | epsilon_server / without liars' noise "
        "| seconds a round | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    cells = dict.fromkeys((row["attack"], row["share"], row["defense"]) for row in rows)
    order = [NOBODY, *ATTACKS]
    for attack, share, defense in sorted(
        cells, key=lambda cell: (order.index(cell[0]), cell[1], list(DEFENSES).index(cell[2]))
    ):
        own = [
            r for r in rows if (r["attack"], r["share"], r["defense"]) == (attack, share, defense)
        ]

        def spread(name: str, own: list[dict[str, Any]] = own) -> str:
            values = 100 * np.array([row[name] for row in own])
            return f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})"

        def mean(name: str, own: list[dict[str, Any]] = own) -> float:
            return float(np.mean([row[name] for row in own]))

        success = spread(SUCCESS[attack]) if attack in SUCCESS else ""
        if attack == NOBODY:
            success = f"next {spread('taken_for_next')}, trigger {spread('triggered')}"
        liars = "one a round" if share == ONE else f"{share:.0%}"
        lines.append(
            f"| {attack} | {liars} | {defense} | {success} | {spread('accuracy')} "
            f"| {100 * mean('worst_accent'):.1f} | {mean('failed_rounds'):.1f} / "
            f"{mean('defended_rounds'):.1f} | {mean('epsilon_release'):.2f} ({own[0]['relation']}) "
            f"| {mean('epsilon_server'):.2f} / {mean('epsilon_if_liars_withhold_noise'):.2f} "
            f"| {mean('seconds_per_round'):.1f} | {len(own)} |"
        )
    return "\n".join(lines)


def curve(rows: list[dict[str, Any]], attack: str, name: str) -> str:
    """A figure of each defense against the share of liars: mean, smallest to largest over seeds."""
    shares = sorted({row["share"] for row in rows if row["attack"] == attack})
    named = ["one a round" if share == ONE else f"{share:.0%}" for share in shares]
    lines = [
        f"| defense | nobody | {' | '.join(named)} |",
        "|---|---|" + "---|" * len(shares),
    ]
    for defense in DEFENSES:
        cells = []
        for who, share in [(NOBODY, 0.0), *((attack, share) for share in shares)]:
            values = 100 * np.array(
                [
                    row[name]
                    for row in rows
                    if (row["attack"], row["defense"], row["share"]) == (who, defense, share)
                ]
            )
            spread = f" ({values.min():.0f} to {values.max():.0f})" if len(values) > 1 else ""
            cells.append(f"{values.mean():.0f}{spread}" if len(values) else "")
        lines.append(f"| {defense} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

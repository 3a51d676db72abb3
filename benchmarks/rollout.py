"""How large must a population be for a roll-out to stop harm early? Curves over epsilon.

    python -m benchmarks.rollout [--seeds 200] [--page rollout-power.html] [--json]

The update costs one accent of a tenth of the phones 5 points. A roll-out is stopped early if its
guardrails roll back before a tenth of the phones have it, so in the stage of 1 %. Beside it, a
harmless update, and how often it reaches everybody. Segments are not merged and no stage is
refused here: the curves show where a plan would be.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedspeech.rollout.plan import Evaluation, RolloutPlan
from fedspeech.rollout.power import detectable
from fedspeech.rollout.simulation import simulate
from simulations.report.document import document
from simulations.report.figures import Figure, axes, rule, scatter

ACCENTS = {"accent": {"us": 0.5, "uk": 0.25, "in": 0.15, "scottish": 0.1}}
HARMED, LOSS = "accent=scottish", 0.05
PHONES = (100_000, 200_000, 300_000, 400_000, 600_000, 800_000, 1_200_000, 2_000_000, 4_000_000)
EPSILONS = (1.0, 2.0, 4.0, 8.0, math.inf)
ROLES = ("personalized", "control", "federated", "base", "warn")
SYMBOLS = ("diamond", "square", "circle", "circle-open", "x")


def plan(phones: int, epsilon: float, answers: int = 1) -> RolloutPlan:
    """The plan that is measured: defaults, but for these numbers and how phones differ."""
    asked = Evaluation(epsilon=epsilon, phone_stddev=0.1, answers=answers)
    return RolloutPlan(phones=phones, segments=ACCENTS, evaluation=asked)


def measure(phones: int, epsilon: float, seeds: Sequence[int], answers: int = 1) -> dict[str, Any]:
    """One population at one epsilon."""
    asked = plan(phones, epsilon, answers)
    harmful = simulate(asked, losses={HARMED: LOSS}, seeds=seeds)
    harmless = simulate(asked, seeds=seeds)
    early = harmful.rolled_back & (harmful.served < asked.stages[1].share)
    smallest = next(
        one.smallest for one in detectable(asked, asked.stages[0]) if one.segment == HARMED
    )
    return {
        "phones": phones,
        "epsilon": "inf" if math.isinf(epsilon) else epsilon,
        "smallest_loss_found_at_first": smallest,
        "stopped_early": float(early.mean()),
        "rolled_back": float(harmful.rolled_back.mean()),
        "reached_everybody_though_harmful": float(harmful.reached.mean()),
        "harmless_reached_everybody": float(harmless.reached.mean()),
        "harmless_rolled_back": float(harmless.rolled_back.mean()),
    }


def main() -> None:
    """Prints a row per epsilon and population, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--phones", type=int, nargs="+", default=PHONES)
    parser.add_argument("--epsilons", type=float, nargs="+", default=EPSILONS)
    parser.add_argument("--answers", type=int, default=1, help="of a phone in one window")
    parser.add_argument("--page", type=Path, help="write the curves as one offline page")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows = []
    for epsilon in arguments.epsilons:
        for phones in arguments.phones:
            rows.append(measure(phones, epsilon, range(arguments.seeds), arguments.answers))
            if not arguments.json:
                print(line(rows[-1]), flush=True)
    if arguments.json:
        json.dump(rows, sys.stdout, indent=1)
    if arguments.page:
        arguments.page.write_text(page(rows, arguments.seeds), "utf-8")


def line(row: dict[str, Any]) -> str:
    """One row in words."""
    smallest = row["smallest_loss_found_at_first"]
    found = "nothing" if smallest is None else f"{100 * smallest:.1f} points"
    return (
        f"epsilon {row['epsilon']:>4} {row['phones']:>9,} phones: finds {found} at 1 %; harmful "
        f"stopped early {row['stopped_early']:.1%}, reached everybody "
        f"{row['reached_everybody_though_harmful']:.1%}; harmless reached everybody "
        f"{row['harmless_reached_everybody']:.1%}"
    )


def page(rows: Sequence[dict[str, Any]], seeds: int) -> str:
    """The curves as one offline page."""
    epsilons = list(dict.fromkeys(row["epsilon"] for row in rows))
    traces = [
        scatter(
            [row["phones"] for row in rows if row["epsilon"] == epsilon],
            [100 * row["stopped_early"] for row in rows if row["epsilon"] == epsilon],
            "lines+markers", role, f"epsilon {epsilon}", marker={"symbol": symbol},
        )
        for epsilon, role, symbol in zip(epsilons, ROLES, SYMBOLS, strict=False)
    ]  # fmt: skip
    layout = axes(
        "phones in the population", "stopped before 10 % had it, % of roll-outs",
        x={"type": "log", "tickvals": list(PHONES[::2]), "tickformat": "~s"},
        y={"range": [0, 102]},
    )  # fmt: skip
    layout["shapes"] = [rule("y", 90)]
    figure = Figure(
        key="stopped",
        title="How often 5 points of loss in one accent are stopped early",
        visibility=("simulation_only",),
        says=f"The accent has a tenth of the phones; {seeds} simulated roll-outs a point. Dashed: "
        "90 %.",
        header=("epsilon", "phones", "finds at 1 %, points", "stopped early", "harmless reached"),
        table=tuple(
            (
                str(row["epsilon"]), f"{row['phones']:,}", _points(row),
                f"{row['stopped_early']:.1%}", f"{row['harmless_reached_everybody']:.1%}",
            )
            for row in rows
        ),
        traces=traces,
        layout=layout,
        height=420,
    )  # fmt: skip
    context = {"title": "Roll-outs stopped early", "marks": (), "figures_shown": [figure]}
    return document("curves.html", [figure], context)


def _points(row: dict[str, Any]) -> str:
    smallest = row["smallest_loss_found_at_first"]
    return "withheld" if smallest is None else f"{100 * smallest:.1f}"


if __name__ == "__main__":
    main()

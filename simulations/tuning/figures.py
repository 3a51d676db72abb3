"""The curves of a tuning: accuracy against epsilon, and the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulations.report import phrasing
from simulations.report.figures import Column, Figure, Json, axes, figure, rule
from simulations.tuning.results import Recommended, Tried, Tuning

TICKS = [float(f"{digit}e{power}") for power in range(-3, 5) for digit in (1, 2, 5)]


def fronts(found: Tuning, front: Sequence[int]) -> list[Figure]:
    """Accuracy against epsilon_release, with the settings that no other beats in both.

    Args:
      found: the tuning.
      front: numbers of the trials of the front, by rising epsilon.
    """
    finite = [trial for trial in found.tried if math.isfinite(trial.guarantee.epsilon_release)]
    whole = [trial for trial in finite if not trial.stopped]
    if len(whole) < 2:
        return []
    best = [found.trial(number) for number in front]
    best = [trial for trial in best if math.isfinite(trial.guarantee.epsilon_release)]
    others = [trial for trial in whole if trial not in best]
    cut = [trial for trial in finite if trial.stopped]
    traces = [
        _points(others, "other settings", "base", "circle-open", mode="markers"),
        _points(cut, "stopped as hopeless", "control", "x-thin-open", mode="markers"),
        _points(best, "front", "federated", "circle", mode="lines+markers"),
    ]
    if found.recommended:
        chosen = found.trial(found.recommended.number)
        traces.append(_points([chosen], "recommended", "personalized", "diamond", mode="markers"))
    low = min(found.base, *(trial.accuracy.mean - _arms(trial)[0] for trial in whole))
    high = max(found.base, *(trial.accuracy.mean + _arms(trial)[1] for trial in whole))
    layout = axes(
        "epsilon_release, over all planned rounds",
        "% correct",
        x={"type": "log", "tickvals": TICKS, "ticktext": [f"{value:g}" for value in TICKS]},
        y={"range": [max(0.0, 100 * low - 1), min(100.5, 100 * high + 1)]},
    )
    layout["shapes"] = [rule("y", 100 * found.base)]
    if found.budget is not None:
        layout["shapes"].append(rule("x", found.budget))
    return [
        Figure(
            key="front",
            title="Which settings are worth their epsilon",
            visibility=(found.visibility, "public"),
            says=(
                "Bars: 95 % intervals of the paired difference from the best setting, which tell "
                "settings apart; those of the accuracies themselves are in the table. The front "
                "flatters itself: its points were picked for being high. Dashed: the base before "
                "any training" + (", and the budget." if found.budget is not None else ".")
            ),
            header=("ε release", "ε server", "accuracy", "clip norm", "noise multiplier"),
            table=tuple(
                (
                    phrasing.epsilon(trial.guarantee.epsilon_release),
                    phrasing.epsilon(trial.guarantee.epsilon_server),
                    interval(trial),
                    f"{trial.clip_norm:g}",
                    f"{trial.noise_multiplier:g}",
                )
                for trial in best
            ),
            traces=[trace for trace in traces if trace["x"]],
            layout=layout,
            height=400,
        )
    ]


def _arms(trial: Tried) -> tuple[float, float]:
    """How far the interval of a setting reaches down and up."""
    found = trial.against_best or trial.accuracy
    return found.mean - found.low, found.high - found.mean


def _points(trials: Sequence[Tried], name: str, role: str, symbol: str, *, mode: str) -> Json:
    """Settings by epsilon and accuracy."""
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [trial.guarantee.epsilon_release for trial in trials],
        "y": [100 * trial.accuracy.mean for trial in trials],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * _arms(trial)[1] for trial in trials],
            "arrayminus": [100 * _arms(trial)[0] for trial in trials],
            "color": f"@{role}",
            "thickness": 1,
            "width": 3,
        },
        "marker": {
            "color": f"@{role}",
            "symbol": symbol,
            "size": 12 if name == "recommended" else 8,
            "line": {"color": f"@{role}", "width": 1.5},
        },
        "line": {"color": f"@{role}", "width": 2},
        "hovertext": [
            f"clip {trial.clip_norm:g}, noise {trial.noise_multiplier:g}, server rate "
            f"{trial.server_learning_rate:g}, epochs {trial.local_epochs}"
            for trial in trials
        ],
        "hovertemplate": "ε %{x:.3~g}: %{y:.1f} %<br>%{hovertext}<extra></extra>",
    }


def spending(found: Tuning, chosen: Recommended) -> list[Figure]:
    """Both epsilons over the rounds of the recommended plan."""
    last = chosen.spending[max(chosen.spending)]

    def epsilons(name: str, place: int, role: str, dash: str) -> Column:
        spent = [both[place] for both in chosen.spending.values()]
        return Column(
            name, spent, phrasing.epsilon, role if math.isfinite(max(spent)) else "", dash
        )

    drawn = figure(
        "spending",
        "What it spends, round by round",
        f"Priced before anything runs: {phrasing.epsilon(last[0])} against readers of the "
        f"published models and {phrasing.epsilon(last[1])} against the server after "
        f"{found.rounds} rounds."
        + (
            f" The budget on the first is {phrasing.epsilon(found.budget)}."
            if found.budget is not None
            else ""
        ),
        (
            Column("rounds", list(chosen.spending)),
            epsilons("epsilon_release", 0, "federated", "solid"),
            epsilons("epsilon_server", 1, "control", "dash"),
        ),
        visibility=("public",),
        y_title="ε",
        y={"rangemode": "tozero"},
    )
    # A budget far above what is spent would only flatten the curves.
    if drawn and found.budget is not None and found.budget <= 2 * max(last):
        drawn.layout["shapes"] = [rule("y", found.budget)]
    return [drawn] if drawn else []


def interval(trial: Tried) -> str:
    """An accuracy with its interval."""
    found = trial.accuracy
    return f"{phrasing.percent(found.mean)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"

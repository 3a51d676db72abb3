"""The plots of a tuning: heat maps, accuracy against epsilon, and what the choice spends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from simulations.report import phrasing
from simulations.report.figures import Column, Figure, Json, axes, figure, rule, scatter
from simulations.tuning.phrasing import interval
from simulations.tuning.results import Recommended, Tried, Tuning

TICKS = [float(f"{digit}e{power}") for power in range(-3, 5) for digit in (1, 2, 5)]


def maps(found: Tuning) -> list[Figure]:
    """Accuracy and worst-segment accuracy over clip norm and noise; none without two axes."""
    cells = shown(found)
    if found.mode != "grid" or any(
        len({getattr(cell, name) for cell in cells}) < 2
        for name in ("clip_norm", "noise_multiplier")
    ):
        return []
    figures = [
        _heat(
            found, cells, "accuracy", "Accuracy",
            "Mean over seeds and members, per cent. An asterisk: stopped early as hopeless.",
            lambda cell: cell.accuracy.mean,
        )
    ]  # fmt: skip
    if all(cell.worst_segment for cell in cells):
        worst = _heat(
            found, cells, "worst", "Accuracy of the worst segment",
            "Mean over the phones of the group that each setting serves worst, per cent.",
            lambda cell: cell.worst_segment.accuracy if cell.worst_segment else 0.0,
        )  # fmt: skip
        figures.append(worst)
    return figures


def shown(found: Tuning) -> list[Tried]:
    """The settings of a map: those with the recommended rate and epochs, where searched."""
    chosen = found.chosen or found.tried[0]
    free = found.settings.get("server learning rate", "null") != "null"
    return [
        trial
        for trial in found.tried
        if trial.local_epochs == chosen.local_epochs
        and (not free or trial.server_learning_rate == chosen.server_learning_rate)
    ]


def _heat(
    found: Tuning,
    cells: Sequence[Tried],
    key: str,
    title: str,
    says: str,
    value: Callable[[Tried], float],
) -> Figure:
    """One map. Positions are logarithms, so that cells are equally large."""
    clips = sorted({cell.clip_norm for cell in cells})
    noises = sorted({cell.noise_multiplier for cell in cells})
    at = {(cell.clip_norm, cell.noise_multiplier): cell for cell in cells}

    def row(noise: float, say: Callable[[Tried], object]) -> list[object]:
        return [say(at[clip, noise]) if (clip, noise) in at else None for clip in clips]

    def label(cell: Tried) -> str:
        return f"{100 * value(cell):.1f}" + ("*" if cell.stopped else "")

    traces: list[Json] = [
        {
            "type": "heatmap",
            "x": [math.log10(clip) for clip in clips],
            "y": [math.log10(noise) for noise in noises],
            "z": [row(noise, lambda cell: round(100 * value(cell), 3)) for noise in noises],
            "text": [row(noise, label) for noise in noises],
            "texttemplate": "%{text}",
            "textfont": {"color": "@ink", "size": 12},
            "colorscale": [[0, "@panel"], [1, "@heat"]],
            "showscale": False,
            "hovertemplate": "%{z:.1f} %<extra></extra>",
            "xgap": 1,
            "ygap": 1,
        },
        *_contour_traces(found, clips),
    ]
    if chosen := found.chosen:
        place = ([math.log10(chosen.clip_norm)], [math.log10(chosen.noise_multiplier)])
        ring = {"symbol": "circle-open", "size": 44, "line": {"color": "@personalized", "width": 3}}
        traces.append(scatter(*place, "markers", "personalized", marker=ring))
    return Figure(
        key=key,
        title=title,
        visibility=(found.visibility,),
        says=says,
        header=("noise multiplier", *(f"clip {clip:g}" for clip in clips)),
        table=tuple(
            (f"{noise:g}", *(str(text) for text in row(noise, label))) for noise in reversed(noises)
        ),
        traces=traces,
        layout=axes(
            "clip norm",
            "noise multiplier",
            x=_log_ticks(clips) | {"range": _room_for_labels(clips, found)},
            y=_log_ticks(noises),
        )
        | {"showlegend": False},
        height=420,
    )


def _contour_traces(found: Tuning, clips: Sequence[float]) -> list[Json]:
    """A line for every level of epsilon_release, with its value at the right end."""
    half = (math.log10(clips[1]) - math.log10(clips[0])) / 2
    traces = []
    for contour in found.contours:
        budget = found.budget is not None and contour.epsilon == found.budget
        role, dash = ("warn", "dash") if budget else ("ink", "solid")
        xs = [math.log10(clip) for clip, _ in contour.points]
        ys = [math.log10(noise) for _, noise in contour.points]
        xs, ys = [xs[0] - half, *xs, xs[-1] + half], [ys[0], *ys, ys[-1]]
        name = f"ε {contour.epsilon:g}" + (" budget" if budget else "")
        traces.append(
            scatter(
                xs, ys, "lines+text", role, name,
                text=[*[""] * (len(xs) - 1), f" {name}"],
                textposition="middle right",
                textfont={"size": 11, "color": f"@{role}"},
                line={"width": 2 if budget else 1.2, "dash": dash},
                hovertemplate=name + "<extra></extra>",
            )
        )  # fmt: skip
    return traces


def _room_for_labels(clips: Sequence[float], found: Tuning) -> list[float]:
    """The map, and to its right the place in which contours say their epsilon."""
    low, high = math.log10(clips[0]), math.log10(clips[-1])
    cell = (high - low) / (len(clips) - 1)
    return [low - cell / 2, high + cell / 2 + (0.17 * (high - low + cell) if found.contours else 0)]


def _log_ticks(values: Sequence[float]) -> Json:
    return {
        "tickvals": [math.log10(value) for value in values],
        "ticktext": [f"{value:g}" for value in values],
        "showgrid": False,
    }


def front(found: Tuning) -> list[Tried]:
    """Settings that no other beats in accuracy and epsilon, by rising epsilon."""
    best, kept = -1.0, []
    for trial in sorted(
        (trial for trial in found.tried if not trial.stopped),
        key=lambda trial: (trial.guarantee.epsilon_release, -trial.accuracy.mean),
    ):
        if trial.accuracy.mean > best:
            best = trial.accuracy.mean
            kept.append(trial)
    return kept


def fronts(found: Tuning) -> list[Figure]:
    """Accuracy against epsilon_release, with the settings that no other beats in both."""
    finite = [trial for trial in found.tried if math.isfinite(trial.guarantee.epsilon_release)]
    whole = [trial for trial in finite if not trial.stopped]
    if len(whole) < 2:
        return []
    best = [trial for trial in front(found) if trial in finite]
    others = [trial for trial in whole if trial not in best]
    cut = [trial for trial in finite if trial.stopped]
    traces = [
        _points(others, "other settings", "base", "circle-open", mode="markers"),
        _points(cut, "stopped as hopeless", "control", "x-thin-open", mode="markers"),
        _points(best, "front", "federated", "circle", mode="lines+markers"),
    ]
    if found.chosen:
        traces.append(
            _points([found.chosen], "recommended", "personalized", "diamond", mode="markers")
        )
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
                    interval(trial.accuracy),
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
    arms = [_arms(trial) for trial in trials]
    return scatter(
        [trial.guarantee.epsilon_release for trial in trials],
        [100 * trial.accuracy.mean for trial in trials],
        mode, role, name,
        error_y={
            "type": "data", "symmetric": False, "color": f"@{role}", "thickness": 1, "width": 3,
            "array": [100 * up for _, up in arms], "arrayminus": [100 * down for down, _ in arms],
        },
        marker={"symbol": symbol, "size": 12 if name == "recommended" else 8},
        hovertext=[
            f"clip {trial.clip_norm:g}, noise {trial.noise_multiplier:g}, server rate "
            f"{trial.server_learning_rate:g}, epochs {trial.local_epochs}"
            for trial in trials
        ],
        hovertemplate="ε %{x:.3~g}: %{y:.1f} %<br>%{hovertext}<extra></extra>",
    )  # fmt: skip


def spending(found: Tuning, chosen: Recommended) -> list[Figure]:
    """Both epsilons over the rounds of the recommended plan."""
    last = chosen.spending[max(chosen.spending)]

    def epsilons(name: str, place: int, role: str, dash: str) -> Column:
        spent = [both[place] for both in chosen.spending.values()]
        return Column(
            name, spent, phrasing.epsilon, role if math.isfinite(max(spent)) else "", dash
        )

    budget = found.budget
    said = f" The budget on the first is {phrasing.epsilon(budget)}." if budget is not None else ""
    return figure(
        "spending",
        "What it spends, round by round",
        f"Priced before anything runs: {phrasing.epsilon(last[0])} against readers of the "
        f"published models and {phrasing.epsilon(last[1])} against the server after "
        f"{found.rounds} rounds.{said}",
        (
            Column("rounds", list(chosen.spending)),
            epsilons("epsilon_release", 0, "federated", "solid"),
            epsilons("epsilon_server", 1, "control", "dash"),
        ),
        visibility=("public",),
        y_title="ε",
        y={"rangemode": "tozero"},
        # A budget far above what is spent would only flatten the curves.
        rule_at=budget if budget is not None and budget <= 2 * max(last) else None,
    )

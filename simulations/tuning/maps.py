"""Heat maps over clip norm and noise multiplier, with contours of epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from simulations.report.figures import Figure, Json, axes
from simulations.tuning.results import Tried, Tuning


def maps(found: Tuning) -> list[Figure]:
    """Accuracy and worst-segment accuracy over clip norm and noise; none without two axes."""
    cells = shown(found)
    if len({cell.clip_norm for cell in cells}) < 2:
        return []
    if len({cell.noise_multiplier for cell in cells}) < 2:
        return []
    figures = [
        _heat(
            found,
            cells,
            key="accuracy",
            title="Accuracy",
            says="Mean over seeds and members, per cent. An asterisk: stopped early as hopeless.",
            value=lambda cell: cell.accuracy.mean,
        )
    ]
    if all(cell.worst_segment for cell in cells):
        figures.append(
            _heat(
                found,
                cells,
                key="worst",
                title="Accuracy of the worst segment",
                says="Mean over the phones of the group that each setting serves worst, per cent.",
                value=lambda cell: cell.worst_segment.accuracy if cell.worst_segment else 0.0,
            )
        )
    return figures


def shown(found: Tuning) -> list[Tried]:
    """The settings of a map: those with the recommended rate and epochs, where searched."""
    chosen = found.trial(found.recommended.number) if found.recommended else found.tried[0]
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
    *,
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
        }
    ]
    traces += _contour_traces(found, clips)
    if found.recommended:
        chosen = found.trial(found.recommended.number)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [math.log10(chosen.clip_norm)],
                "y": [math.log10(chosen.noise_multiplier)],
                "marker": {
                    "symbol": "circle-open",
                    "size": 44,
                    "color": "@personalized",
                    "line": {"color": "@personalized", "width": 3},
                },
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
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
    traces: list[Json] = []
    for contour in found.contours:
        budget = found.budget is not None and contour.epsilon == found.budget
        xs = [math.log10(clip) for clip, _ in contour.points]
        ys = [math.log10(noise) for _, noise in contour.points]
        xs, ys = [xs[0] - half, *xs, xs[-1] + half], [ys[0], *ys, ys[-1]]
        name = f"ε {contour.epsilon:g}" + (" budget" if budget else "")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+text",
                "name": name,
                "x": xs,
                "y": ys,
                "text": [*[""] * (len(xs) - 1), f" {name}"],
                "textposition": "middle right",
                "textfont": {"size": 11, "color": "@warn" if budget else "@ink"},
                "line": {
                    "color": "@warn" if budget else "@ink",
                    "width": 2 if budget else 1.2,
                    "dash": "dash" if budget else "solid",
                },
                "hovertemplate": name + "<extra></extra>",
            }
        )
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

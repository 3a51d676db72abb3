"""Plots over groups of phones: who gains, by accent, device and whatever else is known."""

from __future__ import annotations

import html

from simulations.report import phrasing
from simulations.report.figures import MODELS, Figure, Json, Model, axes, marker
from simulations.results.records import Accuracy, SegmentResult, Summary


def segments(summary: Summary) -> list[Figure]:
    """One dumbbell plot a segment: base, federated, personalized and control by value."""
    return [
        _segment(f"segment-{index}", name, cells)
        for index, (name, cells) in enumerate(summary.segments.items())
        if cells
    ]


def _segment(key: str, name: str, cells: dict[str, SegmentResult]) -> Figure:
    """Values of one segment, worst base at the bottom."""
    ordered = sorted(cells.items(), key=lambda item: item[1].accuracy.base.mean)
    labels = [_cell_label(value, cell) for value, cell in ordered]
    traces: list[Json] = []
    for label, (_, cell) in zip(labels, ordered, strict=True):
        means = [found.mean for found in _models(cell).values()]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [100 * min(means), 100 * max(means)],
                "y": [label, label],
                "line": {"color": "@rule", "width": 5},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    for model in MODELS:
        found = [
            (label, _models(cell)[model])
            for label, (_, cell) in zip(labels, ordered, strict=True)
            if model in _models(cell)
        ]
        if found:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": model,
                    "x": [100 * accuracy.mean for _, accuracy in found],
                    "y": [label for label, _ in found],
                    "marker": marker(model, 11),
                    "hovertemplate": "%{x:.1f} %" + f"<extra>{model}</extra>",
                }
            )
    return Figure(
        key=key,
        title=f"By {name.replace('_', ' ')}",
        eyes=("simulator",),
        says="Mean accuracy of the phones of each group, by model.",
        header=(
            "group",
            "phones",
            *MODELS,
            "federated − base",
            "personalized − federated",
            "worse",
        ),
        table=tuple(_segment_row(value, cell) for value, cell in reversed(ordered)),
        traces=traces,
        layout=axes("% correct", "", y={"ticklabelstandoff": 6, "showgrid": False})
        | {"showlegend": False},
        height=80 + 46 * len(cells),
    )


def _segment_row(value: str, cell: SegmentResult) -> tuple[str, ...]:
    """A row of a segment's table."""
    found = _models(cell)
    title = value + (f" ({', '.join(cell.merged)})" if cell.merged else "")
    if cell.heard_by_base is False:
        title += " — unheard by the base"
    return (
        title,
        str(cell.accuracy.base.phones),
        *(phrasing.percent(found[model].mean) if model in found else "–" for model in MODELS),
        _gain(found, "federated", "base"),
        _gain(found, "personalized", "federated"),
        phrasing.percent(cell.share_worse.share) if cell.share_worse else "–",
    )


def _cell_label(value: str, cell: SegmentResult) -> str:
    """A tick label: value, number of phones, and whether it is new to the base."""
    label = f"{html.escape(value)} ({cell.accuracy.base.phones})"
    return f"{label}<br><i>unheard</i>" if cell.heard_by_base is False else label


def _models(cell: SegmentResult) -> dict[Model, Accuracy]:
    """The accuracies that a cell has."""
    every = {model: getattr(cell.accuracy, model) for model in MODELS}
    return {model: accuracy for model, accuracy in every.items() if accuracy is not None}


def _gain(found: dict[Model, Accuracy], after: Model, before: Model) -> str:
    """Difference of two means, in points."""
    if after not in found or before not in found:
        return "–"
    return phrasing.points(found[after].mean - found[before].mean)

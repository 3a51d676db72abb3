"""Plots over groups of phones: who gains, by accent, device and whatever else is known."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping

from fedspeech.evaluation.metric import MODELS, REGRESSION, Metric, Model, Segment
from simulations.report import phrasing
from simulations.report.figures import Figure, Json, axes, marker, scatter
from simulations.results.summary import Summary

Cells = dict[Segment, dict[Model, Metric]]


def segments(summary: Summary) -> list[Figure]:
    """One dumbbell plot for each headline metric and segment: the four models by group."""
    worse = _worse(summary)
    return [
        _segment(f"segment-{index}", metric, segment, cells, worse)
        for index, (metric, segment, cells) in enumerate(_cut(summary))
    ]


def _cut(summary: Summary) -> Iterator[tuple[Metric, str, Cells]]:
    """A metric, the name of a segment and its groups, in the order of the sections."""
    for section in summary.sections:
        shown = {metric.name: metric for metric in section.metrics if metric.headline}
        for name, metric in shown.items():
            by_name: dict[str, Cells] = {}
            for segment, found in section.by_segment(name).items():
                by_name.setdefault(segment.name, {})[segment] = found
            for segment_name, cells in by_name.items():
                yield metric, segment_name, cells


def _worse(summary: Summary) -> dict[Segment, Metric]:
    """Phones worse off, by group."""
    found = summary.section(REGRESSION).metrics
    return {metric.segment: metric for metric in found if metric.segment}


def _segment(
    key: str, metric: Metric, name: str, cells: Cells, worse: Mapping[Segment, Metric]
) -> Figure:
    """Groups of one segment, the one that the base serves worst at the bottom."""
    sign = -1 if metric.lower_is_better else 1
    ordered = sorted(cells.items(), key=lambda cell: sign * next(iter(cell[1].values())).value)
    labels = [_label(segment, found) for segment, found in ordered]
    return Figure(
        key=key,
        title=f"{phrasing.capital(metric.name)}, by {name.replace('_', ' ')}",
        visibility=(metric.visibility,),
        says="By model; " + ("lower is better." if metric.lower_is_better else "higher is better."),
        header=(
            "group",
            "phones",
            *MODELS,
            "federated − base",
            "personalized − federated",
            "worse",
        ),
        table=tuple(
            _row(segment, found, worse.get(segment)) for segment, found in reversed(ordered)
        ),
        traces=_dumbbells(labels, [found for _, found in ordered]),
        layout=axes(
            html.escape(metric.name) + (", %" if metric.unit == "share" else ""),
            "",
            y={"ticklabelstandoff": 6, "showgrid": False},
        )
        | {"showlegend": False},
        height=80 + 46 * len(cells),
    )


def _dumbbells(labels: list[str], cells: list[dict[Model, Metric]]) -> list[Json]:
    """A bar from the least to the greatest model of each group, and the models on it."""
    traces: list[Json] = []
    for label, found in zip(labels, cells, strict=True):
        values = [_drawn(metric) for metric in found.values()]
        ends = [min(values), max(values)]
        traces.append(scatter(ends, [label, label], "lines", "rule", line={"width": 5}))
    for model in MODELS:
        placed = [(label, found[model]) for label, found in zip(labels, cells, strict=True)
                  if model in found]  # fmt: skip
        if placed:
            traces.append(
                scatter(
                    [_drawn(metric) for _, metric in placed],
                    [label for label, _ in placed],
                    "markers",
                    model,
                    model,
                    marker=marker(model, 11),
                    hovertemplate="%{x:.1f}" + f"<extra>{model}</extra>",
                )
            )
    return traces


def _drawn(metric: Metric) -> float:
    return 100 * metric.value if metric.unit == "share" else metric.value


def _row(segment: Segment, found: Mapping[Model, Metric], worse: Metric | None) -> tuple[str, ...]:
    """A row of a segment's table."""
    title = segment.value + (f" ({', '.join(segment.merged)})" if segment.merged else "")
    if segment.in_pretraining_data is False:
        title += " — not in the base’s pre-training data"
    return (
        title,
        _phones(found),
        *(
            phrasing.value(found[model].value, found[model].unit) if model in found else "–"
            for model in MODELS
        ),
        _gain(found, "federated", "base"),
        _gain(found, "personalized", "federated"),
        phrasing.percent(worse.value) if worse else "–",
    )


def _label(segment: Segment, found: Mapping[Model, Metric]) -> str:
    """A tick label: value, number of phones, and whether it is new to the base."""
    label = f"{html.escape(segment.value)} ({_phones(found)})"
    return f"{label}<br><i>new to the base</i>" if segment.in_pretraining_data is False else label


def _phones(found: Mapping[Model, Metric]) -> str:
    phones = next(iter(found.values())).phones
    return "–" if phones is None else str(phones)


def _gain(found: Mapping[Model, Metric], after: Model, before: Model) -> str:
    """Difference of two models, in points where they are shares."""
    if after not in found or before not in found:
        return "–"
    return phrasing.change(found[after].value - found[before].value, found[after].unit)

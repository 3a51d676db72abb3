"""Plots over held-out phones: before against after, how much each gained, and group by group."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence

from fedspeech.evaluation.metric import MODELS, REGRESSION, Chart, Metric, Model, Segment
from simulations.report import phrasing
from simulations.report.figures import Column, Figure, Json, axes, counts, marker, scatter, share
from simulations.results.summary import Summary

BIN = 5  # points
Cells = dict[Segment, dict[Model, Metric]]


def single_phones(key: str, found: Chart) -> list[Figure]:
    """Both plots of a chart over single phones; none without both models that are compared."""
    before, after, control = (found.of(name) for name in ("federated", "personalized", "control"))
    if not before or not after:
        return []
    edge = BIN * math.ceil(
        max(abs(gain) for gain in (*_points(after, before), *_points(control, before))) / BIN
    )
    gains = {"own examples": _points(after, before), "control": _points(control, before)}
    return [_before_after(key, found), _gains(f"{key}-gains", found, gains, edge)]


def _before_after(key: str, found: Chart) -> Figure:
    """Federated against personalized; phones are numbered by the first, never named."""
    before, after = found.of("federated"), found.of("personalized")
    order = sorted(range(len(before)), key=lambda phone: before[phone])
    columns = [Column("phone (by federated)", range(1, len(order) + 1))]
    if found.counted:
        columns.append(counts("examples", [found.counted[phone] for phone in order]))
    columns += [
        share(model, [found.of(model)[phone] for phone in order])
        for model in MODELS
        if found.of(model)
    ]
    low = 100 * min((*before, *after)) - 4
    above, below = (
        sum(sign * (b - a) > 0 for a, b in zip(before, after, strict=True)) for sign in (1, -1)
    )
    return Figure(
        key=key,
        title="Each phone before and after personalizing",
        visibility=(found.visibility,),
        says=(
            f"{phrasing.capital(found.y.name)}. Above the dotted line a phone "
            f"gained: {above} of {len(before)} did, "
            f"{below} lost, {len(before) - above - below} stayed the same."
        ),
        header=tuple(column.name for column in columns),
        table=tuple(tuple(column.cell(row) for column in columns) for row in range(len(order))),
        traces=[
            scatter([low, 103], [low, 103], "lines", "muted", line={"width": 1, "dash": "dot"}),
            scatter(
                [round(100 * value, 4) for value in before],
                [round(100 * value, 4) for value in after],
                "markers",
                "personalized",
                "one phone",
                marker={"opacity": 0.6, "line": {"width": 0}},
                hovertemplate="%{x:.1f} % → %{y:.1f} %<extra></extra>",
                showlegend=False,
            ),
        ],
        layout=axes(
            "federated, %",
            "personalized, %",
            x={"range": [low, 103]},
            y={"range": [low, 103]},
        ),
        height=340,
    )


def _gains(key: str, found: Chart, gains: dict[str, list[float]], edge: int) -> Figure:
    """A histogram of points over the federated model, with that of the control."""
    roles = {"own examples": "personalized", "control": "control"}
    centers = range(-edge, edge + 1, BIN)
    tallies = {
        name: [sum(c - BIN / 2 <= gain < c + BIN / 2 for gain in values) for c in centers]
        for name, values in gains.items()
        if values
    }
    return Figure(
        key=key,
        title="How much each phone gained",
        visibility=(found.visibility,),
        says=(
            "Points over the federated adapter, in bins of five. Beside it the control: "
            "the same procedure with another phone’s examples."
        ),
        header=("gain, points", *(f"phones, {name}" for name in tallies)),
        table=tuple(
            (f"{center:+d}".replace("-", "−"), *(str(tally[i]) for tally in tallies.values()))
            for i, center in enumerate(centers)
            if any(tally[i] for tally in tallies.values())
        ),
        traces=[_histogram(name, gains[name], roles[name], edge) for name in tallies],
        layout=axes("gain, points", "phones") | {"bargap": 0.15, "bargroupgap": 0.05},
        height=340,
    )


def _histogram(name: str, gains: list[float], role: str, edge: int) -> Json:
    return {
        "type": "histogram",
        "name": name,
        "x": gains,
        "xbins": {"start": -edge - BIN / 2, "end": edge + BIN / 2, "size": BIN},
        "marker": {"color": f"@{role}", "opacity": 0.85},
        "hovertemplate": f"%{{x}} points: %{{y}} phones<extra>{name}</extra>",
    }


def _points(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """Differences in points, free of floating-point dust so that bins hold what they say."""
    return [round(100 * (a - b), 6) for a, b in zip(after, before, strict=False)]


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

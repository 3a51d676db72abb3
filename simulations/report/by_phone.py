"""Plots over held-out phones one by one: before against after, and how much each gained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedspeech.evaluation.metric import MODELS, Chart
from simulations.report import phrasing
from simulations.report.figures import Column, Figure, Json, axes, counts, scatter, share

BIN = 5  # points


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
    """Bins of five points around 0."""
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

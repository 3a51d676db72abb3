"""The plots: a table of columns first, and the lines that are drawn of it.

Every figure is a table. A column with a role is also drawn, so that plot and table cannot differ.
Colors are roles ("@federated") that the page turns into values of its style sheet, so that light,
dark and print share one palette. Names that come from data are escaped for Plotly, which reads a
little HTML in every text.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fedspeech.evaluation.metric import Axis, Chart, Curve, Model, Visibility
from simulations.report import phrasing

Json = dict[str, Any]
Rows = tuple[tuple[str, ...], ...]

SYMBOLS = {
    "base": "circle-open",
    "federated": "circle",
    "personalized": "diamond",
    "control": "x-thin-open",
}
DASHES = {"base": "dot", "federated": "solid", "personalized": "solid", "control": "dash"}
TABLE_POINTS = 12  # of a curve, in the table below its plot
MOST_NUMBERS = 256
"""Points of all lines of a chart that everybody may read: more are the answers of single clips."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot and everything that stands around it.

    Attributes:
      table: the numbers of the plot, for readers without it.
      traces: Plotly's data.
      layout: what differs from the page's common layout.
      height: in CSS pixels.
    """

    key: str
    title: str
    visibility: tuple[Visibility, ...]
    says: str
    header: tuple[str, ...]
    table: Rows
    traces: list[Json]
    layout: Json = field(default_factory=dict)
    height: int = 300


def thinned(figure: Figure, most: int) -> Figure:
    """A figure whose lines have at most so many points together, its first and last among them."""
    lines = [trace for trace in figure.traces if "z" not in trace]
    if sum(len(trace.get("x", ())) for trace in lines) <= most:
        return figure
    traces = [_thinned(trace, most // len(lines)) if trace in lines else trace
              for trace in figure.traces]  # fmt: skip
    return replace(figure, traces=traces)


def _thinned(trace: Json, most: int) -> Json:
    points = len(trace.get("x", ()))
    if points <= most:
        return trace
    kept = np.unique(np.linspace(0, points - 1, most).astype(int)).tolist()

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple) and len(value) == points:
            return [value[place] for place in kept]
        return value

    return {name: of(value) for name, value in trace.items()}


@dataclass(frozen=True)
class Column:
    """One column of a figure's table, and how it is drawn.

    Attributes:
      values: one per row; None where there is none.
      form: writes a value that is there.
      role: color of its line; "": it stands in the table alone.
      scale: from values to what is drawn, 100 for percent.
      dots: values are of single places, and no line joins them.
    """

    name: str
    values: Sequence[Any]
    form: Callable[[Any], str] = str
    role: str = ""
    dash: str = "solid"
    scale: float = 1
    dots: bool = False

    def cell(self, row: int) -> str:
        """A value as text, or a dash."""
        value = self.values[row]
        return "–" if value is None else self.form(value)

    def trace(self, over: Column) -> Json:
        """The line over another column."""
        return scatter(
            over.values,
            [None if v is None else round(self.scale * v, 4) for v in self.values]
            if self.scale != 1
            else self.values,
            "markers" if self.dots or len(self.values) < 2 else "lines",
            self.role,
            self.name,
            connectgaps=True,
            line={"dash": self.dash},
            hovertemplate=f"{over.name} %{{x:.4~g}}: %{{y:.4~g}}<extra>{self.name}</extra>",
        )


def share(name: str, values: Sequence[float | None], role: str = "", **more: Any) -> Column:
    """A column of shares, in percent."""
    return Column(name, values, phrasing.percent, role, scale=100, **more)


def numbers(name: str, values: Sequence[float | None], role: str = "", **more: Any) -> Column:
    """A column of numbers with three digits."""
    return Column(name, values, lambda value: f"{value:.3g}", role, **more)


def counts(name: str, values: Sequence[int | None], role: str = "") -> Column:
    """A column of whole numbers."""
    return Column(name, values, lambda value: f"{value:,}", role)


def figure(
    key: str,
    title: str,
    says: str,
    columns: Sequence[Column],
    *,
    visibility: tuple[Visibility, ...],
    y_title: str,
    x_title: str = "",
    over: Column | None = None,
    y: Json | None = None,
    height: int = 300,
    rule_at: float | None = None,
    rule_name: str = "",
) -> list[Figure]:
    """A table whose columns with a role are drawn over its first column, or over `over`.

    `y` is what else is said of the axis of values; `rule_at` is a value that is marked on it. Empty
    if no value would be drawn.
    """
    place = over or columns[0]
    drawn = [
        column
        for column in columns
        if column.role and any(value is not None for value in column.values)
    ]
    if not drawn:
        return []
    layout = axes(x_title or place.name, y_title, y=y)
    if rule_at is not None:
        layout["shapes"] = [rule("y", rule_at)]
        layout["annotations"] = [
            {
                "text": rule_name, "font": {"color": "@warn", "size": 12}, "showarrow": False,
                "xref": "paper", "x": 0, "xanchor": "left", "y": rule_at, "yanchor": "bottom",
            }
        ]  # fmt: skip
    found = Figure(
        key=key,
        title=title,
        visibility=visibility,
        says=says,
        header=tuple(column.name for column in columns),
        table=tuple(
            tuple(column.cell(row) for column in columns) for row in range(len(place.values))
        ),
        traces=[column.trace(place) for column in drawn],
        layout=layout,
        height=height,
    )
    return [found]


def chart(key: str, found: Chart) -> Figure | None:
    """A chart of results: a row of the table is a point of a curve, thinned to a dozen a curve."""
    curves = [_positive(curve) for curve in found.curves] if found.x.logarithmic else found.curves
    curves = [curve for curve in curves if curve.x]
    if not curves:
        return None
    layout = axes(
        _axis_title(found.x),
        _axis_title(found.y),
        x=_ticks(found.x, curves),
        y={"rangemode": "tozero"} if found.x.logarithmic else None,
    )
    if found.marked:
        layout["shapes"] = [rule("x", _scale(found.x) * found.marked)]
    return Figure(
        key=key,
        title=found.name,
        visibility=(found.visibility,),
        says=found.says,
        header=("curve", found.x.name, found.y.name, "95 % interval"),
        table=tuple(row for curve in curves for row in _curve_rows(curve, found)),
        traces=[
            trace for place, curve in enumerate(curves) for trace in _curve(curve, found, place)
        ],
        layout=layout,
        height=340,
    )


def _ticks(axis: Axis, curves: Sequence[Curve]) -> Json | None:
    """How an axis is divided: few counts one by one."""
    if axis.logarithmic:
        return {"type": "log", "tickformat": "~g", "nticks": 6}
    whole = all(x.is_integer() for curve in curves for x in map(float, curve.x))
    few = max(len(curve.x) for curve in curves) <= TABLE_POINTS
    return {"dtick": 1} if axis.unit == "number" and whole and few else None


def _curve_rows(curve: Curve, found: Chart) -> Rows:
    """Points of a curve, evenly thinned."""
    count = len(curve.x)
    shown = np.unique(np.linspace(0, count - 1, min(count, TABLE_POINTS)).astype(int))

    def interval(place: int) -> str:
        if not curve.low:
            return "–"
        ends = (phrasing.value(end, found.y.unit) for end in (curve.low[place], curve.high[place]))
        return " to ".join(ends)

    return tuple(
        (
            curve.name,
            _position(curve.x[place], found.x),
            phrasing.value(curve.y[place], found.y.unit),
            interval(place),
        )
        for place in shown.tolist()
    )


def _position(value: float, axis: Axis) -> str:
    return f"{value:g}" if axis.unit == "number" else phrasing.value(value, axis.unit)


def _curve(curve: Curve, found: Chart, place: int) -> list[Json]:
    """A line, and the band of its intervals beneath the first one."""
    role = curve.model or ("base", "federated", "personalized", "control")[place % 4]
    first = curve.name == next(one.name for one in found.curves if one.model == curve.model)
    scale, over = _scale(found.y), [_scale(found.x) * x for x in curve.x]
    few = len(curve.x) <= TABLE_POINTS
    line = scatter(
        over,
        [scale * y for y in curve.y],
        "lines+markers" if few else "lines",
        role,
        curve.name,
        line={"dash": DASHES[role] if first else "dot"},
        marker=marker(role, 9) | ({} if first else {"symbol": "diamond-open"}),
        hovertemplate="%{x:.3~g}: %{y:.4~g}<extra>" + html.escape(curve.name) + "</extra>",
    )
    if not curve.low or not first or len(curve.x) < 2 or curve.model == "control":
        return [line]
    band = scatter(
        [*over, *reversed(over)],
        [scale * y for y in (*curve.low, *reversed(curve.high))],
        "lines",
        role,
        fill="toself",
        fillcolor=f"@{role}-soft",
        line={"width": 0},
    )
    return [band, line]


def _positive(curve: Curve) -> Curve:
    """A curve without what a logarithmic axis has no place for."""
    kept = [place for place, x in enumerate(curve.x) if x > 0]

    def taken(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(values[place] for place in kept) if values else ()

    return replace(
        curve, x=taken(curve.x), y=taken(curve.y), low=taken(curve.low), high=taken(curve.high)
    )


def _scale(axis: Axis) -> float:
    return 100 if axis.unit == "share" else 1


def _axis_title(axis: Axis) -> str:
    return html.escape(axis.name) + (", %" if axis.unit == "share" else "")


def scatter(
    x: Sequence[Any],
    y: Sequence[Any],
    mode: str,
    role: str,
    name: str = "",
    *,
    line: Json | None = None,
    marker: Json | None = None,
    **more: Any,
) -> Json:
    """A trace in the color of a role; without a name it is neither in the legend nor hovered over.

    `line` and `marker` say what differs from a solid line of two pixels and from a filled circle.
    """
    color = f"@{role}"
    outline = {"color": color, "width": 1.5}
    return {
        "type": "scatter",
        "mode": mode,
        "x": list(x),
        "y": list(y),
        "line": {"color": color, "width": 2} | (line or {}),
        "marker": {"color": color, "size": 8, "line": outline} | (marker or {}),
        **({"name": html.escape(name)} if name else {"hoverinfo": "skip", "showlegend": False}),
        **more,
    }


def marker(model: Model, size: int) -> Json:
    """The marker of a model: a color and a shape, so that either alone tells."""
    return {
        "color": f"@{model}",
        "symbol": SYMBOLS[model],
        "size": size,
        "line": {"color": f"@{model}", "width": 2},
    }


def axes(x_title: str, y_title: str, *, x: Json | None = None, y: Json | None = None) -> Json:
    """Titles of the axes and what else is said about them."""
    return {
        "xaxis": {"title": {"text": x_title}} | (x or {}),
        "yaxis": {"title": {"text": y_title}} | (y or {}),
    }


def rule(axis: Literal["x", "y"], value: float) -> Json:
    """A thin line across the plot at one value."""
    other = "y" if axis == "x" else "x"
    return {
        "type": "line",
        f"{axis}0": value,
        f"{axis}1": value,
        f"{other}ref": "paper",
        f"{other}0": 0,
        f"{other}1": 1,
        "line": {"color": "@warn", "width": 1.5, "dash": "dash"},
    }

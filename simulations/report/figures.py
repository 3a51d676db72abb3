"""The plots, as plain Plotly data, each with its eye, a sentence and its numbers as a table.

Colors are roles ("@federated") that the page turns into values of its style sheet, so that light,
dark and print share one palette. Names that come from data are escaped for Plotly, which reads a
little HTML in every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from simulations.report import phrasing
from simulations.results.records import Eye, RoundRow

Model = Literal["base", "federated", "personalized", "control"]
Json = dict[str, Any]

MODELS: tuple[Model, ...] = ("base", "federated", "personalized", "control")
SYMBOLS = {
    "base": "circle-open",
    "federated": "circle",
    "personalized": "diamond",
    "control": "x-thin-open",
}
DASHES = {"base": "dot", "federated": "solid", "personalized": "solid", "control": "dash"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot and everything that stands around it.

    Attributes:
      key: identifier in the page.
      title: what it shows.
      eyes: who could see these figures.
      says: how to read it, one or two sentences.
      header: column names of the table of its numbers.
      table: the same numbers, for readers without the plot.
      traces: Plotly's data.
      layout: what differs from the page's common layout.
      height: in CSS pixels.
    """

    key: str
    title: str
    eyes: tuple[Eye, ...]
    says: str
    header: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]
    traces: list[Json]
    layout: Json = field(default_factory=dict)
    height: int = 300


def line(
    rows: Sequence[RoundRow],
    name: str,
    values: Sequence[float | None],
    role: str,
    *,
    dash: str = "solid",
) -> Json:
    """A line over rounds; empty if there is no value."""
    if all(value is None for value in values):
        return {}
    return {
        "type": "scatter",
        "mode": "lines" if len(rows) > 1 else "markers",
        "name": name,
        "x": [row.round for row in rows],
        "y": list(values),
        "connectgaps": True,
        "line": {"color": f"@{role}", "width": 2, "dash": dash},
        "marker": {"color": f"@{role}", "size": 8},
        "hovertemplate": "round %{x}: %{y:.4~g}<extra>" + name + "</extra>",
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


def hundredfold(shares: Sequence[float | None]) -> list[float | None]:
    """Shares as per cent."""
    return [None if share is None else round(100 * share, 4) for share in shares]


def percent(share: float | None) -> str:
    """A share, or a dash."""
    return "–" if share is None else phrasing.percent(share)


def number(value: float | None) -> str:
    """A number with three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def whole(value: int | None) -> str:
    """A count, or a dash."""
    return "–" if value is None else f"{value:,}"

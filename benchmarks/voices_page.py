"""The page of `benchmarks.voices_without_owners`: privacy against utility, and every figure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

Row = Mapping[str, Any]


def page(rows: Sequence[Row], speech: str) -> str:
    """One offline file."""
    picture = figure(rows, speech).to_html(include_plotlyjs="inline", full_html=False)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells(row))}</tr>"
        for row in rows
    )
    return (
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>Voices without owners</title><style>body{font:16px sans-serif;margin:1em auto;"
        "max-width:60em;padding:0 1em}table{border-collapse:collapse;display:block;"
        "overflow-x:auto}td,th{padding:.2em .6em;text-align:left}</style>"
        f"<h1>Voices without owners: {speech} speech</h1><p><b>{verdict(rows)}</b></p>{picture}"
        "<table><tr><th>kind<th>method<th>attacker<th>view<th>EER or share<th>top-1</tr>"
        f"{lines}</table>"
    )


def strongest(rows: Sequence[Row], method: str, attacker: str = "semi-informed") -> Row:
    """The attack of a kind with the lowest equal error rate."""
    asked = ("recording", method, attacker)
    of = [row for row in rows if (row["kind"], row["method"], row["attacker"]) == asked]
    return min(of, key=lambda row: row["equal error rate"][0])


def methods(rows: Sequence[Row]) -> list[str]:
    """Of recordings, in order."""
    return list(dict.fromkeys(row["method"] for row in rows if row["kind"] == "words"))


def verdict(rows: Sequence[Row]) -> str:
    """Which methods do not protect: whose upper end of the interval is below 50 %."""
    changed = [name for name in methods(rows) if name != "original"]
    weak = [name for name in changed if strongest(rows, name)["equal error rate"][2] < 0.5]
    return (
        f"These methods do not protect against a semi-informed attacker: {', '.join(weak)}."
        if weak
        else "Every method was at chance for these attackers, which proves nothing of others."
    )


def figure(rows: Sequence[Row], speech: str) -> go.Figure:
    """Equal error rate against word accuracy of a retrained recognizer, a point a method."""
    found = go.Figure()
    words = {row["method"]: row["share"] for row in rows if row["view"] == "retrained recognizer"}
    for attacker, symbol in (("semi-informed", "circle"), ("ignorant", "circle-open")):
        names = methods(rows)
        rates = [strongest(rows, name, attacker)["equal error rate"] for name in names]
        found.add_scatter(
            x=[100 * words[name][0] for name in names], y=[100 * one[0] for one in rates],
            error_y={"type": "data", "symmetric": False,
                     "array": [100 * (one[2] - one[0]) for one in rates],
                     "arrayminus": [100 * (one[0] - one[1]) for one in rates]},
            mode="markers+text", text=names, textposition="top center", name=attacker,
            marker={"symbol": symbol, "size": 11},
        )  # fmt: skip
    found.add_hline(y=50, line_dash="dot", annotation_text="chance: private")
    found.update_layout(
        template="plotly_white", title=f"Privacy against utility, {speech} speech",
        xaxis_title="word accuracy, recognizer retrained, %", height=480,
        yaxis_title="equal error rate of the strongest attack, %", yaxis_range=[0, 60],
        legend={"orientation": "h", "y": -0.2},
    )  # fmt: skip
    return found


def cells(row: Row) -> list[str]:
    """A row of the table."""
    first = row.get("equal error rate") or row.get("share") or next(
        of for of in row.values() if isinstance(of, list)
    )  # fmt: skip
    figures = [first, row.get("top-1")]
    return [row[key] for key in ("kind", "method", "attacker", "view")] + [
        "" if of is None else f"{of[0]:.3f}"
        + (f" [{of[1]:.3f}, {of[2]:.3f}]" if of[1] is not None else "")
        for of in figures
    ]  # fmt: skip

"""`analysis.html`: cells with intervals, what is withheld and why, and the price.

The page is made of what is published. What only a simulation knows is not on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedspeech.queries.estimate import Estimate
from fedspeech.queries.named_metrics import NAMED
from simulations.analytics.answer import Analysis, number
from simulations.report.document import document


@dataclass(frozen=True)
class Row:
    """One published cell as a bar; places are percent of the bar's width.

    Attributes:
      name: of segment and cell.
      value, interval: in words.
      zero, start, end, middle: of the bar.
    """

    name: str
    value: str
    interval: str
    zero: float
    start: float
    end: float
    middle: float


def render(analysis: Analysis) -> str:
    """Returns the page."""
    plan, named = analysis.plan, NAMED.get(analysis.plan.query)
    factor = named.factor if named else 1.0
    of = ", ".join(dict.fromkeys(one.of for one in analysis.estimates))
    withheld: dict[str, list[str]] = {}
    for one in analysis.estimates:
        if one.value is None:
            withheld.setdefault(one.remark.removeprefix("withheld: "), []).append(_name(one))
    prices = [("this release alone", analysis.guarantee)]
    if analysis.population != analysis.guarantee:
        prices.append(("everything on the population's ledger", analysis.population))
    context = {
        "title": plan.name,
        "marks": (),
        "description": plan.description,
        "asked": f"{named.title}, {named.unit}" if named else of,
        "plan": plan,
        "reporting": analysis.reporting,
        "cells": len(analysis.estimates),
        "rows": _rows(analysis.published, factor),
        "withheld": [(rule, str(len(names)), "; ".join(names)) for rule, names in withheld.items()],
        "prices": prices,
        "noise_notice": analysis.noise_notice,
    }
    return document("analysis.html", [], context)


def _rows(published: tuple[Estimate, ...], factor: float) -> list[Row]:
    """Bars on one scale, which holds zero and every interval."""
    known = [
        (one, factor * one.value, factor * one.low, factor * one.high)
        for one in published
        if one.value is not None and one.low is not None and one.high is not None
    ]
    least = min((low for _, _, low, _ in known), default=0.0)
    least, most = min(0.0, least), max((high for *_, high in known), default=1.0)
    width = most - least or 1.0

    def place(value: float) -> float:
        return round(100 * (value - least) / width, 2)

    return [
        Row(
            name=_name(one),
            value=number(value),
            interval=f"{number(low)} to {number(high)}",
            zero=place(0.0),
            start=place(low),
            end=place(high),
            middle=place(value),
        )
        for one, value, low, high in known
    ]


def _name(one: Estimate) -> str:
    return ", ".join((*one.segment, *one.cell)) or "all"

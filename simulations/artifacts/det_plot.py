"""The DET curve as a picture: false accepts per hour, on a logarithmic axis, against FRR."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedspeech.evaluation.streaming import OperatingPoint

WIDTH, HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 620, 46, 364
RATES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""False accepts per hour at the marks of the axis; what lies beyond its ends is drawn at them."""


def det_svg(curve: Sequence[OperatingPoint], chosen: OperatingPoint, title: str) -> str:
    """Draws the curve, with both intervals at the chosen point."""
    environment = Environment(
        loader=PackageLoader("simulations", "artifacts"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("det.svg").render(
        {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
        bottom=BOTTOM, rates=RATES, x=_x, y=_y, curve=curve, chosen=chosen, title=title,
    )  # fmt: skip


def _x(rate: float | None) -> float:
    """Place of a rate per hour."""
    low, high = math.log10(RATES[0]), math.log10(RATES[-1])
    # A logarithmic axis has no zero; no false accept stands at its left edge.
    decade = min(max(math.log10(rate), low), high) if rate else low
    return round(LEFT + (decade - low) / (high - low) * (RIGHT - LEFT), 1)


def _y(share: float | None) -> float:
    return round(BOTTOM - (share or 0.0) * (BOTTOM - TOP), 1)

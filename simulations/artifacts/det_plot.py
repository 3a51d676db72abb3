"""The DET curve as a picture: false accepts per hour, on a logarithmic axis, against FRR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from fedspeech.evaluation.streaming import OperatingPoint

WIDTH, HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 46, 56
DECADES = (-2, 3)  # 0.01 to 1000 per hour
PERCENT_STEP = 10


def det_svg(curve: Sequence[OperatingPoint], chosen: OperatingPoint, title: str) -> str:
    """Draws the curve with the band of both intervals at the chosen point.

    Rates of zero stand at the left edge.

    Args:
      curve: points with both rates.
      chosen: the point whose intervals are drawn.
      title: what it is of.
    """
    line = " ".join(f"{_x(_rate(point)):.1f},{_y(point.frr or 0.0):.1f}" for point in curve)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="14">{escape(title)}</text>',
        *_axes(),
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="2"/>',
        *_cross(chosen),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes() -> list[str]:
    """Grid, ticks and what the axes show."""
    parts = []
    for decade in range(DECADES[0], DECADES[1] + 1):
        x = _x(10.0**decade)
        label = f"{10.0**decade:g}"
        parts.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>'
        )
    for percent in range(0, 101, PERCENT_STEP):
        y = _y(percent / 100)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">false accepts per hour</text>'
    )
    parts.append(
        f'<text x="18" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 18 {(TOP + HEIGHT - BOTTOM) / 2})">keywords missed</text>'
    )
    return parts


def _cross(point: OperatingPoint) -> list[str]:
    """A point with its two intervals and its threshold."""
    rate, share = point.false_accepts_interval, point.frr_interval
    if rate is None or share is None or point.frr is None:
        return []
    x, y = _x(_rate(point)), _y(point.frr)
    # The text grows towards the middle, so that it stays in the picture.
    anchor, shift = ("start", 8) if x < WIDTH / 2 else ("end", -8)
    return [
        f'<path d="M{_x(rate[0]):.1f} {y:.1f}H{_x(rate[1]):.1f}M{x:.1f} {_y(share[0]):.1f}'
        f'V{_y(share[1]):.1f}" stroke="#b3401e" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#b3401e"/>',
        f'<text x="{x + shift:.1f}" y="{y - 8:.1f}" text-anchor="{anchor}" fill="#b3401e">'
        f"threshold {point.threshold:.3f}</text>",
    ]


def _rate(point: OperatingPoint) -> float:
    return point.false_accepts_per_hour or 0.0


def _x(rate: float) -> float:
    """Place of a rate per hour."""
    low, high = DECADES
    # A logarithmic axis has no zero; no false accept stands at its left edge.
    decade = min(max(math.log10(rate), low), high) if rate > 0 else low
    return LEFT + (decade - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    """Place of a share."""
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

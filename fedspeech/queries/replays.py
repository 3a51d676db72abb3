"""Replays of a release, to learn how strict the test behind the interval of a quantile may be.

The interval of a quantile ends where a test no longer rejects. It is wider than it need be where
several cells near the quantile could each have kept it in: all of them have to be rejected wrongly
before it errs. By how much depends on the noise, which is known exactly, and on how fast ranks rise
about the quantile, which the release says itself. So the release is drawn again and again about
a quantile that is known, and the test made as strict as it may be for the stated level (a
calibrated interval: Loh 1987, JASA 82, 155-162; the slope: Bloch and Gastwirth 1968). Replays look
at published figures alone.

Where between two cells the quantile lies is not known, so replays stand at the beginning, in the
middle and at the end of its cell, and the worst of them counts.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.seeds import stream

Array = NDArray[np.float64]
COUNT = 2000
"""Replays: their share of 5 % is off by half a point, one standard deviation."""


@functools.lru_cache(maxsize=4)
def normal(width: int, what: str = "phones") -> Array:
    """Standard normal numbers of all replays, (COUNT, width): the same each time they are asked."""
    found = stream(0, "replays", what, width).normal(size=(COUNT, width))
    found.setflags(write=False)  # who asks next gets the same array
    return found


def slope(places: Array, rising: Array, stddev: float) -> float:
    """By how much ranks rise from cell to cell about the quantile.

    Over the places between which the rank goes from two deviations below zero to two above: fewer
    would follow the noise.

    Args:
      places: ascending, shape (places,).
      rising: ranks at these places that do not fall, the lowest and the largest possible at either
        end, shape (places,).
      stddev: of a rank.
    """
    low = max(0, int(np.searchsorted(rising, -2 * stddev)) - 1)
    high = min(int(np.searchsorted(rising, 2 * stddev, side="right")), len(places) - 1)
    low = min(low, high - 1)
    return float((rising[high] - rising[low]) / (places[high] - places[low]))


def lines(cells: int, place: int, quantile: float, slope: float) -> list[Array]:
    """Shares of the events up to each cell, straight about a quantile that is at a place.

    The quantile is reached just at the end of the cell, in its middle, and just at its beginning.
    """
    found = []
    for phase in (0.0, 0.5, 1.0):
        up_to = np.clip(quantile + slope * (np.arange(cells) - place + phase), 0.0, 1.0)
        up_to[-1] = 1.0
        found.append(up_to)
    return found


def strictness(least: Sequence[Array], level: float) -> float:
    """Deviations that an interval of a level has to allow.

    Args:
      least: how many each replay would have needed, shape (COUNT,), at each place within the cell.
      level: of the interval.
    """
    return max(0.0, *(float(np.quantile(one, level)) for one in least))

"""How phones spend their days: when they are charged, on wifi, idle, warm, spoken to.

    days = DayModel(seed=1)
    days.conditions(27.0, range(1_000_000))      # three at night, after the first midnight
    days.share(27.0)                             # of all phones that may work then, exactly

Hours count from the midnight before day 0, a Monday; all phones live in one time zone. From noon to
noon a phone has a night: it is plugged in or not, put away, taken up again. By day it has two
chances of being charged for a while, put down half an hour later. A draw is uniform, and a
condition compares it with the probability at the hour, so that one phone and a million give the
same bits, and the share of all phones that a policy lets work is a finite sum.

What is published: four times as many devices at night as by day in one country (Bonawitz et al.
2019, "Towards Federated Learning at Scale", section 9); people put phones away near midnight and
take them up near seven, by country within an hour (Walch, Cochran, Forger 2016, "A global
quantification of 'normal' sleep schedules using smartphone data", Science Advances 2:e1501705);
about an hour later on free days (Wittmann et al. 2006, "Social jetlag", Chronobiology International
23:497). All numbers below lie within that and are assumptions otherwise; so is what is not here:
phones that are never charged on wifi, holidays, time zones.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.device_classes import DEVICES
from fedspeech.device.draws import Phones, uniform
from fedspeech.device.work_policy import Conditions, Flags, WorkPolicy

AWAY_H, AWAY_SPREAD_H, AWAY_LATER_H = 11.6, 0.7, 0.7
"""Hours after noon at which half of the phones are put away, scale of the logistic distribution,
and how much later before a free day."""
TAKEN_H, TAKEN_SPREAD_H, TAKEN_LATER_H = 19.1, 0.7, 1.2
"""The same for taking them up."""
PLUGGED_BEFORE_H = 0.5
"""Hours from the charger to rest, when a phone warms up: at night and by day."""
UNPLUGGED_AFTER_H = 0.3
HOME_BEFORE_H, HOME_AFTER_H = 3.5, 0.8
DAY_FROM_H, DAY_TO_H, DAY_CHARGE_H = 5.0, 22.0, 2.5
"""Between these hours of the day a charge may begin; it lasts this long."""
FULL_AFTER_H = 1.0
WARM = 0.4
"""Share of the chargings that warm a phone up."""
SPEAKING = 0.01
"""Share of the phones in use that are spoken to at a moment."""
CHARGED_TO = 0.5
"""Charge that a phone on a charger has at least."""
WEEK_H = 168.0

_DEFAULT = WorkPolicy()


@dataclass(frozen=True)
class DayModel:
    """The days of a population; draws are public, and protect nobody.

    Attributes:
      seed: of all draws.
    """

    seed: int

    def classes(self, phones: Phones) -> NDArray[np.int64]:
        """Which of `DEVICES` each phone is of, same shape."""
        ends = np.cumsum([device.share for device in DEVICES[:-1]])
        draws = uniform(self.seed, ("device classes",), 1, phones)[:, 0]
        return np.searchsorted(ends, draws, side="right").astype(np.int64)

    def conditions(self, hour: float, phones: Phones) -> Conditions:
        """What phones know of themselves at an hour, shape (phones,) each."""
        night_number, day_number = math.floor(hour / 24 - 0.5), math.floor(hour / 24)
        return _conditions(
            hour,
            _HABITS[self.classes(phones)],
            uniform(self.seed, ("night", night_number), 6, phones),
            uniform(self.seed, ("day", day_number), 4, phones),
            uniform(self.seed, ("speaking", math.floor(12 * hour)), 1, phones)[:, 0],
        )

    def share(self, hour: float, policy: WorkPolicy = _DEFAULT) -> float:
        """Share of all phones that a policy lets work at an hour, exactly.

        Hours count within a week, after which all shares come again.
        """
        return _share(hour % WEEK_H, policy)


def _conditions(
    hour: float,
    habits: NDArray[np.float64],
    night: NDArray[np.float64],
    day: NDArray[np.float64],
    speaks: NDArray[np.float64],
) -> Conditions:
    """What phones of some habits and draws know of themselves; one row for each."""
    charges, away, taken, network, level, warms = night.T
    at = _Night(hour)
    in_bed = (away < at.away()) & (taken >= at.taken())
    plugged = (away < at.away(PLUGGED_BEFORE_H)) & (taken >= at.taken(-UNPLUGGED_AFTER_H))
    plugged &= charges < habits[:, 0]
    fresh = plugged & (away >= at.away())
    full = plugged & (away < at.away(PLUGGED_BEFORE_H - FULL_AFTER_H))
    by_day, put_down, loaded = (_charged_by_day(hour, day, habits, begun) for begun in
                                (0.0, PLUGGED_BEFORE_H, FULL_AFTER_H))  # fmt: skip
    idle = in_bed | put_down
    at_home = (away < at.away(HOME_BEFORE_H)) & (taken >= at.taken(-HOME_AFTER_H))
    charging = plugged | by_day
    left = 1 - _most_used(hour) * level
    battery = np.where(charging, np.maximum(left, CHARGED_TO), left)
    return Conditions(
        charging=charging,
        wifi=(network < habits[:, 1]) & (at_home | by_day | in_bed),
        idle=idle,
        speaking=~idle & (speaks < SPEAKING),
        cool=~((fresh | (by_day & ~put_down)) & (warms < WARM)),
        battery=np.where(full | loaded, 1.0, battery),
    )


@functools.lru_cache(maxsize=4096)
def _share(hour: float, policy: WorkPolicy) -> float:
    """Sums the probabilities of all kinds of phones that may work, by the rules themselves.

    A condition asks on which side of a few numbers a draw lies. So draws of one cell between such
    numbers are one kind of phone, and the middle of the cell answers for it.
    """
    at, found = _Night(hour), 0.0
    away = _cells(at.away(), *(at.away(h) for h in
                  (PLUGGED_BEFORE_H, PLUGGED_BEFORE_H - FULL_AFTER_H, HOME_BEFORE_H)))  # fmt: skip
    taken = _cells(*(at.taken(-h) for h in (0.0, UNPLUGGED_AFTER_H, HOME_AFTER_H)))
    used = _most_used(hour)
    level = _cells((1 - policy.least_battery) / used) if used else _cells()
    for device, habits in zip(DEVICES, _HABITS, strict=True):
        cells = [
            *(_cells(habits[0]), away, taken, _cells(habits[1]), level, _cells(WARM)),
            *2 * [_charges(hour, habits[2])],
            _cells(SPEAKING),
        ]
        places = np.indices([len(weights) for _, weights in cells]).reshape(len(cells), -1)
        draws = np.hstack([middles[at] for (middles, _), at in zip(cells, places, strict=True)])
        weights = functools.reduce(np.multiply.outer, [weights for _, weights in cells]).ravel()
        rows = np.broadcast_to(habits, (len(draws), len(habits)))
        conditions = _conditions(hour, rows, draws[:, :6], draws[:, 6:10], draws[:, 10])
        found += device.share * float(weights @ policy.allows(conditions))
    return found


_Cells = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Draws that stand for all draws of a cell, shape (cells, columns), and probabilities, (cells,)."""


def _cells(*edges: float) -> _Cells:
    """Cells of one uniform draw between some numbers, those outside [0, 1] included."""
    ends = np.unique(np.clip([0.0, *edges, 1.0], 0, 1))
    return ((ends[1:] + ends[:-1]) / 2)[:, np.newaxis], np.diff(ends)


def _charges(hour: float, probability: float) -> _Cells:
    """Cells of one chance of being charged by day: not, or since when."""
    first, last = _day_window(hour, 0.0)
    edges = (_day_window(hour, begun)[1] for begun in (PLUGGED_BEFORE_H, FULL_AFTER_H))
    ends = np.unique([first, last, *(max(first, edge) for edge in edges)])
    begins = (ends[1:] + ends[:-1]) / 2
    charged = np.stack([np.zeros_like(begins), begins], axis=1)
    never = 1 - probability * (last - first)
    return np.vstack([[1.0, 0.0], charged]), np.append(never, probability * np.diff(ends))


def _most_used(hour: float) -> float:
    """Share of its battery that the busiest phone has used since seven."""
    return 0.9 * min(1.0, (hour - 7) % 24 / 17)


class _Night:
    """Probabilities of one hour of a night."""

    def __init__(self, hour: float) -> None:
        night = math.floor(hour / 24 - 0.5)
        self._after_noon, self._free = hour - 24 * night - 12, night % 7 in (4, 5)

    def away(self, earlier_h: float = 0.0) -> float:
        """Of a phone that was put away, or so many hours before it."""
        middle = AWAY_H + AWAY_LATER_H * self._free
        return _logistic((self._after_noon + earlier_h - middle) / AWAY_SPREAD_H)

    def taken(self, earlier_h: float = 0.0) -> float:
        """Of a phone that was taken up, likewise."""
        middle = TAKEN_H + TAKEN_LATER_H * self._free
        return _logistic((self._after_noon + earlier_h - middle) / TAKEN_SPREAD_H)


_HABITS = np.array([[d.charges_at_night, d.wifi, d.charges_by_day] for d in DEVICES])


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _day_window(hour: float, begun_h: float) -> tuple[float, float]:
    """Draws of a charge that began at least `begun_h` ago and lasts: from, to."""
    span, of_day = DAY_TO_H - DAY_FROM_H, hour % 24
    first, last = of_day - DAY_CHARGE_H - DAY_FROM_H, of_day - begun_h - DAY_FROM_H
    return min(1.0, max(0.0, first / span)), min(1.0, max(0.0, last / span))


def _charged_by_day(
    hour: float, day: NDArray[np.float64], habits: NDArray[np.float64], begun_h: float
) -> Flags:
    """Whether one of the two chances of the day is a charge that began so long ago and lasts."""
    first, last = _day_window(hour, begun_h)
    found = np.zeros(len(day), dtype=bool)
    for chance in (0, 2):
        begins = day[:, chance + 1]
        found |= (day[:, chance] < habits[:, 2]) & (begins >= first) & (begins < last)
    return found

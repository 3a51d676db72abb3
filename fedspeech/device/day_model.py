"""How phones spend their days: when they are charged, on wifi, idle, warm, spoken to.

    days = DayModel(seed=1)
    days.conditions(27.0, range(1_000_000))      # three at night, after the first midnight
    days.share(27.0)                             # of all phones that may work then, exactly

Hours count from the midnight before day 0, a Monday; all phones live in one time zone. From noon to
noon a phone has a night: it is plugged in or not, put away, taken up again. By day it has two
chances of being charged for a while, put down half an hour later. A draw is uniform, and a
condition compares it with the probability at the hour, so that one phone and a million give the
same bits, and the share of all phones is a formula.

What is published: four times as many devices at night as by day in one country (Bonawitz et al.
2019, "Towards Federated Learning at Scale", section 9); people put phones away near midnight and
take them up near seven, by country within an hour (Walch, Cochran, Forger 2016, "A global
quantification of 'normal' sleep schedules using smartphone data", Science Advances 2:e1501705);
about an hour later on free days (Wittmann et al. 2006, "Social jetlag", Chronobiology International
23:497). All numbers below lie within that and are assumptions otherwise; so is what is not here:
phones that are never charged on wifi, holidays, time zones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.device_classes import DEVICES
from fedspeech.device.work_policy import Conditions, Flags
from fedspeech.seeds import stream

Phones = range | Sequence[int] | NDArray[np.int64]

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
        draws = _draws(self.seed, ("device classes",), 1, phones)[:, 0]
        return np.searchsorted(ends, draws, side="right").astype(np.int64)

    def conditions(self, hour: float, phones: Phones) -> Conditions:
        """What phones know of themselves at an hour, shape (phones,) each."""
        night_number, day_number = math.floor(hour / 24 - 0.5), math.floor(hour / 24)
        night = _draws(self.seed, ("night", night_number), 6, phones)
        day = _draws(self.seed, ("day", day_number), 4, phones)
        habits = _HABITS[self.classes(phones)]
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
        used = 0.9 * min(1.0, (hour - 7) % 24 / 17) * level
        charging = plugged | by_day
        battery = np.where(charging, np.maximum(1 - used, 0.5), 1 - used)
        speaks = _draws(self.seed, ("speaking", math.floor(12 * hour)), 1, phones)[:, 0]
        return Conditions(
            charging=charging,
            wifi=(network < habits[:, 1]) & (at_home | by_day | in_bed),
            idle=idle,
            speaking=~idle & (speaks < SPEAKING),
            cool=~((fresh | (by_day & ~put_down)) & (warms < WARM)),
            battery=np.where(full | loaded, 1.0, battery),
        )

    def share(self, hour: float) -> float:
        """Share of all phones that the default `WorkPolicy` lets work at an hour, exactly.

        A phone that is charged and idle has rested since it warmed up, is half charged or more, and
        is where its network is: three conditions that add nothing.
        """
        at = _Night(hour)
        resting = at.away() * (1 - at.taken())
        begun = _day_chance(hour, PLUGGED_BEFORE_H)
        found = 0.0
        for device in DEVICES:
            nights = 1 - device.charges_at_night * resting
            days = (1 - device.charges_by_day * begun) ** 2
            found += device.share * device.wifi * (1 - nights * days)
        return found


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


def _day_chance(hour: float, begun_h: float) -> float:
    first, last = _day_window(hour, begun_h)
    return last - first


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


def _draws(
    seed: int, name: tuple[str | int, ...], columns: int, phones: Phones
) -> NDArray[np.float64]:
    """Uniform draws of phones, shape (phones, columns): of a phone the same whoever asks."""
    if isinstance(phones, range) and phones.step == 1:
        rng = stream(seed, *name)
        _skip(rng, phones.start * columns)
        return rng.random((len(phones), columns))
    found = np.empty((len(phones), columns))
    for place, phone in enumerate(phones):
        rng = stream(seed, *name)
        _skip(rng, int(phone) * columns)
        found[place] = rng.random(columns)
    return found


def _skip(rng: np.random.Generator, draws: int) -> None:
    """Goes on by so many doubles, each of which is one output of the generator."""
    generator = rng.bit_generator
    assert isinstance(generator, np.random.PCG64DXSM)
    generator.advance(draws)

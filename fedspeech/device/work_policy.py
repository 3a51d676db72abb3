"""When a phone may work: the rule, for many phones at once.

    WorkPolicy().allows(DayModel(seed=1).conditions(27.0, range(1_000_000)))

`fedspeech.device.scheduler` is the same rule on one phone, step by step; a contract test holds the
two together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedspeech.limits import Positive, Share, check_limits

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Conditions:
    """What phones know of themselves at one moment, shape (phones,) each.

    Attributes:
      charging: on a charger.
      wifi: on an unmetered network.
      idle: untouched, as the operating system counts it.
      speaking: its user speaks to it.
      cool: the operating system reports no thermal pressure.
      battery: share of its charge.
    """

    charging: Flags
    wifi: Flags
    idle: Flags
    speaking: Flags
    cool: Flags
    battery: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WorkPolicy:
    """What a phone requires before it works for the federation.

    Attributes:
      wifi: an unmetered network.
      charging: a charger.
      idle: that nobody uses it.
      least_battery: share of its charge.
      minutes_a_day: of work, by the calendar day; then no more.

    Raises:
      ValueError: if a number is out of range.
    """

    wifi: bool = True
    charging: bool = True
    idle: bool = True
    least_battery: Share = 0.3
    minutes_a_day: Positive = 30.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    def allows(self, conditions: Conditions, worked_s: ArrayLike = 0.0) -> Flags:
        """Which phones may work; none while its user speaks or it is hot, whatever the policy.

        Args:
          conditions: of the phones.
          worked_s: seconds that each has worked on this calendar day.

        Returns:
          Shape (phones,).
        """
        allowed: Flags = conditions.cool & ~conditions.speaking
        for needed, there in (
            (self.wifi, conditions.wifi),
            (self.charging, conditions.charging),
            (self.idle, conditions.idle),
        ):
            if needed:
                allowed = allowed & there
        enough = conditions.battery >= self.least_battery
        return allowed & enough & (np.asarray(worked_s) < 60 * self.minutes_a_day)

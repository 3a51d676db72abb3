"""When one phone works, step by step: asked before each step, stopped within one, resumed later.

    scheduler = Scheduler(WorkPolicy(), store_of_seconds)
    match scheduler.run(work, condition=sensors, day=..., step_s=0.5):
        case "": ...                    # finished
        case reason: ...                # "the user speaks"; `work` goes on from here another time

Work is a sequence of steps whose state is all that the next step reads, so where it is cut and how
often does not change its result. `fedspeech.device.work_policy` is the same rule for many phones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fedspeech.device.work_policy import Conditions, WorkPolicy


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What one phone knows of itself at one moment; fields as in `Conditions`."""

    charging: bool
    wifi: bool
    idle: bool
    speaking: bool
    cool: bool
    battery: float

    @classmethod
    def of(cls, conditions: Conditions, place: int = 0) -> Condition:
        """One of many phones."""
        return cls(
            charging=bool(conditions.charging[place]),
            wifi=bool(conditions.wifi[place]),
            idle=bool(conditions.idle[place]),
            speaking=bool(conditions.speaking[place]),
            cool=bool(conditions.cool[place]),
            battery=float(conditions.battery[place]),
        )


class Work(Protocol):
    """Something long, cut into steps of some hundred milliseconds."""

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        ...

    def step(self) -> None:
        """Takes one step."""
        ...


class Scheduler:
    """The scheduler of one phone.

    Attributes:
      policy: what the phone requires.
      day: calendar day of which seconds are counted; -1 before the first.
      worked_s: seconds of work on that day.
    """

    def __init__(self, policy: WorkPolicy, *, day: int = -1, worked_s: float = 0.0) -> None:
        """Goes on from a day and its seconds, which the phone keeps over restarts."""
        self.policy, self.day, self.worked_s = policy, day, worked_s

    def refuses(self, condition: Condition, *, day: int) -> str:
        """Why no step may be taken now, in words; "" if one may.

        A day before the one that is counted is that one: who sets the clock back gains no minutes.
        """
        policy = self.policy
        if condition.speaking:
            return "the user speaks"
        if not condition.cool:
            return "the phone is hot"
        if policy.idle and not condition.idle:
            return "the phone is in use"
        if policy.charging and not condition.charging:
            return "the phone is not charged"
        if policy.wifi and not condition.wifi:
            return "the network is metered"
        # A battery or a count that is not known (NaN) is not enough, as in `WorkPolicy.allows`.
        if not condition.battery >= policy.least_battery:
            return f"the battery is below {policy.least_battery:.0%}"
        if day <= self.day and not self.worked_s < 60 * policy.minutes_a_day:
            return f"it has worked {policy.minutes_a_day:g} minutes today"
        return ""

    def run(
        self,
        work: Work,
        *,
        condition: Callable[[], Condition],
        day: Callable[[], int],
        step_s: float,
    ) -> str:
        """Takes steps until the work is done or one is refused.

        Args:
          work: keeps its state between calls.
          condition: of the phone, asked before each step.
          day: calendar day by the phone's monotone clock, likewise.
          step_s: seconds of a step.

        Returns:
          Why it stopped; "" if the work is done.
        """
        while not work.done:
            today = day()
            if reason := self.refuses(condition(), day=today):
                return reason
            work.step()
            self.count(step_s, day=today)
        return ""

    def count(self, seconds: float, *, day: int) -> None:
        """Counts seconds of work."""
        if day > self.day:
            self.day, self.worked_s = day, 0.0
        self.worked_s += seconds

"""When rounds happen, who is there, and how long a phone takes: virtual time.

Round r is called at a public time. A phone takes part if its user has agreed (`phone_rules`) and
its scheduler lets it work then (`work_policy`) in the day that it has (`day_model`): many lie idle
on a charger at night, few by day. Who may not work, or has not agreed, when its coin says yes is
never asked. The coin remains the only chance that amplification counts on: a phone takes part with
at most the probability of its coin, so whoever knows when it was there (its owner's habits are no
secret) gains nothing. `PrivacyPlan.availability` sizes divisor and minimums by the hour of the run
at which the fewest are there, and claims nothing else from it. Of those who agreed it takes the
number that the draws gave, which one round shares with the next, and not the rate.

Minutes a day are kept by refusing a run in which they could end: a class of phones that took part
in every round of a calendar day would still have minutes left. So whether a phone has worked
before never decides whether it is there.

Whoever is late counts as a drop-out: it has shared its keys, and its vector does not come in time.
Lateness follows from device, network and work, and the work is the same for all, counted at
`max_examples` clips, so that nobody's seconds tell of its data. Drop-outs must stay within the
plan's `dropout_rate`: a deadline that drops more is refused. Some devices are late more often than
others, and everybody may know which; the plan's minimums then count whole tails, which unequal
phones do not exceed (`fedspeech.privacy.failure_probabilities`).

Not played: phones waiting for each other between the stages of a masked session, and leaving the
charger half-way; the plan's random drop-outs stand for both.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from fedspeech.device.day_model import DayModel
from fedspeech.device.device_classes import DEVICES, DeviceClass
from fedspeech.device.draws import Phones
from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.work_policy import Flags, WorkPolicy
from fedspeech.limits import Count, Positive, check_limits
from fedspeech.seeds import stream

HOURS = 24.0

CHECK_IN_S = 900.0
"""Seconds until all available phones know of a round and its cohort list closes: shortest period
of deferred work on Android (`PeriodicWorkRequest`, 15 minutes)."""

START_S = 2.0
"""Seconds to wake a process and load the base: an assumption."""

NETWORK_SPREAD = 1.0
"""Standard deviation of the logarithm of a phone's network time: an assumption."""


@dataclass(frozen=True, kw_only=True)
class PhoneWork:
    """What a phone does in a round; the same for all, whatever they hold.

    Attributes:
      bytes_up: that it sends.
      bytes_down: that it receives.
      round_trips: messages that it waits for an answer to.
      flops: of training.
    """

    bytes_up: int
    bytes_down: int
    round_trips: int
    flops: float


@dataclass(frozen=True, kw_only=True)
class RoundTimes:
    """Virtual time: hour of each round, availability and speed of phones.

    Attributes:
      first_round_h: hour of the day at which the first round is called.
      every_h: hours from one round to the next; 24: a round a night.
      deadline_s: seconds from the cohort list after which a phone's answer is too late.
      open_rounds: number of rounds that may be open at a time; phones then train on the model of
        `open_rounds` - 1 steps ago, since those steps are not taken yet when a round is called.

    Raises:
      ValueError: if a number is out of range, or more rounds overlap than may be open.
    """

    first_round_h: Annotated[float, Ge(0), Lt(HOURS)] = 2.0
    every_h: Positive = 24.0
    deadline_s: Positive = 20.0
    open_rounds: Count = 1

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)
        longest_h = (CHECK_IN_S + self.deadline_s) / 3600
        if self.every_h * self.open_rounds < longest_h:
            raise ValueError(
                f"a round takes {longest_h:.3g} hours at most (a cohort list of {CHECK_IN_S:g} s, "
                f"then deadline_s={self.deadline_s:g}) and {self.open_rounds} may be open at a "
                f"time: every_h must be at least {longest_h / self.open_rounds:.3g}, got "
                f"{self.every_h}"
            )


@dataclass(frozen=True, kw_only=True)
class TimeAxis(RoundTimes):
    """The virtual time of a run; all phones live in one time zone.

    Attributes:
      seed: of who is there when and who is how fast.
      rules: what users agree to, and what phones hold and require.
    """

    seed: int
    rules: PhoneRules = field(default_factory=PhoneRules)

    @classmethod
    def from_values(cls, *, rules: Mapping[str, Any] | None = None, **values: Any) -> Self:
        """Reads the plain values of a job file."""
        if rules is None:
            return cls(**values)
        policy = WorkPolicy(**rules["policy"])
        return cls(rules=PhoneRules(**{**rules, "policy": policy}), **values)

    @functools.cached_property
    def days(self) -> DayModel:
        """How the phones of this run spend their days."""
        return DayModel(self.seed)

    def called_h(self, round_number: int) -> float:
        """Hours from the midnight before the first round to the call of a round."""
        return self.first_round_h + round_number * self.every_h

    def share_available(self, round_number: int) -> float:
        """Share of the phones that may work when a round is called, by hour and weekday."""
        return self.days.share(self.called_h(round_number), self.rules.policy)

    def share_consented(self, round_number: int, population: int) -> float:
        """Share of a population whose consent is in force when a round is called, as drawn."""
        return self.share_consented_at(self.called_h(round_number), population)

    def share_consented_at(self, hour: float, population: int) -> float:
        """The same at an hour."""
        return _share_consented(self.rules, self.seed, math.floor(hour / HOURS), population)

    def least_available(self, rounds: int, population: int) -> float:
        """Smallest share that may work and has agreed, rounded down to a thousandth.

        It is what a plan may count on: who has agreed is known, and works or not each for itself.
        """
        least = min(
            self.share_available(number) * self.share_consented(number, population)
            for number in range(rounds)
        )
        # The tolerance keeps a share of 0.1 from becoming 0.099 by a last bit.
        return math.floor(1000 * least + 1e-9) / 1000

    def available(self, round_number: int, phone: int) -> bool:
        """Whether a phone may work when a round is called, and its user has agreed."""
        return bool(self.there(round_number, [phone])[0])

    def there(self, round_number: int, phones: Phones) -> Flags:
        """Which of some phones may work when a round is called, and whose user has agreed."""
        hour = self.called_h(round_number)
        consented = self.rules.consented(self.seed, hour, phones)
        return consented & self.rules.policy.allows(self.days.conditions(hour, phones))

    def held(self, round_number: int, phone: int, clips: int) -> NDArray[np.int64]:
        """Which of its user's clips a phone holds when a round is called, ascending."""
        return self.rules.held(self.seed, self.called_h(round_number), phone=phone, clips=clips)

    def most_minutes_a_day(self, work: PhoneWork) -> float:
        """Of work of the slowest phone, if it took part in every round of a calendar day."""
        rounds = math.ceil(HOURS / self.every_h)
        return rounds * max(_computing_s(device, work) for device in DEVICES) / 60

    def device(self, phone: int) -> DeviceClass:
        """Which class a phone is of."""
        return DEVICES[int(self.days.classes([phone])[0])]

    def seconds(self, work: PhoneWork, round_number: int, phone: int) -> float:
        """Seconds from the cohort list until a phone has sent its last message."""
        spread = stream(self.seed, "network", round_number, phone).standard_normal()
        device = self.device(phone)
        return _computing_s(device, work) + _network_s(device, work) * math.exp(
            NETWORK_SPREAD * spread
        )

    def share_late(self, work: PhoneWork) -> float:
        """Share of the phones that miss the deadline, over all devices."""
        late = 0.0
        for device in DEVICES:
            left = self.deadline_s - _computing_s(device, work)
            in_time = 0.0
            if left > 0:
                spread = math.log(left / _network_s(device, work)) / NETWORK_SPREAD
                in_time = NormalDist().cdf(spread)
            late += device.share * (1 - in_time)
        return late


@functools.lru_cache(maxsize=1024)
def _share_consented(rules: PhoneRules, seed: int, day: int, population: int) -> float:
    if rules.consent_rate == 1 and not rules.revoked_a_day:
        return 1.0
    return float(rules.consented(seed, HOURS * day, range(population)).mean())


def _computing_s(device: DeviceClass, work: PhoneWork) -> float:
    return START_S + work.flops / (device.gflops * 1e9)


def _network_s(device: DeviceClass, work: PhoneWork) -> float:
    """Of a phone in the middle of its class."""
    bits_up, bits_down = 8 * work.bytes_up, 8 * work.bytes_down
    return (
        bits_up / (device.uplink_mbps * 1e6)
        + bits_down / (device.downlink_mbps * 1e6)
        + work.round_trips * device.round_trip_s
    )

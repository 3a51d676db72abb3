"""When rounds happen, who is there, and how long a phone takes: virtual time.

Round r is called at a public time. Many phones lie idle on a charger at night, few by day; who is
away when its coin says yes is never asked. The coin remains the only chance that amplification
counts on: a phone takes part with at most the probability of its coin, so whoever knows when it was
there (its owner's habits are no secret) gains nothing. `PrivacyPlan.availability` sizes divisor and
minimums by the hour at which the fewest are there, and claims nothing else from it.

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

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

from annotated_types import Ge, Lt

from fedspeech.limits import Count, Positive, check_limits
from fedspeech.seeds import stream

HOURS = 24.0

LEAST_AVAILABLE, MOST_AVAILABLE, MOST_AVAILABLE_H = 0.1, 0.4, 3.0
"""Shares of the phones that are there at the worst and best hour, local time. Their ratio, 4, is
from Bonawitz et al. (2019), "Towards Federated Learning at Scale", section 9, for one country over
24 hours; their level, the hour and the cosine between them are assumptions."""

CHECK_IN_S = 900.0
"""Seconds until all available phones know of a round and its cohort list closes: shortest period
of deferred work on Android (`PeriodicWorkRequest`, 15 minutes)."""

START_S = 2.0
"""Seconds to wake a process and load the base: an assumption."""

NETWORK_SPREAD = 1.0
"""Standard deviation of the logarithm of a phone's network time: an assumption."""


@dataclass(frozen=True, kw_only=True)
class DeviceClass:
    """Phones that are alike.

    Attributes:
      name: for reports.
      share: of the population.
      gflops: that its processor sustains while it trains.
      uplink_mbps: megabits a second to the server.
      downlink_mbps: megabits a second from it.
      round_trip_s: seconds there and back.
    """

    name: str
    share: float
    gflops: float
    uplink_mbps: float
    downlink_mbps: float
    round_trip_s: float


DEVICES = (
    DeviceClass(name="fast", share=0.25, gflops=4.8,
                uplink_mbps=45.74, downlink_mbps=85.73, round_trip_s=0.021),
    DeviceClass(name="middling", share=0.5, gflops=1.6,
                uplink_mbps=11.22, downlink_mbps=35.96, round_trip_s=0.040),
    DeviceClass(name="slow", share=0.25, gflops=0.4,
                uplink_mbps=2.8, downlink_mbps=9.0, round_trip_s=0.16),
)  # fmt: skip
"""Network: world means of the Speedtest Global Index, September 2020, of fixed broadband (fast) and
mobile (middling); a quarter of mobile (slow) is an assumption. Processors: peaks of phones in use
spread over more than an order of magnitude (Wu et al. 2019, "Machine Learning at Facebook:
Understanding Inference at the Edge", Figure 1), and a quarter has cores designed since 2013 (same
paper). That these are the fast ones, the other shares, peaks of 48, 16 and 4 GFLOPS, and a tenth of
them sustained are assumptions."""


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
    """

    seed: int

    def called_h(self, round_number: int) -> float:
        """Hours from the midnight before the first round to the call of a round."""
        return self.first_round_h + round_number * self.every_h

    def share_available(self, round_number: int) -> float:
        """Share of the phones that are there when a round is called: day and night."""
        angle = 2 * math.pi * (self.called_h(round_number) - MOST_AVAILABLE_H) / HOURS
        middle = (MOST_AVAILABLE + LEAST_AVAILABLE) / 2
        return middle + (MOST_AVAILABLE - LEAST_AVAILABLE) / 2 * math.cos(angle)

    def least_available(self, rounds: int) -> float:
        """Smallest share over a run, rounded down to a thousandth: what a plan may count on."""
        least = min(map(self.share_available, range(rounds)))
        # The tolerance keeps a share of 0.1 from becoming 0.099 by a last bit.
        return math.floor(1000 * least + 1e-9) / 1000

    def available(self, round_number: int, phone: int) -> bool:
        """Whether a phone is there when a round is called.

        One draw from noon to noon: a phone that is there at an hour is there at each better one of
        the same night.
        """
        night = math.floor(self.called_h(round_number) / HOURS - 0.5)
        draw = stream(self.seed, "available", night, phone).random()
        return bool(draw < self.share_available(round_number))

    def device(self, phone: int) -> DeviceClass:
        """Which class a phone is of."""
        draw = stream(self.seed, "device", phone).random()
        for device in DEVICES[:-1]:
            if draw < device.share:
                return device
            draw -= device.share
        return DEVICES[-1]

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

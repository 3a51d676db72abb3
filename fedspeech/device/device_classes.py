"""Classes of phones: how fast they compute and send, how often they are charged on wifi."""

from __future__ import annotations

from dataclasses import dataclass


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
      charges_at_night: share of the nights.
      wifi: share of the days on which there is an unmetered network where it is charged.
      charges_by_day: probability of each of two chances a day.
    """

    name: str
    share: float
    gflops: float
    uplink_mbps: float
    downlink_mbps: float
    round_trip_s: float
    charges_at_night: float
    wifi: float
    charges_by_day: float


DEVICES = (
    DeviceClass(name="fast", share=0.25, gflops=4.8,
                uplink_mbps=45.74, downlink_mbps=85.73, round_trip_s=0.021,
                charges_at_night=0.70, wifi=0.85, charges_by_day=0.66),
    DeviceClass(name="middling", share=0.5, gflops=1.6,
                uplink_mbps=11.22, downlink_mbps=35.96, round_trip_s=0.040,
                charges_at_night=0.56, wifi=0.75, charges_by_day=0.61),
    DeviceClass(name="slow", share=0.25, gflops=0.4,
                uplink_mbps=2.8, downlink_mbps=9.0, round_trip_s=0.16,
                charges_at_night=0.42, wifi=0.55, charges_by_day=0.52),
)  # fmt: skip
"""Network: world means of the Speedtest Global Index, September 2020, of fixed broadband (fast) and
mobile (middling); a quarter of mobile (slow) is an assumption. Processors: peaks of phones in use
spread over more than an order of magnitude (Wu et al. 2019, "Machine Learning at Facebook:
Understanding Inference at the Edge", Figure 1), and a quarter has cores designed since 2013 (same
paper). That these are the fast ones, the other shares, peaks of 48, 16 and 4 GFLOPS, and a tenth of
them sustained are assumptions, and so are the three shares of days and nights: newer phones have a
charger and a network at home more often, and together they give the published factor of 4 between
night and day (`day_model`)."""

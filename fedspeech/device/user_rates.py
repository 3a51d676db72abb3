"""How simulated users behave, and what a scenario may change of it.

Every figure below without a source is an assumption.

Use: 65,499 interactions of 88 homes over 110 days, 6.8 a day at a smart speaker (Bentley et al.
2018, Proc. ACM IMWUT 2(3):91); a phone is spoken to less. Mistakes: 11 to 17 % of logged commands
were not understood or not meant (Ammari et al. 2019, ACM TOCHI 26(3):17). False accepts: 1.5 to 19
in 24 hours of television, by device (Dubois et al. 2020, PoPETs 2020(4):255). Accents: word error
rates differ by a factor of 1.8 between groups of speakers (Koenecke et al. 2020, PNAS 117:7684).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from fedspeech.limits import (
    Fraction,
    NotNegative,
    Positive,
    Probability,
    Share,
    WholeNumber,
    check_limits,
)

ACCENT_LOGITS = {"raised": -0.3, "levelled": -0.4, "five_vowel": -0.9, "fronted": -0.7}
DEVICE_LOGITS = {"headset": 0.2, "speakerphone": -0.2, "far_field": -0.5, "cheap_mic": -0.6}
NOISE_DB = {"quiet": 28.0, "moderate": 19.0, "noisy": 11.0}
USUAL_DB = 20.0
ENVIRONMENT_DB = {
    "quiet": 4.0, "speech": -3.0, "television_or_music": -5.0, "appliance": -4.0, "vehicle": -7.0,
    "outdoors": -3.0,
}  # fmt: skip
SNR_SPREAD_DB = 4.0
LOGITS_PER_DB = 0.08
ENOUGH_DB = 20.0
"""Below it a decibel costs `LOGITS_PER_DB`."""

PART_SHARES = (0.06, 0.24, 0.3, 0.4)
"""Of the interactions, from night to evening: homes use assistants most in the evening (Bentley et
al. 2018)."""

ENVIRONMENTS = (
    (0.02, 0.78, 0.05, 0.08, 0.03, 0.02, 0.02),
    (0.03, 0.36, 0.16, 0.09, 0.12, 0.16, 0.08),
    (0.03, 0.32, 0.2, 0.09, 0.1, 0.14, 0.12),
    (0.03, 0.29, 0.2, 0.3, 0.08, 0.06, 0.04),
)
"""Shares of the environments in the schema's order, from night to evening."""

MISTAKEN = (0.02, 0.02, 0.38, 0.48, 0.06, 0.02, 0.02)
"""Shares of the environments in which a phone wakes by mistake: speech and television."""

HOURS = (3.0, 9.0, 15.0, 21.0)
"""Middle of each bucket of listening, hours."""

WAKES_ALONE = 0.06
"""Share of accepted interactions after which nothing is asked."""


@dataclass(frozen=True, kw_only=True)
class Jingle:
    """A sound on television that wakes one class of devices.

    Attributes:
      device: class of devices whose microphone lets it pass for the word.
      day_part: quarter of the day in which it is played.
      per_day: number of times that a phone of the class hears it on a day.
      median_score: score that half of its appearances exceed.
      score_spread: standard deviation of the logit of the score.
      first_day: first day on which it is played.
    """

    device: str = "speakerphone"
    day_part: str = "evening"
    per_day: Positive = 0.4
    median_score: Probability = 0.6
    score_spread: Positive = 0.6
    first_day: WholeNumber = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)


@dataclass(frozen=True, kw_only=True)
class ThresholdChange:
    """Another threshold for one class of devices, which phones get in stages.

    Attributes:
      device: class of devices.
      threshold: their new threshold on the score.
      first_day: day on which the first stage begins.
      stages: shares of the class that have it, stage by stage; a phone keeps what it has.
      days_per_stage: days from one stage to the next.
    """

    device: str = "speakerphone"
    threshold: Probability = 0.75
    first_day: WholeNumber = 7
    stages: tuple[Fraction, ...] = (0.01, 0.1, 0.5, 1.0)
    days_per_stage: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)
        if list(self.stages) != sorted(self.stages) or not self.stages:
            raise ValueError(f"stages must be shares that rise, got stages={self.stages}")


@dataclass(frozen=True, kw_only=True)
class UserRates:
    """Simulated users, whose phones remember events.

    Attributes:
      days: number of days of use.
      interactions_per_day: mean number of times that a user speaks to the phone on a day; users
        differ by a gamma distribution of shape 2.
      threshold: on the score from 0 to 1, at which the detector accepts.
      median_score: score that half of the words of the pre-training accent exceed, spoken to a
        handset in quiet.
      score_spread: standard deviation of the logit of the score.
      false_accepts_per_day: number of false accepts in 24 hours of listening, at a threshold of
        0.5.
      false_accept_scale: logits by which a threshold rises where false accepts fall by a factor
        of e.
      canceled_share: share of false accepts that users cancel; others look like a wake trigger
        after which nothing is asked.
      retried_share: share of false rejects after which the user tries again within seconds, which
        is all that a phone knows of them.
      wrong_share: share of commands of the pre-training accent that go wrong.
      corrected_share: share of these that the user corrects; the phone then knows what was meant.
      intents: names of intents. Empty: the words of the vocabulary.
      jingle: a sound that wakes one class of devices. Not set: none.
      threshold_change: another threshold for one class of devices. Not set: none.

    Raises:
      ValueError: if a number is out of range.
    """

    days: Annotated[int, Ge(1), Le(365)] = 7
    interactions_per_day: Positive = 2.0
    threshold: Probability = 0.5
    median_score: Probability = 0.95
    score_spread: Positive = 1.3
    false_accepts_per_day: NotNegative = 0.3
    false_accept_scale: Positive = 0.8
    canceled_share: Share = 0.8
    retried_share: Share = 0.8
    wrong_share: Share = 0.1
    corrected_share: Share = 0.5
    intents: tuple[str, ...] = ()
    jingle: Jingle | None = None
    threshold_change: ThresholdChange | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

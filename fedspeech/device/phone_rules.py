"""What phones of a run agree to, hold and require: one phone's answer, or a million's at once.

    rules = PhoneRules(consent_rate=0.6, revoked_a_day=0.01)
    rules.consented(1, 27.0, range(1_000_000))      # bool, shape (1000000,)
    rules.held(1, 27.0, phone=3, clips=40)          # which of its clips phone 3 holds then

The same rules on a full device stand in `consent`, `retention`, `capture` and `scheduler`. Draws
are public and of the seed: they decide who may be asked and with which of its clips, whatever these
are, and protect nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.draws import Phones, uniform
from fedspeech.device.work_policy import Flags, WorkPolicy
from fedspeech.limits import Decay, Fraction, Positive, check_limits
from fedspeech.seeds import stream


@dataclass(frozen=True, kw_only=True)
class PhoneRules:
    """The device of a run: consent of its user, clips that it keeps, when it works.

    Attributes:
      consent_rate: share of the users who agree before the first round, each for itself; of others
        no phone takes part, nor answers a question.
      revoked_a_day: share of the consents in force that are taken back on a day; such a phone
        erases its clips and takes part no more.
      captures_a_day: clips that a trigger keeps on a phone a day, of those that its user says, in
        turn. Not set: a phone holds all its clips at all times.
      clip_days: days that a captured clip lives; not read without `captures_a_day`.
      policy: what a phone requires before it works.

    Raises:
      ValueError: if a number is out of range.
    """

    consent_rate: Fraction = 1.0
    revoked_a_day: Decay = 0.0
    captures_a_day: Positive | None = None
    clip_days: Positive = 7.0
    policy: WorkPolicy = field(default_factory=WorkPolicy)

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    def consented(self, seed: int, hour: float, phones: Phones) -> Flags:
        """Whose consent is in force at an hour, shape (phones,).

        Once taken back it stays so: the draw of a phone is one, and the share that it is compared
        with only rises.
        """
        agrees, revokes = uniform(seed, ("consent",), 2, phones).T
        gone = 1 - (1 - self.revoked_a_day) ** max(0, math.floor(hour / 24))
        consented: Flags = (agrees < self.consent_rate) & (revokes >= gone)
        return consented

    def held(self, seed: int, hour: float, *, phone: int, clips: int) -> NDArray[np.int64]:
        """Which of its user's clips a phone holds at an hour, ascending.

        Captures were as frequent before the first round, so that a phone holds as much from the
        start; each has its own moment of the day.
        """
        if self.captures_a_day is None or not clips:
            return np.arange(clips)
        phase = stream(seed, "captures", phone).random()
        last = math.floor(self.captures_a_day * hour / 24 + phase)
        first = math.floor(self.captures_a_day * (hour / 24 - self.clip_days) + phase) + 1
        if last - first + 1 >= clips:
            return np.arange(clips)
        return np.sort(np.arange(first, last + 1) % clips)

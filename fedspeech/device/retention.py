"""How long a phone keeps what, and by which clock: times to live by kind, a clock, a sweep."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from fedspeech.limits import Positive, check_limits

Kind = Literal[
    "clip", "transcript", "embedding", "event", "voiceprint", "adapter", "parcel", "debug"
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

ClipFormat = Literal["flac", "opus"]
"""FLAC keeps every bit; Opus takes a quarter of its bytes for a word."""

DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Days after which records of each kind are destroyed, used or not; and how clips are kept.

    Attributes:
      clip: audio that a trigger kept.
      transcript: text of what was said.
      embedding: frames of the frozen encoder, which training reads.
      event: weak labels and telemetry.
      voiceprint: of the owner; enrolled anew after it.
      adapter: the personal adapter.
      parcel: a payload on its way out.
      debug: of the debug cohort.
      clips_until_trained: whether a clip is destroyed as soon as a round has trained on it.
      clip_format: "flac" or "opus", of clips that come in; either is opened.

    Raises:
      ValueError: if a number of days is not positive and finite.
    """

    clip: Positive = 7.0
    transcript: Positive = 7.0
    embedding: Positive = 30.0
    event: Positive = 30.0
    voiceprint: Positive = 365.0
    adapter: Positive = 365.0
    parcel: Positive = 1.0
    debug: Positive = 3.0
    clips_until_trained: bool = True
    clip_format: ClipFormat = "flac"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    def expires_s(self, kind: Kind, now_s: float) -> int:
        """Second at which a record that is made now expires."""
        return math.floor(now_s + DAY_S * float(getattr(self, kind)))


@dataclass
class MonotoneClock:
    """Seconds that never run backwards, whatever the user or the network sets the time to.

    A time set back is taken as no time passed, so that no expired record returns, and goes on from
    there, so that none lives for ever. A time set forward counts: records then expire early.

    Attributes:
      seconds: the operating system's time.
      latest_s: largest second that was told; kept over restarts.
      offset_s: added to the operating system's time; kept over restarts.
    """

    seconds: Callable[[], float] = time.time
    latest_s: float = 0.0
    offset_s: float = 0.0

    def now(self) -> float:
        """Seconds since 1970 as long as nobody set the time back."""
        told = self.seconds() + self.offset_s
        if not math.isfinite(told):  # no time at all: none has passed
            return self.latest_s
        if told < self.latest_s:
            self.offset_s += self.latest_s - told
        self.latest_s = max(told, self.latest_s)
        return self.latest_s

    def after_restart(self, latest_s: float, offset_s: float) -> MonotoneClock:
        """The clock that goes on from what was kept before a restart."""
        return dataclasses.replace(
            self, latest_s=max(self.latest_s, latest_s), offset_s=self.offset_s + offset_s
        )

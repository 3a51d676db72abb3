"""What a release of counts says once: one question, about some days of one population.

Whoever asks the same again gets other noise over the same counts, and the mean of the two has less
of it. The ledger would price that, but a plan file says what one answer costs, and days that two
windows share would be answered twice. So a question is asked once about each day.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from fedspeech.errors import require


@dataclass(frozen=True, kw_only=True)
class ReleaseWindow:
    """A question and the days that it is about.

    Attributes:
      question: digest of what is counted and by which segments, hex.
      says: the question, in words.
      first_day: of the window.
      last_day: of the window, included.

    Raises:
      ValueError: if the window ends before it begins.
    """

    question: str
    says: str
    first_day: int
    last_day: int

    def __post_init__(self) -> None:
        """Checks the days."""
        ordered = 0 <= self.first_day <= self.last_day
        require(
            ordered,
            "first_day must be from 0 to last_day",
            first_day=self.first_day,
            last_day=self.last_day,
        )

    @property
    def days(self) -> str:
        """The days, in words."""
        if self.first_day == self.last_day:
            return f"day {self.first_day}"
        return f"days {self.first_day} to {self.last_day}"

    def overlaps(self, other: ReleaseWindow) -> bool:
        """Whether the other asks the same about a day of this window."""
        shared = self.first_day <= other.last_day and other.first_day <= self.last_day
        return self.question == other.question and shared

    def to_record(self) -> dict[str, Any]:
        """Plain data for a row of a ledger."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Inverts `to_record`.

        Raises:
          TypeError, ValueError: if it is no window.
        """
        return cls(**record)

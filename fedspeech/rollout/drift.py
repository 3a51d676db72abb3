"""When a phone drops its own adapter: voices, rooms and microphones change, and it does not.

A personal adapter is learned once from a few clips. What it has learned of a voice is right for
that voice; when the voice has changed it is somebody else's. The phone cannot see this by itself,
for it has no labels for what it got wrong. So an adapter has an age at which it is dropped: the
phone goes back to the version that it follows, and learns again from recent clips when it has some.
The age travels with the stages of a roll-out (`StageStatement.reset_after_days`), signed. What it
is worth, `benchmarks/drift.py` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedspeech.errors import require


@dataclass(frozen=True)
class ResetPolicy:
    """At which age a personal adapter is dropped.

    Attributes:
      after_days: of the clips that it was learned from; None: never.

    Raises:
      ValueError: if it is less than a day.
    """

    after_days: int | None

    def __post_init__(self) -> None:
        """Checks the age."""
        days = self.after_days
        require(days is None or days >= 1, "after_days must be at least 1", after_days=days)

    def drops(self, learned_day: int, today: int) -> bool:
        """Whether an adapter that was learned on a day is dropped today.

        A clock that was set back drops it as well: an age that cannot be told is no age.
        """
        if self.after_days is None:
            return False
        return not learned_day <= today < learned_day + self.after_days

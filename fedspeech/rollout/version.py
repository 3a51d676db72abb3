"""Versions of an adapter, in the order in which a phone accepts them."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_NUMBER = 2**31 - 1


@dataclass(frozen=True, order=True)
class Version:
    """Written `EPOCH.NUMBER`: numbers count up while the publisher's keys stay, from 1.

    New keys begin a new epoch, above every number of the one before. So whoever steals a signing
    key cannot use up the numbers for good.

    Attributes:
      epoch: how often the keys were replaced.
      number: 0: nothing was accepted in this epoch yet.

    Raises:
      ValueError: if one is out of range.
    """

    epoch: int
    number: int

    def __post_init__(self) -> None:
        """Checks the range."""
        if not (0 <= self.epoch <= MAX_NUMBER and 0 <= self.number <= MAX_NUMBER):
            raise ValueError(f"epoch and number must be 0 to {MAX_NUMBER}, got {self!r}")

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.epoch}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Version:
        """Reads `EPOCH.NUMBER`.

        Raises:
          ValueError: if it is anything else, such as a number with leading zeros.
        """
        found = re.fullmatch(r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})", text)
        if found is None:
            raise ValueError(f"a version is EPOCH.NUMBER, such as 0.1, got {text!r}")
        return cls(int(found[1]), int(found[2]))

"""Words as digits, and the prefixes of them that a search has found so far.

A word is written in digits: 0 ends it, and the letter at place i of the alphabet is i + 1. A prefix
is as many digits as a search knows, then -1 for each that it does not; -2 marks a free place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN, FREE = -1, -2

Digits = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How words are written.

    Attributes:
      letters: of the alphabet; words with others are not counted.
      digits: of every word; longer words are not counted.
      step: digits that a round finds.
    """

    letters: tuple[str, ...]
    digits: int
    step: int

    @property
    def base(self) -> int:
        """Values of a digit."""
        return len(self.letters) + 1

    @property
    def children(self) -> int:
        """Ways to go on from a prefix for one step."""
        return int(self.base**self.step)

    def write(self, word: str) -> Digits | None:
        """Digits of a word, shape (digits,); None if it cannot be written."""
        if not word or len(word) > self.digits or not set(word) <= set(self.letters):
            return None
        found = np.zeros(self.digits, dtype=np.int64)
        found[: len(word)] = [self.letters.index(letter) + 1 for letter in word]
        return found

    def read(self, digits: Digits) -> str:
        """Inverts `write`."""
        return "".join(self.letters[digit - 1] for digit in digits.tolist() if digit > 0)

    def child(self, digits: Digits, known: int) -> int:
        """Which way a word goes on from its first `known` digits; 0 where all are known."""
        number = 0
        for digit in digits[known : known + self.step].tolist():
            number = number * self.base + digit
        return number

    def grown(self, prefix: Digits, known: int, child: int) -> Digits:
        """The prefix that goes on in this way."""
        found = prefix.copy()
        for place in reversed(range(known, known + self.step)):
            child, found[place] = divmod(child, self.base)
        return found

    def possible(self, prefix: Digits, known: int) -> NDArray[np.bool_]:
        """Which ways lead to words: after an end there are ends alone, shape (children,)."""
        ways = np.arange(self.children)
        ended = np.full(self.children, known > 0 and prefix[known - 1] == 0)
        found = np.ones(self.children, dtype=bool)
        for place in range(self.step):
            digit = ways // self.base ** (self.step - 1 - place) % self.base
            found &= ~(ended & (digit > 0))
            ended |= digit == 0
            if known + place == 0:
                found &= digit > 0  # there is no empty word
        return found


def known_digits(prefixes: Digits) -> int:
    """How many digits of the prefixes are known, shape (..., digits): of all alike."""
    return int((prefixes >= 0).sum(axis=-1).max(initial=0))


def tree(prefixes: Digits, known: int) -> dict[tuple[int, ...], int]:
    """Place of each prefix by its known digits; prefixes have shape (places, digits)."""
    return {
        tuple(prefix[:known].tolist()): place
        for place, prefix in enumerate(prefixes)
        if prefix[0] != FREE
    }


def distinct(sentences: Sequence[str]) -> list[str]:
    """The words of sentences, each once, in alphabetical order."""
    return sorted({word for sentence in sentences for word in sentence.split()})

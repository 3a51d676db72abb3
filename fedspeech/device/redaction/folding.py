"""Text as the rules of redaction read it, with the way back to the text that was said."""

from __future__ import annotations

import functools
import re
import unicodedata
from bisect import bisect_left
from typing import NamedTuple

# What Unicode does not take apart.
_LETTERS = str.maketrans(
    {
        "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h",
        "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "′": "'", "‐": "-", "‑": "-", "‒": "-",
        "–": "-", "—": "-", "−": "-", "⁄": "/", "″": '"', "“": '"', "”": '"',
    }
)  # fmt: skip
_WORD = re.compile(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*")


class Word(NamedTuple):
    """A word or a string of digits in folded text.

    Attributes:
      text: of it, folded.
      start: its first character.
      end: the character after its last.
    """

    text: str
    start: int
    end: int


class Folded(NamedTuple):
    """A text without case, accents, marks and invisible characters; one kind of quote and dash.

    Attributes:
      said: the text as it came.
      text: folded.
      origin: for each folded character the one of `said` that it came from.
    """

    said: str
    text: str
    origin: list[int]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where folded characters `start` to `end` stand in `said`, marks after them included."""
        first, last = self.origin[start], self.origin[end - 1] + 1
        while last < len(self.said) and not _character(self.said[last]):
            last += 1
        return first, last

    def found(self, start: int, end: int) -> tuple[int, int]:
        """Folded characters that came from `said[start:end]`."""
        return bisect_left(self.origin, start), bisect_left(self.origin, end)


def fold(text: str) -> Folded:
    """Folds a text; two spellings that sound the same should fold to the same."""
    folded: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text):
        for one in _character(character):
            folded.append(one)
            origin.append(place)
    return Folded(text, "".join(folded), origin)


def words_of(folded: str) -> list[Word]:
    """Words and strings of digits, in order."""
    return [Word(found[0], *found.span()) for found in _WORD.finditer(folded)]


@functools.lru_cache(maxsize=4096)
def _character(character: str) -> str:
    apart = unicodedata.normalize("NFKD", character.translate(_LETTERS)).casefold()
    return "".join(
        str(unicodedata.digit(one, one)) for one in apart.translate(_LETTERS) if _stays(one)
    )


def _stays(character: str) -> bool:
    """Marks go, as do characters that nobody sees and by which numbers could be hidden."""
    category = unicodedata.category(character)
    return not category.startswith("M") and category not in ("Cf", "Cs", "Co", "Cn")

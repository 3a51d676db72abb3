"""Written words as labels: one spelling of each, in any script.

spoken("Don’t STOP!")     # "don't stop"
spoken("Zoë, it’s 7.5")   # "zoë it's 7.5"
spoken("شکرا")            # as it is: scripts without cases have no lower case
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

RESERVED = ("_unknown_", "_silence_")

_APOSTROPHES = dict.fromkeys(map(ord, "’ʼ‘＇`´"), "'")
_ASCII_AROUND = "!\"#%&'()*,-./:;?@\\_"
_JOINERS = "\u200c\u200d"  # Persian, Hindi, Sinhala and others spell words with them


def spoken(text: str) -> str:
    """Returns the words of a text, lower case, composed (NFC), separated by single spaces.

    Every apostrophe becomes the typewriter's. Punctuation around a word falls away, also where
    nothing else is left of it; within a word it stays, and so do the brackets around what is no
    word, as in [noise]. Characters of no width fall away but for
    joiners within a word of a script that has them: marks of direction would turn a report around.
    The two reserved labels stay as they are.
    """
    if text.strip() in RESERVED:
        return text.strip()
    if text.isascii() and text.isprintable():  # nearly every cell of nearly every table
        bare = (word.strip(_ASCII_AROUND) for word in text.replace("`", "'").lower().split())
        return " ".join(word for word in bare if word)
    return _spoken(text)


def _spoken(text: str) -> str:
    """`spoken` of any text but a reserved label."""
    lower = unicodedata.normalize("NFC", text).translate(_APOSTROPHES).lower()
    visible = "".join(c for c in lower if c in _JOINERS or unicodedata.category(c) != "Cf")
    words = (_bare(word) for word in unicodedata.normalize("NFC", visible).split())
    return " ".join(word for word in words if word)


def listed(words: Iterable[str]) -> str:
    """Writes words one after another in their order, also where a script runs from right to left.

    Between two such words a comma would be turned with them, and the first would stand last: each
    is isolated (U+2068 and U+2069, Unicode Standard Annex 9), which changes no other word.
    """
    return ", ".join(f"\u2068{word}\u2069" if _turns(word) else word for word in words)


def _turns(word: str) -> bool:
    return any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in word)


def without_dashes(words: str) -> str:
    """Returns words with the parts of compounds apart, as an alphabet without a dash needs them."""
    return " ".join("".join(" " if unicodedata.category(c) == "Pd" else c for c in words).split())


def _bare(word: str) -> str:
    """A word without the punctuation and the joiners around it."""
    first, last = 0, len(word)
    while first < last and _around(word[first]):
        first += 1
    while first < last and _around(word[last - 1]):
        last -= 1
    bare = word[first:last]
    return "".join(c for c in bare if c not in _JOINERS) if bare.isascii() else _joined(bare)


def _joined(word: str) -> str:
    """A word whose joiners stand between letters outside ASCII only."""
    return "".join(
        c
        for place, c in enumerate(word)
        if c not in _JOINERS or not (word[place - 1].isascii() or word[place + 1].isascii())
    )


def _around(character: str) -> bool:
    punctuation = unicodedata.category(character).startswith("P") and character not in "[]{}"
    return punctuation or character in _JOINERS

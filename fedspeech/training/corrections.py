"""What a user says after a mistake, as a weak label of the sentence before.

    >>> corrected("call a room at home", "no i said arun not a room")
    'call arun at home'
    >>> corrected("call a room", "no i said arun")
    'call arun'
    >>> corrected("stop the music", "what time is it") is None
    True

The label is weak: whatever else was misheard stays in it. It is made and used on the phone.
"""

from __future__ import annotations

from difflib import SequenceMatcher

OPENINGS = ("no i said ", "no i meant ", "i said ", "i meant ")
INSTEAD_OF = " not "


def corrected(heard: str, correction: str) -> str | None:
    """Returns the sentence that was meant, or None if nothing was corrected.

    Args:
      heard: what the phone wrote for the sentence before.
      correction: what it wrote for the next one: "no i said X not Y", or "no i said X", where X
        takes the place of the words of the sentence that are most like it.
    """
    opening = next((opening for opening in OPENINGS if correction.startswith(opening)), None)
    if opening is None:
        return None
    meant, instead, wrong = correction[len(opening) :].partition(INSTEAD_OF)
    words, meant_words = heard.split(), meant.split()
    if not meant_words or not words:
        return None
    if instead:
        place = _find(words, wrong.split())
        if place is None:
            return None
    else:
        place = _most_alike(words, meant)
    return " ".join([*words[: place.start], *meant_words, *words[place.stop :]])


def _find(words: list[str], wanted: list[str]) -> slice | None:
    """Where some words stand in a row."""
    for start in range(len(words) - len(wanted) + 1):
        if wanted and words[start : start + len(wanted)] == wanted:
            return slice(start, start + len(wanted))
    return None


def _most_alike(words: list[str], meant: str) -> slice:
    """The words in a row whose letters are nearest to what was meant, at most one word more."""
    count = len(meant.split())
    places = [
        slice(start, start + length)
        for length in range(1, min(count + 1, len(words)) + 1)
        for start in range(len(words) - length + 1)
    ]
    bare = meant.replace(" ", "")
    return max(places, key=lambda place: SequenceMatcher(None, "".join(words[place]), bare).ratio())

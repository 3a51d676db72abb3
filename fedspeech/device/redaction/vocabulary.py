"""Words by which rules know numbers, streets, names and commands; all are folded (`folding`)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files

_LISTS = json.loads((files(__package__) / "vocabulary.json").read_text(encoding="utf-8"))


def words(name: str) -> frozenset[str]:
    """A list of `vocabulary.json` by its name."""
    return frozenset(" ".join(_LISTS[name]).split())


def listed(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


COMMON = words("common")
"""Words of everyday commands, which may stay where a name is expected."""

KIN = words("kin")
_AMBIGUOUS = (COMMON | words("names that are words")) - KIN

FILLERS = words("fillers")
NATO = words("nato")
REPEATS: Mapping[str, int] = {
    word: int(times) for times, said in _LISTS["repeats"].items() for word in said.split()
}


@functools.cache
def ambiguous_words(region: str | None) -> frozenset[str]:
    """Words that are also names: a contact's only where somebody is called or written to."""
    spoken = _LISTS["languages"].get(region, "").split()
    return _AMBIGUOUS.union(*(words(f"{one} names that are words") for one in spoken
                              if one != "hindi"))  # fmt: skip


@functools.cache
def number_words(region: str | None) -> Mapping[str, int]:
    """Spoken number to its value: English, and what is spoken in a region.

    Args:
      region: ISO 3166 code, such as "FR"; None for English alone.
    """
    spoken = ["english", *_LISTS["languages"].get(region, "").split()]
    return {
        word: int(value)
        for language in spoken
        for value, said in _LISTS[f"{language} numbers"].items()
        for word in said.split()
    }


@functools.cache
def compound_numbers(region: str | None) -> Mapping[str, int]:
    """Numbers that German writes in one word: einundzwanzig, zweihundertfünfzig, dreitausend."""
    if "german" not in _LISTS["languages"].get(region, ""):
        return {}
    single = {
        word: int(value)
        for value, said in _LISTS["german numbers"].items()
        for word in said.split()
        if int(value) < 100
    }
    units = {word: value for word, value in single.items() if 0 < value < 10}
    tens = {word: value for word, value in single.items() if value >= 20}
    below = single | {f"{u}und{t}": tens[t] + units[u] for t in tens for u in units}
    hundreds = {f"{u}hundert": 100 * units[u] for u in units} | {"hundert": 100}
    larger = {f"{h}{b}": hundreds[h] + below[b] for h in hundreds for b in below if below[b]}
    thousands = {f"{b}tausend": 1000 * below[b] for b in below if below[b]}
    del hundreds["hundert"]  # alone it counts what stands before it
    return {**below, **hundreds, **larger, **thousands}

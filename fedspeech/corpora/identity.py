"""Names of speakers compared as people, so that two spellings of a name are one person.

A person under two names becomes two phones: one trains, the other is evaluated as never trained on,
and the unit of privacy covers half a person. So names are compared by their looks: composed
accents, letter case, kinds of spaces, characters without width and leading zeros make no
difference. Merging two people by mistake only makes the unit larger.

    persons = Persons(["Anna", "anna ", "an-na"])
    persons.of["anna "]        # "Anna", as it was written first
    persons.merged             # {"Anna": ("Anna", "anna ")}
    persons.alike              # (("Anna", "an-na"),): kept apart, and reported
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import islice

_SHOWN = 5  # names of one kind


def plain(text: str) -> str:
    """Returns text composed, without characters of no width, with single spaces."""
    if text.isascii() and text.isprintable():  # nearly every cell of nearly every table
        return " ".join(text.split())
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c for c in composed if unicodedata.category(c) != "Cf")
    return " ".join(visible.split())


class Persons:
    """The people behind the names of a corpus.

    Attributes:
      of: spelling to the person, who is named by the first spelling.
      merged: person to spellings, where there are several.
      alike: groups of different people whose names differ by punctuation alone.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Reads names in the order of the corpus."""
        first: dict[str, str] = {}
        self.of: Mapping[str, str] = {
            name: first.setdefault(_key(name), plain(name)) for name in dict.fromkeys(names)
        }
        written: dict[str, list[str]] = {}
        for name, person in self.of.items():
            written.setdefault(person, []).append(name)
        self.merged: Mapping[str, tuple[str, ...]] = {
            person: tuple(names) for person, names in written.items() if len(names) > 1
        }
        bare: dict[str, list[str]] = {}
        for key, person in first.items():
            bare.setdefault(re.sub(r"[\W_]", "", key) or key, []).append(person)
        self.alike = tuple(tuple(people) for people in bare.values() if len(people) > 1)

    def doubtful(self) -> Iterable[str]:
        """Yields lines about names that were merged, and about names that look alike."""
        for names in islice(self.merged.values(), _SHOWN):
            yield f"  one speaker, written in several ways: {_quoted(names)}"
        for names in islice(self.alike, _SHOWN):
            yield (
                f"  taken for different people: {_quoted(names)}; if they are one, the unit of "
                "privacy is wrong and people are judged on themselves: write them alike"
            )
        if hidden := sum(max(len(kind) - _SHOWN, 0) for kind in (self.merged, self.alike)):
            yield f"  and {hidden} more speakers with names of this kind"


def _key(name: str) -> str:
    """The part of a name that all of its spellings share."""
    folded = unicodedata.normalize("NFKC", plain(name)).casefold()
    whole = "".join(folded.split())
    # Zeros before the one number that ends a name: within a hexadecimal name they tell apart. In
    # two steps, since one pattern for both takes quadratic time on a cell of zeros.
    if found := re.fullmatch(r"(\D*)(\d+)", whole):
        return found[1] + (found[2].lstrip("0") or "0")
    return whole


def _quoted(names: Iterable[str]) -> str:
    """Writes names so that characters without width can be seen."""
    return ", ".join(ascii(name) if not name.isprintable() else repr(name) for name in names)

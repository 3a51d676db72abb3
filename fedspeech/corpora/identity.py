"""Who is one person, however the name is written.

A person under two names becomes two phones, trains under one and is judged under the other as never
trained on, and the unit of privacy is half a person. So names are compared by what a reader sees:
accents composed or not, letter case, spaces of any kind, characters without width and leading zeros
make no other person. Merging two people by mistake only makes the unit larger.

    persons = Persons(["Anna", "anna ", "an-na"])
    persons.of["anna "]        # "Anna", as it was written first
    persons.merged             # {"Anna": ("Anna", "anna ")}
    persons.alike              # (("Anna", "an-na"),): kept apart, and named to the user
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

_SHOWN = 5  # names of one kind


def plain(text: str) -> str:
    """Returns text as it is read aloud: composed, without characters of no width, single spaces."""
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c for c in composed if unicodedata.category(c) != "Cf")
    return " ".join(visible.split())


class Persons:
    """The people behind the names of a corpus.

    Attributes:
      of: name as written to the person's first name.
      merged: first name to all ways in which it is written, where there are several.
      alike: groups of different people whose names differ by punctuation alone.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Reads names in the order of the corpus; the first way to write a person stays."""
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


def _key(name: str) -> str:
    """What two ways to write one name have in common."""
    folded = unicodedata.normalize("NFKC", plain(name)).casefold()
    # Zeros before the one number that ends a name: within a hexadecimal name they tell apart.
    return re.sub(r"^(\D*)0+(\d+)$", r"\1\2", "".join(folded.split()))


def doubtful_names(
    merged: Collection[Sequence[str]], alike: Collection[Sequence[str]]
) -> Iterable[str]:
    """Yields lines about names that were merged, and about names that look alike and were not."""
    for names in islice(merged, _SHOWN):
        yield f"  one speaker, written in several ways: {_quoted(names)}"
    for names in islice(alike, _SHOWN):
        yield (
            f"  taken for different people: {_quoted(names)}; if they are one, the unit of privacy "
            "is wrong and people are judged on themselves: write them alike"
        )
    if hidden := max(len(merged) - _SHOWN, 0) + max(len(alike) - _SHOWN, 0):
        yield f"  and {hidden} more speakers with names of this kind"


def _quoted(names: Iterable[str]) -> str:
    """Writes names so that characters without width can be seen."""
    return ", ".join(ascii(name) if not name.isprintable() else repr(name) for name in names)

"""A file that somebody wants to share, as the rules see it."""

from __future__ import annotations

import bisect
import datetime
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_NAMED = 16
"""Numbers under other names from which an object is a list of them."""
BETWEEN = "\0"
"""Stands between joined texts: no letter, digit, mark or space."""
_RUN = re.compile(r"(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?[\s,;|]+[-+]?){16,}\d+(?:\.\d+)?", re.I)


@dataclass(frozen=True)
class Leaf:
    """One value of a document.

    Attributes:
      where: its place, such as `rows[3].phones`.
      key: the nearest name above it; "" if there is none.
      value: the value.
    """

    where: str
    key: str
    value: str | float | bool | None


@dataclass(frozen=True, eq=False)
class Artifact:
    """A file as the rules read it.

    Attributes:
      name: of the file, without its folder.
      content: its bytes.
      kind: what its content is: json, jsonl, csv, toml, text, html, safetensors, tflite or png.
      documents: plain data and where it stands: one for JSON and TOML, one a line for JSON lines,
        a list of rows for CSV, the data of charts for a page.
      text: everything in it that a person or a program reads as text.
      tensors: arrays by name; of an adapter alone.
      metadata: strings of an adapter's header.
      scripts: SHA-256 of everything that runs in a page, hex.
      shown: tables that people read in a page or in notes: place, and rows by header.
    """

    name: str
    content: bytes
    kind: str
    documents: tuple[tuple[str, Any], ...] = ()
    text: str = ""
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()
    shown: tuple[tuple[str, list[dict[str, str]]], ...] = ()

    def leaves_of(self, wanted: Callable[[str], object]) -> Iterator[Leaf]:
        """Every value whose nearest name is wanted; each name is asked about once."""
        of_keys = {name: bool(wanted(name)) for name in {"", *self._names}}
        for where, row, keys in self.objects_with(of_keys.__getitem__):
            for key in keys:
                if not isinstance(row[key], dict | list):
                    yield Leaf(_below(where, key), key, row[key])
        for where, key, value in self._containers:
            if isinstance(value, dict) or not of_keys[key]:
                continue
            for name, inner in _inside(value):
                if not isinstance(inner, dict | list):
                    yield Leaf(_below(where, name), key, inner)
        for key, text in self.metadata.items():
            if wanted(key):
                yield Leaf(f"metadata.{key}", key, text)

    def names(self) -> Iterator[tuple[str, str]]:
        """Every key of its documents, and the first place of each."""
        return iter([(where, key) for key, where in self._names.items()])

    def objects(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every object of its documents and where it stands."""
        return ((where, value) for where, _, value in self._containers if isinstance(value, dict))

    def objects_with(
        self, wanted: Callable[[str], object]
    ) -> Iterator[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
        """Every object that has a wanted key: place, object, those keys.

        Objects of one shape are asked about once: a file has thousands of rows and few shapes.
        """
        for shape, alike in self._shapes.items():
            if keys := tuple(key for key in shape if wanted(key)):
                for where, row in alike:
                    yield where, row, keys

    def lists(self) -> Iterator[tuple[str, list[Any]]]:
        """Every list of its documents and where it stands; columns of tables too."""
        for where, _, value in self._containers:
            if isinstance(value, list):
                yield where, value
        for where, rows in self.tables():
            for column in columns_of(rows):
                yield f"{where}[].{column}", [row.get(column) for row in rows]

    def tables(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Every list of objects, and the lines of JSON lines together."""
        if self.kind == "jsonl":
            rows = [row for _, row in self.documents if isinstance(row, dict)]
            if rows:
                yield "lines", rows
        for where, _, value in self._containers:
            if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
                yield where, value

    def strings(self, *having: Sought) -> Iterator[tuple[str, str]]:
        """Every text in it, keys, values and lines, and the first place of each.

        Args:
          having: only texts in which one of these is found; all texts are searched at once.
        """
        if not having:
            return iter(self._strings)
        touched = {place for sought in having for place in self.joined.touched_by(sought)}
        return (
            (where, text)
            for where, text in map(self._strings.__getitem__, sorted(touched))
            if any(sought.pattern.search(text) for sought in having)
        )

    @functools.cached_property
    def joined(self) -> Joined:
        """All texts in one."""
        return Joined(tuple(text for _, text in self._strings))

    @functools.cached_property
    def numbers(self) -> tuple[tuple[str, NDArray[np.float64]], ...]:
        """Numbers of every list, nested ones too, of columns, of objects of numbers, of texts.

        What stands between them in a list, such as a withheld cell, does not hide them.
        """
        found = []
        for where, values in self.lists():
            flat = values if _NESTING.isdisjoint(map(type, values)) else list(_flat(values))
            if (numbers := _numbers_among(flat)).size > 1:
                found.append((where, numbers))
        for shape, alike in self._shapes.items():
            if len(shape) < FEWEST_NAMED:
                continue
            for where, row in alike:
                numbers = _numbers_among(list(row.values()))
                if numbers.size == len(shape):
                    found.append((where or "document", numbers))
        runs = [
            (where, run[0])
            for where, text in self.strings(Sought(_RUN))
            for run in _RUN.finditer(text)
        ]
        found += [
            (where, np.array(re.split(r"[\s,;|]+", run), dtype=np.float64)) for where, run in runs
        ]
        return tuple(found)

    @functools.cached_property
    def _strings(self) -> tuple[tuple[str, str], ...]:
        found = {self.name: "file name"}
        for where, key in self.names():
            found.setdefault(key, f"{where} (key)")
        for where, _, value in self._containers:
            if isinstance(value, dict) and _UNSPOKEN.issuperset(map(type, value.values())):
                continue
            for name, inner in _inside(value):
                if type(inner) is str:
                    text = inner
                elif type(inner) in _DATES:
                    text = inner.isoformat()
                else:
                    continue
                if text not in found:
                    found[text] = _below(where, name)
        for key, text in self.metadata.items():
            found.setdefault(key, f"metadata.{key} (key)")
            found.setdefault(text, f"metadata.{key}")
        for name in self.tensors:
            found.setdefault(name, f"tensor {name}")
        if not self.documents or self.kind in {"html", "tflite"}:
            for number, line in enumerate(self.text.splitlines(), 1):
                found.setdefault(line, f"line {number}")
        return tuple((where, text) for text, where in found.items())

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        """The first place of every key."""
        found: dict[str, str] = {}
        for shape, alike in self._shapes.items():
            for key in shape:
                if key not in found:
                    found[key] = _below(alike[0][0], key)
        return found

    @functools.cached_property
    def _shapes(self) -> dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]]:
        """Objects by their keys."""
        found: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
        for where, _, value in self._containers:
            if isinstance(value, dict):
                found.setdefault(tuple(value), []).append((where, value))
        return found

    @functools.cached_property
    def _containers(self) -> tuple[tuple[str, str, Any], ...]:
        """Objects and lists: place, the nearest name, and what they hold."""
        pending = [(where, "", document) for where, document in reversed(self.documents)]
        found = []
        while pending:
            where, key, value = pending.pop()
            found.append((where, key, value))
            if not isinstance(value, dict | list):
                continue
            held = value.values() if isinstance(value, dict) else value
            if _HOLDING.isdisjoint(map(type, held)):
                continue
            pending += [
                (_below(where, name), name if isinstance(name, str) else key, inner)
                for name, inner in _inside(value)
                if isinstance(inner, dict | list)
            ]
        return tuple(found)


def _inside(value: Any) -> Iterable[tuple[str | int, Any]]:
    """What an object or a list holds, by name or number; a value alone holds itself."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ((0, value),)


def _below(where: str, name: str | int) -> str:
    return f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}" if where else name


def columns_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of all columns of a table, whichever row has them first."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(dict.fromkeys(map(tuple, rows)))))


@dataclass(frozen=True)
class Sought:
    """A pattern that texts are searched for.

    It must not anchor its match (`^`, `$`), and must match beside `BETWEEN` what it matches where
    a text begins or ends.

    Attributes:
      pattern: what is found.
      parts: one of these stands in every match, whatever its case; none: nothing is known.
      words: or one of these does, as a word of its own.
    """

    pattern: re.Pattern[str]
    parts: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()


class Joined:
    """Texts in one, with `BETWEEN` between each two.

    Attributes:
      text: all of them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Joins texts."""
        self.text = BETWEEN.join(
            text.replace(BETWEEN, "\N{REPLACEMENT CHARACTER}") for text in texts
        )
        self._starts = list(itertools.accumulate((len(text) + 1 for text in texts), initial=0))

    def touched_by(self, sought: Sought) -> Iterable[int]:
        """Numbers of texts in which something may be found; of no other can it be.

        Where a match begins, the search of all finds one too, or one that began before and reaches
        into the text: whatever a match touches is named.
        """
        if not sought.parts and not sought.words:
            return self._matched(sought.pattern)
        found = {place for part in sought.parts for place in self._with_part(part)}
        return found | self._as_written.texts_with(sought.words)

    @functools.cached_property
    def words(self) -> Words:
        """Words without case, accents and hidden characters."""
        return Words(folded(self.text))

    @functools.cached_property
    def _as_written(self) -> Words:
        """Words as patterns that ignore case read them: a hidden character parts two."""
        return self.words if self.text.isascii() else Words(self._without_case[0])

    @functools.cached_property
    def _without_case(self) -> tuple[str, list[int]]:
        """The text as patterns that ignore case read it, and where each text of it begins."""
        plain = self.text.replace("İ", "i").replace("ı", "i").casefold()
        if len(plain) == len(self.text):
            return plain, self._starts
        lengths = (len(text) + 1 for text in plain.split(BETWEEN))
        return plain, list(itertools.accumulate(lengths, initial=0))

    def _with_part(self, part: str) -> Iterator[int]:
        text, starts = self._without_case
        place = text.find(part)
        while place >= 0:
            number = bisect.bisect_right(starts, place) - 1
            yield number
            place = text.find(part, starts[number + 1])

    def _matched(self, pattern: re.Pattern[str]) -> Iterator[int]:
        for found in pattern.finditer(self.text):
            first = bisect.bisect_right(self._starts, found.start()) - 1
            yield from range(first, bisect.bisect_left(self._starts, found.end()))


class Words:
    """Words of joined texts.

    Attributes:
      row: all of them, with `BETWEEN` between texts.
    """

    def __init__(self, text: str) -> None:
        """Parts a text."""
        self.row = re.findall(rf"[^\W_]+|{BETWEEN}", text)
        self._ends = [place for place, word in enumerate(self.row) if word == BETWEEN]
        self._vocabulary = frozenset(self.row)

    def texts_of(self, places: Iterable[int]) -> Iterator[int]:
        """Numbers of the texts in which words stand."""
        return (bisect.bisect(self._ends, place) for place in places)

    def texts_with(self, words: frozenset[str]) -> set[int]:
        """Numbers of the texts in which any of some words stands."""
        if words.isdisjoint(self._vocabulary):
            return set()
        return set(self.texts_of(place for place, word in enumerate(self.row) if word in words))


def folded(text: str) -> str:
    """A text without case, accents, zero-width characters and other spellings of a letter."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
        hidden = [char for char in set(text) if unicodedata.category(char) in {"Mn", "Cf"}]
        text = text.translate(dict.fromkeys(map(ord, hidden)))
    return text.casefold()


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


_NESTING = frozenset((list,))
_HOLDING = frozenset((dict, list))
_DATES = frozenset((datetime.date, datetime.time, datetime.datetime))  # of TOML
_UNSPOKEN = frozenset((int, float, bool, type(None), dict, list))


def _numbers_among(values: Sequence[Any]) -> NDArray[np.float64]:
    """The numbers of a list, True and False among them."""
    if not _ALL_NUMBERS.issuperset(map(type, values)):
        values = [value for value in values if isinstance(value, int | float)]
    return np.array(values, dtype=np.float64)


_ALL_NUMBERS = frozenset((int, float))

"""What a phone may remember of an interaction: a closed, versioned schema of coarse codes.

    schema = telemetry_schema(("yes", "no"))
    row = schema.encode({"day": 3, "event": "correction", "word_or_intent": "yes", ...})
    schema.code("event", "correction"), schema.names("environment"), schema.columns

A phone keeps its events as rows of codes, int16, one column per key of `schema.json`, and its
attributes as one row more. A query counts them; no row leaves a phone. The schema is part of the
privacy argument all the same: what is not in a row cannot be counted. It holds no time finer than a
quarter of a day, no duration finer than four buckets, no place, no identifier and no text: the only
words are those of the public vocabulary.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ScenarioError

Kind = Literal["day", "day_part", "duration", "bucket", "category", "word"]

VERSION = 1
NONE = "none"
"""Code 0 of a bucket, a duration or a word: the column does not apply to the event."""

UNSTATED = "unstated"
"""Code 0 of an attribute: the user stated none, or nobody knows."""

OTHER = "other"
"""Value of an attribute for which the schema has no name."""

LAST_DAY = 32_767

_COLUMNS: Mapping[str, Kind] = {
    "day": "day",
    "event": "category",
    "word_or_intent": "word",
    "answered": "word",
    "score_bucket": "bucket",
    "snr_bucket": "bucket",
    "environment": "category",
    "day_part": "day_part",
    "listening": "duration",
}
"""The columns of version 1. They stand here too, so that an edited file is refused and a new column
takes a change of code, a new version and a review."""

_ATTRIBUTES = ("accent", "device", "noise", "sex", "age_band")

_MOST_VALUES: Mapping[Kind, int] = {
    "day": 0,
    "day_part": 4,
    "duration": 4,
    "bucket": 16,
    "category": 16,
    "word": 0,
}
"""Of a column in the file. The words are those of a vocabulary, at most `MOST_WORDS`."""

MOST_WORDS = 1_000

Events = NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One key of an event, or one attribute of a phone.

    Attributes:
      name: the key.
      kind: what its values are, which limits how many there may be.
      meaning: in words.
      names: value of each code, in order; of a day, none, for its code is the number of the day.
    """

    name: str
    kind: Kind
    meaning: str
    names: tuple[str, ...]

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names without the code 0 that says that there is no value."""
        return self.names[1:] if self.names[:1] in ((NONE,), (UNSTATED,)) else self.names

    @property
    def codes(self) -> int:
        """Number of codes, from 0."""
        return len(self.names) if self.names else LAST_DAY + 1

    def code(self, value: str | int) -> int:
        """Code of a value.

        Raises:
          ScenarioError: if the column has no such value.
        """
        if self.kind == "day":
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_DAY:
                return value
            raise ScenarioError(f"{self.name} is a whole number from 0, got {value!r:.40}")
        if value not in self.names:
            raise ScenarioError(
                f"{self.name} of telemetry schema {VERSION} is one of {', '.join(self.names)}, "
                f"got {value!r:.40}"
            )
        return self.names.index(str(value))


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The keys of an event and the attributes of a phone, each with its closed list of values.

    Attributes:
      version: of the schema; rows of another version are another schema's.
      event_columns: keys of an event, in the order of the columns of a phone's events.
      attribute_columns: attributes, in the order of a phone's row of attributes.
    """

    version: int
    event_columns: tuple[Column, ...]
    attribute_columns: tuple[Column, ...]
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Indexes the columns."""
        columns = (*self.event_columns, *self.attribute_columns)
        object.__setattr__(self, "_by_name", {column.name: column for column in columns})

    @property
    def columns(self) -> tuple[str, ...]:
        """Keys of an event, in order."""
        return tuple(column.name for column in self.event_columns)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes of a phone, in order."""
        return tuple(column.name for column in self.attribute_columns)

    def column(self, name: str) -> Column:
        """A key or an attribute.

        Raises:
          ScenarioError: if there is none of that name.
        """
        if name not in self._by_name:
            raise ScenarioError(
                f"telemetry schema {self.version} has the columns {', '.join(self.columns)} and "
                f"the attributes {', '.join(self.attributes)}, got {name!r:.40}"
            )
        return self._by_name[name]

    def place(self, name: str) -> int:
        """Position of a key in an event, or of an attribute in a phone's row of attributes.

        Raises:
          ScenarioError: if there is none of that name.
        """
        column = self.column(name)
        if column in self.event_columns:
            return self.event_columns.index(column)
        return self.attribute_columns.index(column)

    def code(self, column: str, name: str | int) -> int:
        """Code of a value of a key or of an attribute.

        Raises:
          ScenarioError: if the schema has no such column, or the column no such value.
        """
        return self.column(column).code(name)

    def names(self, column: str) -> tuple[str, ...]:
        """Values of a key or of an attribute by code; empty for the day.

        Raises:
          ScenarioError: if the schema has no such column.
        """
        return self.column(column).names

    def encode(self, event: Mapping[str, str | int]) -> Events:
        """One event as a row of codes, shape (columns,).

        Keys that do not apply may be left out where the column has a code for none.

        Raises:
          ScenarioError: naming a key or a value that the schema does not have, or a missing key.
        """
        return _encoded(self.version, self.event_columns, event)

    def encode_attributes(self, stated: Mapping[str, str | int]) -> Events:
        """What is known of a phone as a row of codes, shape (attributes,); the rest is unstated.

        Raises:
          ScenarioError: naming an attribute or a value that the schema does not have.
        """
        return _encoded(self.version, self.attribute_columns, stated)

    def decode(self, row: Events) -> dict[str, str | int]:
        """Inverts `encode`.

        Raises:
          ScenarioError: if the row is none of this schema.
        """
        self.check(row[np.newaxis])
        return {
            column.name: column.names[code] if column.names else code
            for column, code in zip(self.event_columns, row.tolist(), strict=True)
        }

    def check(self, events: Events) -> None:
        """Refuses events that are not of this schema, shape (events, columns).

        Raises:
          ScenarioError: naming the column and the code that it does not have.
        """
        _check_rows(self.version, self.event_columns, events)

    def check_attributes(self, attributes: Events) -> None:
        """Refuses attributes of phones that are not of this schema, shape (phones, attributes).

        Raises:
          ScenarioError: naming the attribute and the code that it does not have.
        """
        _check_rows(self.version, self.attribute_columns, attributes)


def telemetry_schema(words: Sequence[str] = ()) -> Schema:
    """The schema of this version, over a public vocabulary of target words or intents.

    Raises:
      ScenarioError: if there are too many words, or one repeats or is empty.
    """
    return _shipped(tuple(words))


def read_schema(content: bytes, words: Sequence[str] = ()) -> Schema:
    """Reads a schema file.

    Args:
      content: of the file, JSON.
      words: target words or intents, from code 1 on; code 0 says that none applies.

    Raises:
      ScenarioError: naming what the file has that version 1 has not: a column, an attribute, a
        kind, or more values than the kind allows.
    """
    found = json.loads(content)
    _require_keys("the schema", found, ("version", "columns", "attributes"))
    if found["version"] != VERSION:
        raise ScenarioError(f"telemetry schema must have version {VERSION}, got {found['version']}")
    names = _words(words)
    events = tuple(_column(entry, names, NONE) for entry in found["columns"])
    attributes = tuple(_column(entry, names, UNSTATED) for entry in found["attributes"])
    _require_names("columns", {one.name: one.kind for one in events}, _COLUMNS)
    stated: Mapping[str, Kind] = dict.fromkeys(_ATTRIBUTES, "category")
    _require_names("attributes", {one.name: one.kind for one in attributes}, stated)
    return Schema(version=VERSION, event_columns=events, attribute_columns=attributes)


@functools.lru_cache(maxsize=16)
def _shipped(words: tuple[str, ...]) -> Schema:
    file = resources.files("fedspeech.device").joinpath("schema.json")
    return read_schema(file.read_bytes(), words)


def _words(words: Sequence[str]) -> tuple[str, ...]:
    repeated = len(set(words)) < len(words)
    if repeated or len(words) > MOST_WORDS or NONE in words or "" in words:
        raise ScenarioError(
            f"a vocabulary of telemetry has at most {MOST_WORDS} distinct words, none of them "
            f"empty or {NONE!r}, got {len(words)}"
        )
    return (NONE, *words)


def _column(entry: Mapping[str, Any], words: tuple[str, ...], absent: str) -> Column:
    """Reads one column; its kind limits how many values it may have."""
    name, given = entry.get("name"), entry.get("kind")
    kind = next((kind for kind in _MOST_VALUES if kind == given), None)
    if kind is None:
        kinds = ", ".join(_MOST_VALUES)
        raise ScenarioError(f"the kind of a column is one of {kinds}, got {name}: {given!r:.40}")
    most = _MOST_VALUES[kind]
    _require_keys(
        f"column {name}", entry, ("name", "kind", "meaning", *(["values"] if most else []))
    )
    values = tuple(entry.get("values", ()))
    if len(values) > most or len(set(values)) < len(values):
        raise ScenarioError(
            f"a column of kind {kind} has at most {most} distinct values, got {len(values)} of "
            f"{name}"
        )
    if kind == "word":
        values = words
    elif absent == UNSTATED or kind in ("bucket", "duration"):
        values = (absent, *values)
    return Column(name=entry["name"], kind=kind, meaning=entry["meaning"], names=values)


def _require_keys(what: str, entry: Mapping[str, Any], keys: Sequence[str]) -> None:
    if set(entry) != set(keys):
        raise ScenarioError(f"{what} must have {', '.join(keys)}, got {', '.join(sorted(entry))}")


def _require_names(what: str, found: Mapping[str, Kind], version_1: Mapping[str, Kind]) -> None:
    """Refuses other columns than those of version 1, in another order or of another kind."""
    if strange := [name for name in found if found[name] != version_1.get(name)]:
        raise ScenarioError(
            f"telemetry schema {VERSION} has no {what} such as {strange[0]!r} of kind "
            f"{found[strange[0]]}; it has {', '.join(version_1)}. A new one takes a new version of "
            "the schema"
        )
    if tuple(found) != tuple(version_1):
        raise ScenarioError(
            f"telemetry schema {VERSION} has the {what} {', '.join(version_1)}, in this order, got "
            f"{', '.join(found)}"
        )


def _encoded(version: int, columns: Sequence[Column], given: Mapping[str, str | int]) -> Events:
    names = [column.name for column in columns]
    if strange := sorted(set(given) - set(names)):
        raise ScenarioError(
            f"telemetry schema {version} has no key {strange[0]!r:.40}; it has {', '.join(names)}"
        )
    row = np.zeros(len(columns), dtype=np.int16)
    for place, column in enumerate(columns):
        if column.name in given:
            row[place] = column.code(given[column.name])
        elif column.names[:1] not in ((NONE,), (UNSTATED,)):
            raise ScenarioError(f"an event must have the key {column.name!r}")
    return row


def _check_rows(version: int, columns: Sequence[Column], rows: Events) -> None:
    if rows.dtype != np.int16 or rows.ndim != 2 or rows.shape[1] != len(columns):
        raise ScenarioError(
            f"rows of telemetry schema {version} must be int16 of shape (n, {len(columns)}), got "
            f"{rows.dtype} of shape {rows.shape}"
        )
    if not len(rows):
        return
    lowest, highest = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
    for column, low, high in zip(columns, lowest, highest, strict=True):
        if low < 0 or high >= column.codes:
            raise ScenarioError(
                f"{column.name} of telemetry schema {version} has codes 0 to {column.codes - 1}, "
                f"got {low if low < 0 else high}"
            )

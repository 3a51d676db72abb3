"""A file that somebody wants to share, as the rules see it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


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
    """

    name: str
    content: bytes
    kind: str
    documents: tuple[tuple[str, Any], ...] = ()
    text: str = ""
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()

    def leaves(self) -> Iterator[Leaf]:
        """Every value of its documents, and every string of an adapter's header."""
        for where, key, value in self._containers:
            for name, inner in _inside(value):
                if not isinstance(inner, dict | list):
                    plain = inner.isoformat() if hasattr(inner, "isoformat") else inner
                    yield Leaf(_below(where, name), name if isinstance(name, str) else key, plain)
        for key, value in self.metadata.items():
            yield Leaf(f"metadata.{key}", key, value)

    def names(self) -> Iterator[tuple[str, str]]:
        """Every key of its documents, and the first place of each."""
        found: dict[str, str] = {}
        for where, value in self.objects():
            for key in value:
                if key not in found:
                    found[key] = _below(where, key)
        return iter([(where, key) for key, where in found.items()])

    def objects(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every object of its documents and where it stands."""
        return ((where, value) for where, _, value in self._containers if isinstance(value, dict))

    def lists(self) -> Iterator[tuple[str, list[Any]]]:
        """Every list of its documents and where it stands; columns of tables too."""
        for where, _, value in self._containers:
            if isinstance(value, list):
                yield where, value
        for where, rows in self.tables():
            for column in rows[0]:
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

    def strings(self) -> Iterator[tuple[str, str]]:
        """Every text in it, keys, values and lines, and the first place of each."""
        return iter(self._strings)

    @functools.cached_property
    def _strings(self) -> tuple[tuple[str, str], ...]:
        found = {self.name: "file name"}
        for where, key in self.names():
            found.setdefault(key, f"{where} (key)")
        for leaf in self.leaves():
            if isinstance(leaf.value, str) and leaf.value not in found:
                found[leaf.value] = leaf.where
        for name in self.tensors:
            found.setdefault(name, f"tensor {name}")
        if not self.documents or self.kind == "html":
            for number, line in enumerate(self.text.splitlines(), 1):
                found.setdefault(line, f"line {number}")
        return tuple((where, text) for text, where in found.items())

    @functools.cached_property
    def _containers(self) -> tuple[tuple[str, str, Any], ...]:
        """Objects and lists: place, the nearest name, and what they hold."""
        pending = [(where, "", document) for where, document in reversed(self.documents)]
        found = []
        while pending:
            where, key, value = pending.pop()
            found.append((where, key, value))
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

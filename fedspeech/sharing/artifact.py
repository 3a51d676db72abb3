"""A file that somebody wants to share, as the rules see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """

    name: str
    content: bytes
    kind: str
    documents: tuple[tuple[str, Any], ...] = ()
    text: str = ""
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def leaves(self) -> Iterator[Leaf]:
        """Every value of its documents, and every string of an adapter's header."""
        for where, document in self.documents:
            yield from _leaves(where, "", document)
        for key, value in self.metadata.items():
            yield Leaf(f"metadata.{key}", key, value)

    def names(self) -> Iterator[tuple[str, str]]:
        """Every key of its documents and where it stands."""
        for where, value in self.objects():
            for key in value:
                yield f"{where}.{key}".lstrip("."), key

    def objects(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every object of its documents and where it stands."""
        for where, value in self._nodes():
            if isinstance(value, dict):
                yield where, value

    def lists(self) -> Iterator[tuple[str, list[Any]]]:
        """Every list of its documents and where it stands; columns of tables too."""
        for where, value in self._nodes():
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
        for where, value in self._nodes():
            if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
                yield where, value

    def strings(self) -> Iterator[tuple[str, str]]:
        """Every text in it and where it stands: keys, values and lines."""
        yield "file name", self.name
        for where, key in self.names():
            yield f"{where} (key)", key
        for leaf in self.leaves():
            if isinstance(leaf.value, str):
                yield leaf.where, leaf.value
        for name in self.tensors:
            yield f"tensor {name}", name
        if not self.documents or self.kind == "html":
            for number, line in enumerate(self.text.splitlines(), 1):
                yield f"line {number}", line

    def _nodes(self) -> Iterator[tuple[str, Any]]:
        pending = list(reversed(self.documents))
        while pending:
            where, value = pending.pop()
            yield where, value
            inner = value.items() if isinstance(value, dict) else ()
            listed = enumerate(value) if isinstance(value, list) else ()
            pending += [(f"{where}.{key}".lstrip("."), each) for key, each in inner]
            pending += [(f"{where}[{place}]", each) for place, each in listed]


def _leaves(where: str, key: str, value: Any) -> Iterator[Leaf]:
    pending = [(where, key, value)]
    while pending:
        place, name, found = pending.pop()
        if isinstance(found, dict):
            pending += [(f"{place}.{one}".lstrip("."), one, each) for one, each in found.items()]
        elif isinstance(found, list):
            pending += [(f"{place}[{at}]", name, each) for at, each in enumerate(found)]
        else:
            yield Leaf(place, name, found if not hasattr(found, "isoformat") else found.isoformat())

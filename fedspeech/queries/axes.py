"""Which events a query counts, and into which cells: plain values that a job file can hold.

    device = Axis.of(schema, "device")
    rejected = Condition.of(schema, "event", ("likely_false_reject",))

An axis gives each code of a column, or of an attribute, a cell or none. Codes of another schema, or
codes that an axis leaves out, fall in no cell and are not counted.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.telemetry import Schema
from fedspeech.errors import require

NOWHERE = -1
"""Cell of a code that is not counted."""

Codes = NDArray[np.int16]
Cells = NDArray[np.int64]


class Meaning(abc.ABC):
    """A part of a question of which names and order say nothing."""

    @property
    @abc.abstractmethod
    def meaning(self) -> list[Any]:
        """Plain data that two parts share if they count alike."""


@dataclass(frozen=True, kw_only=True)
class Axis(Meaning):
    """One direction of a table of counts.

    Attributes:
      name: of the column or of the attribute.
      place: of the column in an event, or of the attribute in a phone's row.
      names: of the cells, in order.
      cells: of each code, from code 0, its cell; -1: none.

    Raises:
      ValueError: if there is no cell, or a code's cell has no name.
    """

    name: str
    place: int
    names: tuple[str, ...]
    cells: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks the cells; rebuilds what was read back as plain data."""
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "cells", tuple(self.cells))
        require(bool(self.names), "names of an axis must not be empty", name=self.name)
        known = all(NOWHERE <= cell < len(self.names) for cell in self.cells)
        require(known, "cells of an axis must be -1 or a place in its names", cells=self.cells)

    @classmethod
    def of(
        cls,
        schema: Schema,
        name: str,
        *,
        leave_out: Collection[str] = (),
        merged: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """The axis of a column or of an attribute.

        Args:
          schema: of the telemetry.
          name: of the column or of the attribute.
          leave_out: values that are not counted, for instance "none".
          merged: values that share a cell, by the name of the cell.

        Raises:
          ScenarioError: if the schema has no such column or value.
          ValueError: if nothing is left to count, or the column is the day, which has no names.
        """
        values = schema.names(name)
        groups = {value: value for value in values if value not in leave_out}
        for group, members in (merged or {}).items():
            groups |= {values[schema.code(name, member)]: group for member in members}
        names = tuple(dict.fromkeys(groups.values()))
        cells = tuple(
            names.index(groups[value]) if value in groups else NOWHERE for value in values
        )
        return cls(name=name, place=schema.place(name), names=names, cells=cells)

    @property
    def meaning(self) -> list[Any]:
        """The column: merged cells, or some of them, are sums and parts of the same counts."""
        return [self.place]

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.names)

    def find(self, rows: Codes) -> Cells:
        """Cell of each row, shape (rows,); rows has shape (rows, columns)."""
        table = np.append(np.array(self.cells, dtype=np.int64), NOWHERE)
        codes = rows[:, self.place].astype(np.int64)
        known = (codes >= 0) & (codes < len(self.cells))
        found: Cells = table[np.where(known, codes, len(self.cells))]
        return found


@dataclass(frozen=True, kw_only=True)
class Condition(Meaning):
    """Which values of a column an event must have to be counted.

    Attributes:
      name: of the column.
      place: of the column in an event.
      codes: that are counted.
    """

    name: str
    place: int
    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Rebuilds what was read back as plain data."""
        object.__setattr__(self, "codes", tuple(self.codes))

    @classmethod
    def of(cls, schema: Schema, name: str, values: Collection[str]) -> Self:
        """The condition that a column has one of some values.

        Raises:
          ScenarioError: if the schema has no such column or value.
        """
        codes = tuple(schema.code(name, value) for value in values)
        return cls(name=name, place=schema.place(name), codes=codes)

    @property
    def meaning(self) -> list[Any]:
        """The codes, in no order."""
        return [self.place, sorted(set(self.codes))]

    def holds(self, events: Codes) -> NDArray[np.bool_]:
        """Which events fulfil it, shape (events,)."""
        return np.isin(events[:, self.place], self.codes)


def flat_cells(axes: Sequence[Axis], rows: Codes) -> Cells:
    """Cell of each row in the table that axes span, the last axis fastest; -1: none.

    Shape (rows,). Without axes, all rows fall in the one cell.
    """
    flat = np.zeros(len(rows), dtype=np.int64)
    counted = np.ones(len(rows), dtype=bool)
    for axis in axes:
        cells = axis.find(rows)
        counted &= cells != NOWHERE
        flat = flat * len(axis) + cells
    return np.where(counted, flat, NOWHERE)


def size(axes: Sequence[Axis]) -> int:
    """Number of cells of the table that axes span."""
    return math.prod(len(axis) for axis in axes)


def labels(axes: Sequence[Axis]) -> list[tuple[str, ...]]:
    """Names of each cell of the table that axes span, in order."""
    found: list[tuple[str, ...]] = [()]
    for axis in axes:
        found = [(*label, name) for label in found for name in axis.names]
    return found


def rebuilt(kind: type[Any], parts: Sequence[Any]) -> tuple[Any, ...]:
    """Parts of a query's settings that were read back as plain data."""
    return tuple(kind(**part) if isinstance(part, Mapping) else part for part in parts)

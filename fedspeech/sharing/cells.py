"""Published numbers of people, and what a reader of several releases works out from them.

    cells = cells_of(artifact)
    for where, why in isolated([*earlier, *cells], k_min=20): ...

All numbers are taken as of one population. A cell is a conjunction such as accent = north and
age = 18-30; a reader subtracts a cell from one that contains it, parts from their total, the
counts of one cell from each other, and solves the system of all equations. Within one table this
is the rule `cell-by-subtraction`; here are two tables, or two releases.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedspeech.sharing.artifact import Artifact
from fedspeech.sharing.schema import DESCRIPTIONS, PEOPLE, TOTALS

Conditions = frozenset[tuple[str, str]]
MOST_SOLVED = 256
"""Cells up to which the system of all equations is solved."""
_MOST_ATOMS = 8192
_BETWEEN = re.compile(r"\[?\s*(\d+(?:\.\d+)?)\s*(?:-|–|to|,|\.\.)\s*(\d+(?:\.\d+)?)\s*[\])]?")
_BELOW = re.compile(r"(?:<=?|≤|under|below|up to)\s*(\d+(?:\.\d+)?)")
_ABOVE = re.compile(r"(?:(?:>=?|≥|over|above|from|at least)\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\+)")


@dataclass(frozen=True)
class Cell:
    """A number of people.

    Attributes:
      conditions: what all of them have in common; empty: everybody.
      people: how many they are.
      where: its place; "" in an earlier release.
    """

    conditions: Conditions
    people: float
    where: str = ""


Release = tuple[Cell, ...]
"""Cells that are read together: of one table of a file, or of one earlier release."""


def cells_of(artifact: Artifact) -> list[Release]:
    """Cells of every table of a file, and of its other objects together."""
    tables = [rows for _, rows in artifact.tables()]
    inside = {id(row) for rows in tables for row in rows}
    places = {id(row): where for where, row in artifact.objects()}
    sources: list[list[tuple[str, Mapping[str, Any]]]] = [
        [(places.get(id(row), "rows"), row) for row in rows] for rows in tables
    ]
    sources.append([(where, row) for where, row in artifact.objects() if id(row) not in inside])
    return [found for rows in sources if (found := tuple(_cells(rows)))]


def _cells(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Cell]:
    for where, row in rows:
        for key, value in row.items():
            if key.lower() in PEOPLE and isinstance(value, int | float) and value is not True:
                yield Cell(frozenset(_conditions(row)), value, f"{where}.{key}".lstrip("."))


def _conditions(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What people of a row have in common; a figure's own name and unit are no part of it."""
    for key, value in row.items():
        if not isinstance(value, str) or not value.strip() or key.lower() in DESCRIPTIONS:
            continue
        if key.lower() in {"name", "model", "variant"} and "unit" in row:
            continue
        plain = value.strip().casefold()
        if key.lower() == "segment" and ":" in plain:
            yield tuple(part.strip() for part in plain.split(":", 1))  # type: ignore[misc]
        elif plain not in TOTALS:
            yield key.casefold(), plain


def isolated(
    earlier: Sequence[Release], new: Sequence[Release], k_min: int
) -> Iterator[tuple[str, str]]:
    """Places of new cells from which, with others, fewer than `k_min` people follow, and why.

    What follows from one table alone is not said.
    """
    alone = {found for source in (*earlier, *new) for found in _followed(source, k_min)}
    known = [Cell(cell.conditions, cell.people) for source in earlier for cell in source]
    both = [*known, *itertools.chain.from_iterable(new)]
    yield from dict.fromkeys(found for found in _followed(both, k_min) if found not in alone)


def _followed(cells: Sequence[Cell], k_min: int) -> Iterator[tuple[str, str]]:
    by_conditions = defaultdict(list)
    for cell in cells:
        by_conditions[cell.conditions].append(cell)
    for one, other, why in _pairs(cells, by_conditions):
        if 0.5 < abs(one.people - other.people) < k_min and (where := one.where or other.where):
            yield where, f"{why} of fewer than {k_min} people follows by subtraction"
    newest = {conditions: same[-1] for conditions, same in by_conditions.items()}
    yield from _parts(newest, k_min)
    if len(newest) <= MOST_SOLVED:
        yield from _solved(list(newest.values()), k_min)


def _pairs(
    cells: Sequence[Cell], by_conditions: Mapping[Conditions, Sequence[Cell]]
) -> Iterator[tuple[Cell, Cell, str]]:
    """Two counts of one cell, a cell within another, a range within another."""
    ranges = defaultdict(list)
    for cell in cells:
        for other in by_conditions[cell.conditions]:
            yield cell, other, "a change"
        for size in range(len(cell.conditions)):
            for wider in itertools.combinations(sorted(cell.conditions), size):
                for outside in by_conditions.get(frozenset(wider), ()):
                    yield cell, outside, "the rest"
        for condition in cell.conditions:
            if (span := _span(condition[1])) is not None:
                group = (condition[0], cell.conditions - {condition})
                ranges[group].append((span, cell))
    for spans in ranges.values():
        for (outer, one), (inner, two) in itertools.permutations(spans, 2):
            if outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]:
                yield one, two, "the rest of a range"


def _parts(newest: Mapping[Conditions, Cell], k_min: int) -> Iterator[tuple[str, str]]:
    """Parts of a total by one attribute that leave few people over."""
    families = defaultdict(list)
    for conditions, cell in newest.items():
        for attribute, value in conditions:
            if _span(value) is None:
                families[attribute, conditions - {(attribute, value)}].append(cell)
    for (_, rest), parts in families.items():
        total = newest.get(rest)
        if total is None:
            continue
        where = next((cell.where for cell in (total, *parts) if cell.where), "")
        if where and 0.5 < abs(total.people - sum(cell.people for cell in parts)) < k_min:
            yield where, f"a part of fewer than {k_min} people follows by subtraction"


def _solved(cells: Sequence[Cell], k_min: int) -> Iterator[tuple[str, str]]:
    """Groups of people whose size all equations together fix."""
    members = _members(cells)
    if members is None:
        return
    inverse = np.linalg.pinv(members)
    fixed = np.flatnonzero(np.abs(np.diag(inverse @ members) - 1) < 1e-8)
    counts = np.array([cell.people for cell in cells])
    shares = members @ inverse  # of what is left over once every cell is told from the others
    freedom = 1 - np.diag(shares)
    apart = (counts - shares @ counts) / np.where(freedom > 1e-8, freedom, np.inf)
    for cell, difference in zip(cells, apart, strict=True):
        if cell.where and 0.5 < abs(difference) < k_min:
            yield cell.where, f"a change of fewer than {k_min} people follows from several cells"
    for group in fixed:
        size = float(inverse[group] @ counts)
        used = np.flatnonzero(np.abs(inverse[group]) > 1e-8)
        where = next((cells[int(place)].where for place in used if cells[int(place)].where), "")
        if where and len(used) > 1 and 0.5 < abs(size) < k_min:
            yield where, f"a group of fewer than {k_min} people follows from several cells"


def _members(cells: Sequence[Cell]) -> np.ndarray[Any, Any] | None:
    """Which smallest groups are in which cell, shape (cells, groups); None: too many."""
    values = defaultdict(set)
    for cell in cells:
        for attribute, value in cell.conditions:
            values[attribute].add(value)
    pieces = {attribute: _pieces(found) for attribute, found in sorted(values.items())}
    if math.prod(len(each) for each in pieces.values()) > _MOST_ATOMS:
        return None
    names = list(pieces)
    columns = set()
    for atom in itertools.product(*pieces.values()):
        within = dict(zip(names, atom, strict=True))
        columns.add(
            tuple(all(value in within[name] for name, value in c.conditions) for c in cells)
        )
    return np.array(sorted(columns), dtype=np.float64).T


def _pieces(values: Iterable[str]) -> list[frozenset[str]]:
    """Smallest parts of an attribute, each by the values that it lies in; others lie in none."""
    spans = {value: span for value in values if (span := _span(value)) is not None}
    words = [frozenset((value,)) for value in sorted(values) if value not in spans]
    ends = sorted({end for span in spans.values() for end in span})
    ranges = {
        frozenset(v for v, (low, high) in spans.items() if low <= start and end <= high)
        for start, end in itertools.pairwise(ends)
    }
    return list(dict.fromkeys([*words, *sorted(ranges, key=sorted), frozenset[str]()]))


def _span(value: str) -> tuple[float, float] | None:
    """The range that a value such as 18-30, under 30 or 30+ is; None: it is none."""
    if found := _BETWEEN.fullmatch(value):
        return float(found[1]), float(found[2])
    if found := _BELOW.fullmatch(value):
        return -math.inf, float(found[1])
    if found := _ABOVE.fullmatch(value):
        return float(found[1] or found[2]), math.inf
    return None

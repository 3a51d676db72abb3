"""Published numbers of people, and what a reader of several releases works out from them.

    cells = cells_of(artifact)
    for where, why in isolated([*earlier, *cells], k_min=20): ...

All numbers are taken as of one population. A cell is a conjunction such as accent = north and
age = 18-30; a reader subtracts a cell from one that contains it, parts from their total, the
counts of one cell from each other, and solves the system of all equations. What follows within one
table is for the rule `cell-by-subtraction` to say, what follows from two of them, or from two
releases, for `differencing`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fedspeech.sharing.artifact import Artifact
from fedspeech.sharing.schema import DESCRIPTIONS, PEOPLE, TOTALS

Conditions = frozenset[tuple[str, str]]
MOST_SOLVED = 256
"""Cells up to which the system of all equations is solved."""
_MOST_ATOMS = 8192
_ROUNDING = 1e-6  # of what a system of equations gives
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
        conditions: Conditions | None = None
        for key in counted_keys(tuple(row)):
            value = row[key]
            if isinstance(value, int | float) and value is not True:
                conditions = frozenset(_conditions(row)) if conditions is None else conditions
                yield Cell(conditions, value, f"{where}.{key}".lstrip("."))


@functools.lru_cache(maxsize=1024)
def counted_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Keys of an object that count people."""
    return tuple(key for key in keys if key.lower() in PEOPLE)


def _conditions(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What people of a row have in common; a figure's own name and unit are no part of it."""
    for key, value in row.items():
        if type(value) is not str or (condition := _condition(key, value)) is None:
            continue
        if "unit" not in row or key.lower() not in {"name", "model", "variant"}:
            yield condition


@functools.lru_cache(maxsize=1 << 14)
def _condition(key: str, value: str) -> tuple[str, str] | None:
    """What a key and a word say of people; None: nothing, or of all of them."""
    plain = value.strip().casefold()
    if not plain or key.lower() in DESCRIPTIONS:
        return None
    if key.lower() == "segment" and ":" in plain:
        attribute, part = plain.split(":", 1)
        return attribute.strip(), part.strip()
    return None if plain in TOTALS else (key.casefold(), plain)


def isolated(
    earlier: Sequence[Release], new: Sequence[Release], k_min: int
) -> Iterator[tuple[str, str]]:
    """Places of new cells from which, with others, fewer than `k_min` people follow, and why.

    What follows from one table alone is not said: `cell-by-subtraction` says it.
    """
    known = [Cell(cell.conditions, cell.people) for source in earlier for cell in source]
    both = [*known, *itertools.chain.from_iterable(new)]
    found = dict.fromkeys(followed(both, k_min))
    if found and len(earlier) + len(new) > 1:
        alone = {each for source in (*earlier, *new) for each in followed(source, k_min)}
        yield from (each for each in found if each not in alone)


def followed(cells: Sequence[Cell], k_min: int) -> Iterator[tuple[str, str]]:
    """Places of new cells from which, with others of these, fewer than `k_min` people follow."""
    by_conditions = defaultdict(list)
    for cell in cells:
        by_conditions[cell.conditions].append(cell)
    counts = {conditions: _Counts(same) for conditions, same in by_conditions.items()}
    for conditions, same in by_conditions.items():
        around = [("a change", counts[conditions])]
        around += [("the rest", counts[wider]) for wider in _wider(conditions, counts)]
        for cell, (why, others) in itertools.product(same, around):
            if where := others.near(cell, k_min):
                yield where, f"{why} of fewer than {k_min} people follows by subtraction"
    for outer, inner in _ranges(by_conditions):
        for cell in by_conditions[outer]:
            if where := counts[inner].near(cell, k_min):
                yield (
                    where,
                    f"the rest of a range of fewer than {k_min} people follows by subtraction",
                )
    newest = {conditions: same[-1] for conditions, same in by_conditions.items()}
    yield from _parts(newest, k_min)
    if len(newest) <= MOST_SOLVED:
        yield from _solved(list(newest.values()), k_min)


class _Counts:
    """Numbers of people of one cell in several tables and releases, in order."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        ordered = sorted((cell.people, cell.where) for cell in cells)
        self._all = _in_order(ordered)
        self._new = _in_order([each for each in ordered if each[1]])

    def near(self, cell: Cell, k_min: int) -> str:
        """Where a number that differs from a cell's by fewer than `k_min` was given away.

        The place is the cell's own, if it is new; "" where there is none.
        """
        people, places = self._all if cell.where else self._new
        above = bisect.bisect_right(people, cell.people + 0.5)
        below = bisect.bisect_left(people, cell.people - 0.5) - 1
        for place in (above, below):
            if 0 <= place < len(people) and abs(people[place] - cell.people) < k_min:
                return cell.where or places[place]
        return ""


def _in_order(counts: Sequence[tuple[float, str]]) -> tuple[list[float], list[str]]:
    return [people for people, _ in counts], [where for _, where in counts]


def _wider(conditions: Conditions, known: Collection[Conditions]) -> Iterator[Conditions]:
    """Known cells that contain a cell: those with fewer of its conditions."""
    if len(known) < 2 ** len(conditions):
        yield from (wider for wider in known if wider < conditions)
        return
    for size in range(len(conditions)):
        for wider in map(frozenset, itertools.combinations(conditions, size)):
            if wider in known:
                yield wider


def _ranges(known: Iterable[Conditions]) -> Iterator[tuple[Conditions, Conditions]]:
    """Known cells that are alike but for a range of one that lies within that of the other."""
    ranges = defaultdict(list)
    for conditions in known:
        for condition in conditions:
            if (span := _span(condition[1])) is not None:
                ranges[condition[0], conditions - {condition}].append((span, conditions))
    for spans in ranges.values():
        for (outer, one), (inner, two) in itertools.permutations(spans, 2):
            if outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]:
                yield one, two


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
    """Groups of people whose size all equations together fix.

    Cells that share nobody with another, by any way around, are solved apart.
    """
    members = _members(cells)
    if members is None:
        return
    count, part = sparse.csgraph.connected_components(
        sparse.csr_array(members @ members.T), directed=False
    )
    for number in np.flatnonzero(np.bincount(part, minlength=count) > 1):
        chosen = np.flatnonzero(part == number)
        within = members[chosen]
        yield from _solved_together(
            [cells[int(place)] for place in chosen], within[:, within.any(axis=0)], k_min
        )


def _solved_together(
    cells: Sequence[Cell], members: np.ndarray[Any, Any], k_min: int
) -> Iterator[tuple[str, str]]:
    inverse = np.linalg.pinv(members)
    fixed = np.flatnonzero(np.abs(np.diag(inverse @ members) - 1) < 1e-8)
    counts = np.array([cell.people for cell in cells])
    shares = members @ inverse  # of what is left over once every cell is told from the others
    freedom = 1 - np.diag(shares)
    apart = (counts - shares @ counts) / np.where(freedom > 1e-8, freedom, np.inf)
    for cell, difference in zip(cells, apart, strict=True):
        if cell.where and 0.5 < abs(difference) < k_min - _ROUNDING:
            yield cell.where, f"a change of fewer than {k_min} people follows from several cells"
    for group in fixed:
        size = float(inverse[group] @ counts)
        used = np.flatnonzero(np.abs(inverse[group]) > 1e-8)
        where = next((cells[int(place)].where for place in used if cells[int(place)].where), "")
        if where and len(used) > 1 and 0.5 < abs(size) < k_min - _ROUNDING:
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
    whole = np.ones((len(cells), 1), dtype=bool)
    for attribute, parts in pieces.items():
        wanted = [{value for name, value in c.conditions if name == attribute} for c in cells]
        within = np.array([[values <= part for part in parts] for values in wanted])
        whole = (whole[:, :, None] & within[:, None, :]).reshape(len(cells), -1)
    return np.unique(whole, axis=1).astype(np.float64)


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

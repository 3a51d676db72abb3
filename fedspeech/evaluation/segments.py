"""Cutting phones by segment (accent, device, ...), with a smallest size for a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

OTHER = "other"
"""What pooled cells are called."""

UNSTATED = "unstated"
"""Value of a phone of which the segment is not known."""


@dataclass(frozen=True)
class Cell:
    """The phones that share a value of one segment.

    Attributes:
      value: the value, or `OTHER` for values pooled because each was too small.
      num_phones: how many; shown even where the figures are withheld.
      members: positions of the phones; empty if withheld, so that nothing can be computed.
      merged: the values pooled here; empty for a value that stands alone.
      withheld: the cell is too small to show anything but its size.
    """

    value: str
    num_phones: int
    members: tuple[int, ...] = field(repr=False)
    merged: tuple[str, ...] = ()
    withheld: bool = False


def cut(values: Sequence[str | None], minimum_phones: int) -> tuple[Cell, ...]:
    """Groups phones by value, so that no figure stands on fewer than `minimum_phones` phones.

    Values with fewer phones are pooled as `OTHER`; if the pool is still too small it is withheld.
    Where an overall figure and all other cells are shown beside it, a withheld cell can be worked
    out by subtraction: the minimum protects against reading noise, not against disclosure.

    Returns:
      Cells by falling size, then by name; the pool last. Every phone is counted in one cell.
    """
    if minimum_phones < 1:
        raise ValueError(f"minimum_phones must be at least 1, got {minimum_phones}")
    stated = [UNSTATED if value is None else value for value in values]
    counts = Counter(stated)
    small = tuple(sorted(value for value in counts if counts[value] < minimum_phones))
    cells = [
        Cell(value, counts[value], _positions(stated, (value,)))
        for value in sorted(counts, key=lambda value: (-counts[value], value))
        if value not in small
    ]
    if small:
        members = _positions(stated, small)
        withheld = len(members) < minimum_phones
        cells.append(Cell(OTHER, len(members), () if withheld else members, small, withheld))
    return tuple(cells)


def _positions(values: Sequence[str], wanted: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of the phones with one of the wanted values."""
    return tuple(i for i, value in enumerate(values) if value in wanted)

"""Plain JSON to arrays: each field of an input is of one kind, and is refused by its name.

read_fields({"target": [1.0]}, {"target": NUMBERS})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require

MOST_VALUES = 20_000_000
"""Numbers of one field; more are refused before they are copied."""


def numbers(name: str, value: Any) -> Any:
    """A list of finite numbers, at least one."""
    _list(name, value, "numbers")
    for place, one in enumerate(value):
        require(_is_finite(one), f"{name} must hold finite numbers", place=place, value=_shown(one))
    return np.array(value, dtype=np.float64)


def matrix(name: str, value: Any) -> Any:
    """Rows of finite numbers, all as long."""
    _list(name, value, "rows of numbers")
    rows = [numbers(f"{name}[{place}]", row) for place, row in enumerate(value)]
    for place, row in enumerate(rows):
        require(len(row) == len(rows[0]), f"rows of {name} must be as long as the first",
                row=place, length=len(row), first=len(rows[0]))  # fmt: skip
    return np.stack(rows)


def series(name: str, value: Any) -> Any:
    """Lists of finite numbers, each of its own length."""
    _list(name, value, "lists of numbers")
    return [numbers(f"{name}[{place}]", row) for place, row in enumerate(value)]


def names(name: str, value: Any) -> list[Hashable]:
    """A list of strings or whole numbers."""
    _list(name, value, "names")
    for place, one in enumerate(value):
        _name(name, place, one)
    return list(value)


def pairs(name: str, value: Any) -> list[Hashable]:
    """A list of names, or of pairs of names where two speakers are behind an item."""
    _list(name, value, "names, or pairs of names")
    found: list[Hashable] = []
    for place, one in enumerate(value):
        both = one if isinstance(one, list) else [one]
        require(1 <= len(both) <= 2, f"{name} must hold names or pairs", place=place,
                length=len(both))  # fmt: skip
        for each in both:
            _name(name, place, each)
        found.append(tuple(both) if len(both) == 2 else both[0])
    return found


def texts(name: str, value: Any) -> list[str]:
    """A list of strings."""
    _list(name, value, "texts")
    for place, one in enumerate(value):
        require(isinstance(one, str), f"{name} must hold texts", place=place,
                type=type(one).__name__)  # fmt: skip
    return list(value)


def count(name: str, value: Any) -> int:
    """A whole number above 0."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
    require(fits, f"{name} must be a whole number above 0", value=_shown(value))
    return int(value)


Kind = Callable[[str, Any], Any]


def read_fields(
    given: Mapping[str, Any], fields: Mapping[str, Kind], optional: Mapping[str, Kind]
) -> dict[str, Any]:
    """Reads all fields; optional ones that are not there are None.

    Raises:
      ValueError: naming a field that is missing, unknown or wrong.
    """
    unknown = sorted(set(given) - {*fields, *optional})
    require(not unknown, f"expected the fields {', '.join([*fields, *optional])}", unknown=unknown)
    missing = [name for name in fields if name not in given]
    require(not missing, f"expected the fields {', '.join(fields)}", missing=missing)
    kinds = {**fields, **optional}
    return {name: kinds[name](name, given[name]) if name in given else None for name in kinds}


def same_length(**fields: Any) -> None:
    """Refuses lists of different lengths; None is no list.

    Raises:
      ValueError: naming all lengths.
    """
    lengths = {name: len(value) for name, value in fields.items() if value is not None}
    require(len(set(lengths.values())) <= 1, f"{' and '.join(lengths)} must be equally long",
            **lengths)  # fmt: skip


def codes(
    names_of: Sequence[Hashable], order: Sequence[Hashable] | None = None
) -> NDArray[np.int64]:
    """Names as numbers from 0, in the order of their first appearance or in a given one."""
    places = {name: place for place, name in enumerate(order or dict.fromkeys(names_of))}
    return np.array([places[name] for name in names_of], dtype=np.int64)


def _list(name: str, value: Any, of: str) -> None:
    fits = isinstance(value, list) and 0 < len(value) <= MOST_VALUES
    got = len(value) if isinstance(value, list) else type(value).__name__
    require(fits, f"{name} must be a list of {of} that is not empty", value=got)


def _is_finite(one: Any) -> bool:
    """Whether it is a number that a float holds; whole numbers of JSON have no largest one."""
    if isinstance(one, bool) or not isinstance(one, int | float):
        return False
    return math.isfinite(one) if isinstance(one, float) else abs(one) < 1e300


def _name(name: str, place: int, one: Any) -> None:
    fits = isinstance(one, str | int) and not isinstance(one, bool)
    require(fits, f"{name} must hold names or whole numbers", place=place, value=_shown(one))


def _shown(value: Any) -> Any:
    return value if isinstance(value, bool | float | None) else type(value).__name__

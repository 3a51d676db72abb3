"""Limits of a setting stand in the annotation of its field and are checked from there.

A scenario holds these dataclasses as they are, so one annotation limits a key of a file, an
argument of the library and the row of docs/scenario.md.

    @dataclass(frozen=True, kw_only=True)
    class Step:
        learning_rate: Positive = 0.1

        def __post_init__(self) -> None:
            check_limits(self)
"""

from __future__ import annotations

import dataclasses
import functools
import math
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Fraction = Annotated[float, Gt(0), Le(1)]
Share = Annotated[float, Ge(0), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Probability = Annotated[float, Gt(0), Lt(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
WholeNumber = Annotated[int, Ge(0)]


def check_limits(settings: DataclassInstance) -> None:
    """Checks every field against the choices or the bounds of its annotation; no bound is infinite.

    Raises:
      ValueError: naming field, rule and value.
    """
    for name, kinds in _kinds(type(settings)).items():
        value = getattr(settings, name)
        if value is None and type(None) in kinds:
            continue
        for kind in kinds:
            if not _allows(kind, value):
                rule = _rule(kind) + (" or None" if type(None) in kinds else "")
                raise ValueError(f"{name} must be {rule}, got {name}={value!r}")


@functools.cache
def _kinds(settings: type[DataclassInstance]) -> dict[str, tuple[Any, ...]]:
    """By field, what its annotation is a union of."""
    hints = get_type_hints(settings, include_extras=True)
    return {
        field.name: get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        for field in dataclasses.fields(settings)
        for hint in (hints[field.name],)
    }


def _allows(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    bounds = getattr(kind, "__metadata__", ())
    if not bounds:
        return True
    return value is not None and math.isfinite(value) and all(_holds(one, value) for one in bounds)


def _holds(bound: Gt | Ge | Lt | Le, value: Any) -> bool:
    match bound:
        case Gt(low):
            return bool(value > low)
        case Ge(low):
            return bool(value >= low)
        case Lt(high):
            return bool(value < high)
        case Le(high):
            return bool(value <= high)


def _rule(kind: Any) -> str:
    """Choices or bounds in words."""
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    number, *bounds = get_args(kind)
    match bounds:
        case [Gt(0)]:
            return "positive and finite"
        case [Ge(0)] if number is float:
            return "finite and not negative"
        case [Ge(low)]:
            return f"at least {low}"
        case [low, high]:
            left = f"({low.gt:g}" if isinstance(low, Gt) else f"[{low.ge:g}"
            return f"in {left}, " + (f"{high.lt:g})" if isinstance(high, Lt) else f"{high.le:g}]")
    raise TypeError(f"no words for the limits of {kind}")

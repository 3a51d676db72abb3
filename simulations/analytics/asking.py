"""The query of a plan file: names of columns and values become codes that phones count by."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fedspeech.device.telemetry import NONE, Schema
from fedspeech.errors import ScenarioError
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.axes import Axis, Condition
from fedspeech.queries.confusion import Confusion
from fedspeech.queries.heavy_hitters import HeavyHitters
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.named_metrics import NAMED
from fedspeech.queries.quantile import Quantiles
from fedspeech.queries.quantile_search import best
from fedspeech.queries.query import query_class
from fedspeech.queries.ratios import Mean, Ratio
from fedspeech.queries.sums import Sum, Weights
from fedspeech.queries.withholding import merged
from simulations.analytics.plan_file import PlanFile

QUERIES: Mapping[str, Any] = {
    "sum": Sum,
    "ratio": Ratio,
    "mean": Mean,
    "histogram": Histogram,
    "confusion": Confusion,
    "quantile": Quantiles,
    "heavy_hitters": HeavyHitters,
}
"""What a plan file calls the queries of this library."""

# What other parts of a plan file say.
_ELSEWHERE = ("first_day", "last_day", "where", "segments", "max_cells", "max_per_cell")


def query_of(plan: PlanFile, schema: Schema, population: int) -> Analytics:
    """The query that a plan file asks, over the schema of a population's telemetry.

    Args:
      plan: the plan file.
      schema: of the phones' events and attributes.
      population: phones, by which small segments are merged.

    Raises:
      ScenarioError: naming the key, the rule, the value and the nearest name.
    """
    try:
        return _made(plan, schema)(
            first_day=plan.window.first_day,
            last_day=plan.window.last_day,
            where=conditions(plan.where, schema, "where"),
            segments=segments_of(plan, schema, population),
            max_cells=plan.bound.max_cells,
        )
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{plan.name}: {error}") from error


def segments_of(plan: PlanFile, schema: Schema, population: int) -> tuple[Axis, ...]:
    """The attributes by which a plan file divides the phones, small values merged.

    Raises:
      ScenarioError: if phones have no such attribute or value, or one is named twice.
    """
    found = tuple(
        _axis("segments", one, schema, schema.attributes, "attribute") for one in plan.segments
    )
    names = [axis.name for axis in found]
    if len(set(names)) < len(names):
        raise ScenarioError(f"{plan.name}: segments must differ from one another, got {names}")
    for name, known in plan.shares.items():
        require_known("shares", name, names, "segment")
        for value in known:
            require_known(f"shares.{name}", value, found[names.index(name)].names, "value")
    if not plan.shares:
        return found
    try:
        return merged(found, plan.shares, population=population, least=2 * plan.k_min)
    except ValueError as error:
        raise ScenarioError(f"{plan.name}: shares: {error}") from error


def conditions(
    given: Mapping[str, Iterable[str]], schema: Schema, key: str
) -> tuple[Condition, ...]:
    """What an event must fulfil, from a table of columns.

    Raises:
      ScenarioError: if events have no such column or value.
    """
    found = []
    for name, values in given.items():
        require_known(key, name, schema.columns, "column")
        if isinstance(values, str) or not isinstance(values, list | tuple) or not values:
            raise ScenarioError(f"{key}.{name} must be a list of values, got {values!r:.60}")
        for value in values:
            require_known(f"{key}.{name}", value, schema.names(name), "value")
        found.append(Condition.of(schema, name, tuple(values)))
    return tuple(found)


def _made(plan: PlanFile, schema: Schema) -> Callable[..., Analytics]:
    """What makes a plan's query from window, conditions, segments and bound.

    Raises:
      ScenarioError: if there is no query of this name, or it counts nothing, or has no such
        setting.
    """
    if plan.query in NAMED:
        settings = _settings(plan, Quantiles if "quantiles" in plan.query else Ratio, schema, NAMED)
        settings["max_per_cell"] = plan.bound.max_per_cell
        return functools.partial(NAMED[plan.query], schema, **settings)
    if ":" not in plan.query:
        known = (*QUERIES, *NAMED)
        require_known("query", plan.query, known, "query", '; or "module:Class"')
        kind: type[Analytics] = QUERIES[plan.query]
    else:
        found = query_class(plan.query)
        if not issubclass(found, Analytics):
            raise ScenarioError(f"query must be a query of counts, got {plan.query!r:.80}")
        kind = found
    # A tree in one round or a search over several, whichever errs less at the same epsilon.
    made: Callable[..., Analytics] = best if kind is Quantiles else kind
    settings = _settings(plan, kind, schema) | {"max_per_cell": plan.bound.max_per_cell or 1}
    return functools.partial(made, **settings)


def _settings(
    plan: PlanFile, kind: type[Analytics], schema: Schema, filled: Container[str] = ()
) -> dict[str, Any]:
    """The fields of a query from the section `settings`; `filled`: queries that need none."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in _ELSEWHERE}
    if plan.query in filled:  # its own conditions, columns and weights are what its name says
        fields = {name: fields[name] for name in ("axes", "quantiles") if name in fields}
    for key in plan.settings:
        require_known("settings", key, fields, f"setting of {plan.query}")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and (
            field.default_factory is dataclasses.MISSING
        )
        if needed and name not in plan.settings:
            raise ScenarioError(f"settings.{name} is required by query = {plan.query!r}")
    return {
        key: _setting(f"settings.{key}", hints[key], value, schema)
        for key, value in plan.settings.items()
    }


def _setting(key: str, hint: Any, value: Any, schema: Schema) -> Any:
    """One field of a query from what a file says of it."""
    kinds = {hint, *get_args(hint)}
    if Axis in kinds:
        columns = [name for name in schema.columns if name != "day"]
        if hint is Axis:
            return _axis(key, value, schema, columns, "column")
        if not isinstance(value, list | tuple):
            raise ScenarioError(f"{key} must be a list of columns, got {value!r:.60}")
        return tuple(_axis(key, one, schema, columns, "column") for one in value)
    if Condition in kinds:
        if not isinstance(value, Mapping):
            raise ScenarioError(f"{key} must be a table of columns, got {value!r:.60}")
        return conditions(value, schema, key)
    if Weights in kinds:
        if not isinstance(value, Mapping) or len(value) != 1:
            raise ScenarioError(f"{key} must be a table of one column, got {value!r:.60}")
        ((name, worth),) = value.items()
        require_known(key, name, schema.columns, "column")
        return Weights.of(schema, name, worth)
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise ScenarioError(f"{key}: {error.errors()[0]['msg']}, got {value!r:.60}") from error


def _axis(key: str, given: Any, schema: Schema, known: Iterable[str], what: str) -> Axis:
    """One direction of a table: a column or an attribute, what is left out of it, and merged.

    Events to which a column does not apply are left out, unless the file says what is.
    """
    table: Mapping[str, Any] = {"name": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or "name" not in table:
        raise ScenarioError(
            f"{key} must be a list of {what}s, each a text or a table with a name, "
            f"got {given!r:.60}"
        )
    for part in table:
        require_known(key, part, ("name", "leave_out", "merged"), "key")
    name = table["name"]
    require_known(key, name, known, what)
    values = schema.names(name)
    left_out = table.get("leave_out", [NONE] if NONE in values else [])
    merged: Mapping[str, Any] = table.get("merged", {})
    if not isinstance(left_out, list) or not isinstance(merged, Mapping):
        raise ScenarioError(
            f"{key}.{name}: leave_out must be a list and merged a table, got {given!r:.80}"
        )
    for value in (*left_out, *(member for members in merged.values() for member in members)):
        require_known(f"{key}.{name}", value, values, "value")
    return Axis.of(schema, name, leave_out=left_out, merged=merged)


def require_known(key: str, name: Any, known: Iterable[str], what: str, or_else: str = "") -> None:
    """Refuses a name that is not there, with the nearest that is."""
    known = tuple(known)
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ScenarioError(
        f"{key}: there is no {what} {name!r:.60}{hint} ({', '.join(known)}{or_else})"
    )

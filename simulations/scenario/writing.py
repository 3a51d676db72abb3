"""Writes a scenario with every key, its meaning and its default, and the page of all keys.

python -m simulations.scenario.writing > docs/scenario.md
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic.fields import FieldInfo

from simulations.scenario.reading import read_scenario, scenario_names
from simulations.scenario.schema import Scenario
from simulations.scenario.sections import about, is_section, keys_of, meaning, sections_in

_BOUNDS = {"gt": "> {:g}", "ge": ">= {:g}", "lt": "< {:g}", "le": "<= {:g}"}
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def to_toml(scenario: Scenario) -> str:
    """The whole scenario as it would be read back, each key below its meaning and its default."""
    return "".join(_lines(scenario, "")).lstrip("\n")


def _lines(section: Any, name: str) -> Iterator[str]:
    """Yields the lines of a section, then those of the tables in it."""
    tables: list[tuple[str, FieldInfo, Any]] = []
    for key, field in keys_of(type(section)).items():
        value, shown = getattr(section, key), field.alias or key
        if isinstance(value, Mapping) or is_section(type(value)):
            tables.append((f"{name}{shown}", field, value))
            continue
        yield f"\n# {field.description}{_default_words(field)}\n"
        if value is None:
            yield f"# {shown} is not set\n"
        else:
            yield f"{shown} = {_literal(value)}\n"
    for path, field, table in tables:
        kind = type(table)
        said = about(kind).partition("\n")[0] if is_section(kind) else meaning(field)
        yield f"\n# {said}\n[{path}]\n"
        yield from _lines(table, f"{path}.") if is_section(kind) else [tomli_w.dumps(table)]


def _default_words(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    if field.default is None:
        return " Not set by default."
    return f" Default: {_literal(field.default)}."


def _literal(value: Any) -> str:
    """A value as a scenario file has it, on one line."""
    if value is None:
        return "not set"
    if value == {}:
        return "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


_INTRODUCTION = """\
# Scenario files

One TOML file describes one simulation. Every key has a default unless it is *required*. An unknown
key is refused with the nearest one, a key of an earlier version with the one that replaced it.
`fedspeech scenarios show NAME` prints a file with every key to start from,
`--set section.key=value` changes one key, and `fedspeech budget --scenario FILE` prices the plan.
This page is written by `python -m simulations.scenario.writing`.
"""


def reference() -> str:
    """The page of all keys: meaning, values, default, and the scenarios that ship with another."""
    shipped = {name: read_scenario(name, extras=False) for name in scenario_names()}
    return _INTRODUCTION + "".join(f"{line}\n" for line in _tables("", Scenario, shipped))


def _tables(path: str, section: type[Any], at: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of a section's table, then those of the sections in it.

    Args:
      path: dotted name of the section; empty for the top of the file.
      section: whose keys are listed.
      at: by scenario that ships, its section of this kind.
    """
    kind = keys_of(section).get("kind")
    heading = f"`[{path}]`" if path else "Top of the file"
    yield from ("", f"## {heading}" + (f' with `kind = "{kind.default}"`' if kind else ""), "")
    yield from (" ".join(about(section).split()), "")
    yield from ("| key | values | default | meaning |", "|---|---|---|---|")
    for key, field in keys_of(section).items():
        said = meaning(field).replace("|", "\\|")
        default = _default_column(key, field, at)
        yield f"| `{field.alias or key}` | {_values(field)} | {default} | {said} |"
    for key, field in keys_of(section).items():
        held = {name: getattr(one, key) for name, one in at.items()}
        for below in sections_in(field):
            of_kind = {name: one for name, one in held.items() if isinstance(one, below)}
            yield from _tables(f"{path}.{key}" if path else key, below, of_kind)


def _default_column(key: str, field: FieldInfo, at: Mapping[str, Any]) -> str:
    """The default of a key, and the shipped scenarios that have another value."""
    if field.is_required():
        return "*required*"
    if any(sections_in(field)):
        return "not set" if field.default is None else "its defaults"
    default = field.default
    parts = ["not set" if default is None else f"`{_literal(default)}`"]
    own: dict[str, list[str]] = {}
    for name, section in at.items() if key != "description" else ():
        value = getattr(section, key)
        if value != field.default:
            own.setdefault(_literal(value), []).append(name)
    return "; ".join(parts + [f"`{value}` in {', '.join(names)}" for value, names in own.items()])


def _values(field: FieldInfo) -> str:
    """The values that a key may have, in words."""
    if any(sections_in(field)):
        return "a section"
    return _of_type(field.annotation, field.metadata)


def _of_type(kind: Any, limits: Any = ()) -> str:
    """A type in words, with its limits."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{_literal(choice)}`" for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        return " or ".join(_of_type(part, limits) for part in parts)
    if get_origin(kind) is tuple:
        return f"list of {_of_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "table of texts" if get_args(kind)[1] is str else "table"
    if hasattr(kind, "__metadata__"):  # Annotated
        inner, *more = get_args(kind)
        return _of_type(inner, [*limits, *more])
    bounds = [
        form.format(bound)
        for limit in limits
        for one in (getattr(limit, "metadata", None) or [limit])
        for name, form in _BOUNDS.items()
        if (bound := getattr(one, name, None)) is not None
    ]
    return f"{_TYPES[kind]} {', '.join(bounds)}".rstrip()


if __name__ == "__main__":
    sys.stdout.write(reference())

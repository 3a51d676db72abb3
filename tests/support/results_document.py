"""docs/results.md from the types of results: `python tests/support/results_document.py` writes it.

Every table is a type: names and types of its fields, and the meanings that its docstring gives.
What stands before the first table is written by hand and kept.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedspeech.evaluation import metric
from fedspeech.privacy.examples import ExampleGuarantee
from fedspeech.privacy.guarantee import Guarantee
from simulations.results.account import Account
from simulations.results.environment import Environment
from simulations.results.exported import ExportedFile, FamilyFile, Listening
from simulations.results.record import SCHEMA_VERSION, Record
from simulations.results.rows import RoundRow, RoundTime, ServerRound, SimulationRound
from simulations.results.summary import VISIBILITY, PhonesAtHour, RunTime, Summary, Utility

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"
SCRIPT = "tests/support/results_document.py"
TYPES: tuple[type, ...] = (
    RoundRow, ServerRound, SimulationRound, RoundTime,
    Summary, metric.Section, metric.Metric, metric.Segment, metric.Interval, metric.Chart,
    metric.Axis, metric.Curve, metric.Matrix, metric.Texts, Utility, RunTime, PhonesAtHour,
    Account, Guarantee, ExampleGuarantee, ExportedFile, FamilyFile, Listening, Environment,
)  # fmt: skip


def document() -> str:
    """The page: what stands before its first table is written by hand."""
    prose = DOCUMENT.read_text(encoding="utf-8").split("\n## `")[0]
    assert f"schema version {SCHEMA_VERSION};" in prose
    return "\n".join([prose, *(_section(kind) for kind in TYPES)])


def _section(kind: type) -> str:
    """Title, meaning and table of a type."""
    doc = inspect.getdoc(kind) or ""
    lead = re.split(r"^(?:Attributes|Raises):", doc, flags=re.MULTILINE)[0]
    paragraphs = [
        " ".join(part.split()).replace("None", "null") for part in lead.strip().split("\n\n")
    ]
    lines = [f"## `{kind.__name__}`", "", *(line for part in paragraphs for line in (part, ""))]
    base = kind.__mro__[1]
    own = typing.get_type_hints(kind)
    if issubclass(base, Record) and base is not Record:
        lines += [f"It also holds every field of `{base.__name__}`.", ""]
        own = {name: of for name, of in own.items() if name in kind.__annotations__}
    lines += ["| field | type | meaning |", "|---|---|---|"]
    meanings = dict(_meanings(doc))
    for name, of in own.items():
        if name != "model_config" and not name.startswith("_"):
            lines.append(f"| `{name}` | {_type(name, of)} | {meanings[name]}{_seen(kind, name)} |")
    return "\n".join(lines) + "\n"


def _meanings(doc: str) -> Iterator[tuple[str, str]]:
    """Fields and what a docstring says of them, as sentences."""
    listed = re.search(r"^Attributes:\n(.*?)(?=^\S|\Z)", doc, flags=re.MULTILINE | re.DOTALL)
    for name, said in re.findall(
        r"^  (\w+): (.*?)(?=^  \w|\Z)", listed.group(1) if listed else "", re.MULTILINE | re.DOTALL
    ):
        words = " ".join(said.split()).replace("None", "null")
        yield name, words[:1].upper() + words[1:]


def _seen(kind: type, name: str) -> str:
    """Who could see a field of the summary."""
    if kind is not Summary or name not in VISIBILITY:
        return ""
    return f" Visibility: {VISIBILITY[name]}."


def _type(name: str, of: Any) -> str:
    """A type in words of JSON; an epsilon may be infinite."""
    return _name(of) + (' or "Infinity"' if name in ("epsilon_release", "epsilon_server") else "")


def _name(of: Any) -> str:
    """A type in words of JSON."""
    origin, inner = typing.get_origin(of), typing.get_args(of)
    if origin is typing.Annotated:
        return _name(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(one) for one in inner)
    if origin is typing.Literal:
        return ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in inner)
    if origin is tuple:
        return f"list of {_name(inner[0])}"
    if origin in (dict, Mapping):
        return f"object of {_name(inner[1])}"
    if dataclasses.is_dataclass(of) or issubclass(of, Record):
        return f"[{of.__name__}](#{of.__name__.lower()})"
    words = {int: "count", float: "number", str: "text", bool: "true or false"}
    return words.get(of, "null")


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")

"""What a section of a scenario is: frozen, closed, and described key by key.

A section is a `Section`, or the dataclass of the library that it becomes: pydantic reads both, and
both are closed to keys that they do not have.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class Section(BaseModel):
    """Frozen, and closed to keys it does not know; so are the dataclasses in it.

    The description of a field is its meaning and unit: `fedspeech scenarios show` and
    docs/scenario.md print it, so it is written nowhere else.
    """

    # Unknown keys are errors: a misspelled one of the privacy plan, if it were ignored, would leave
    # the default in force without a word. Infinity would pass any limit that is open above.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


def is_section(kind: Any) -> bool:
    """Whether a key of this type is a section."""
    return isinstance(kind, type) and (issubclass(kind, Section) or dataclasses.is_dataclass(kind))


def sections_in(field: FieldInfo) -> Iterator[type[Any]]:
    """Yields the kinds of section that a key may hold."""
    yield from filter(is_section, get_args(field.annotation) or (field.annotation,))


def keys_of(section: type[Any]) -> Mapping[str, FieldInfo]:
    """The keys of a section: type, limits, default and meaning.

    The meanings of a dataclass stand under `Attributes:` of its docstring.
    """
    if issubclass(section, Section):
        return section.model_fields
    hints = get_type_hints(section, include_extras=True)
    meanings = {
        name: meaning
        for kind in reversed(section.__mro__)
        for name, meaning in _meanings(inspect.getdoc(kind) or "")
    }
    keys = {}
    for field in dataclasses.fields(section):
        required = field.default is dataclasses.MISSING
        default = PydanticUndefined if required else field.default
        keys[field.name] = FieldInfo.from_annotated_attribute(hints[field.name], default)
        keys[field.name].description = meanings[field.name]
    return keys


def meaning(field: FieldInfo) -> str:
    """What a key means; of a section without a word of its own, what the section is."""
    return field.description or about(next(sections_in(field))).partition("\n")[0]


def about(section: type[Any]) -> str:
    """What a section is, in paragraphs."""
    return re.split(r"\n\n(?:Attributes|Raises):\n", inspect.getdoc(section) or "")[0]


def _meanings(docstring: str) -> Iterator[tuple[str, str]]:
    """Yields name and meaning of each entry under `Attributes:`, as a sentence."""
    _, _, entries = docstring.partition("\nAttributes:\n")
    entries = entries.partition("\n\n")[0]
    for name, words in re.findall(r"^  (\w+): (.*(?:\n {4}.*)*)", entries, re.MULTILINE):
        meaning = " ".join(words.split())
        yield name, meaning[0].upper() + meaning[1:]

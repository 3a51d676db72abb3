"""JSON objects with exactly the fields that are expected, each of its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def read_fields(content: bytes, fields: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Reads an object; True and False are no integers.

    Args:
      content: UTF-8 text.
      fields: name to the types that its value may have.

    Raises:
      ValueError: if it is no such object, a field is missing, unknown or of another type.
    """
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if not isinstance(found, dict) or set(found) != set(fields):
        given = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"expected the fields {sorted(fields)}, got {given}")
    for name, types in fields.items():
        if type(found[name]) not in types:
            raise ValueError(
                f"{name} must be {' or '.join(kind.__name__ for kind in types)}, "
                f"got {found[name]!r}"
            )
    return found


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The one form in which an object is signed: sorted, without spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

"""Names in artifacts: which an object may have, and which of them count people.

The lists stand in `names.json`. A policy may add names of its own (`keys`); whoever adds one has
read what stands under it.
"""

from __future__ import annotations

import json
from importlib import resources

from fedspeech.sharing.manifest import Kind

_NAMES = {
    what: frozenset(names)
    for what, names in json.loads(
        (resources.files("fedspeech.sharing") / "names.json").read_text("utf-8")
    ).items()
}

PEOPLE = _NAMES["people"]
"""Keys whose value is a number of people."""

OBSERVED = PEOPLE | _NAMES["observations"]
"""Keys that say how much stands behind a rate."""

TOTALS = _NAMES["totals"]
"""Values of a column under which a row is of everybody."""

DESCRIPTIONS = _NAMES["descriptions"]
"""Keys whose words describe a figure and not the people that it is of."""

ONE_PERSON = _NAMES["one_person"]
"""Columns whose rows are single people."""

_PARTS: dict[Kind, tuple[str, ...]] = {
    "summary": ("figures", "privacy", "plan"),
    "table": ("figures", "privacy"),
    "report": ("figures", "privacy", "plan", "plots"),
    "adapter": ("figures", "privacy", "plan", "card"),
    "model": ("figures", "privacy", "plan", "card"),
    "card": ("figures", "privacy", "plan", "card"),
    "log": ("log",),
    "text": (),
}


def keys_of(kind: Kind) -> frozenset[str]:
    """Names that objects of a kind may have."""
    return frozenset().union(*(_NAMES[part] for part in _PARTS[kind]))

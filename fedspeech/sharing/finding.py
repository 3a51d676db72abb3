"""What rules are given, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedspeech.sharing.artifact import Artifact
from fedspeech.sharing.manifest import Manifest
from fedspeech.sharing.policy import Policy


@dataclass(frozen=True, eq=False)
class Candidate:
    """An artifact before it leaves.

    Attributes:
      artifact: what was read of the file.
      manifest: what it says of itself; None: there is none that can be read.
      policy: of the audience.
    """

    artifact: Artifact
    manifest: Manifest | None
    policy: Policy


@dataclass(frozen=True)
class Finding:
    """A rule that an artifact breaks.

    It never repeats what it found: findings are printed, and stand in logs.

    Attributes:
      rule: id of the rule.
      where: the place in the artifact.
      why: the rule and, where it is no secret, the value.
    """

    rule: str
    where: str
    why: str


Found = Iterator[tuple[str, str]]
Rule = Callable[[Candidate], Found]
"""Yields place and reason of everything that breaks it; its id is its name with hyphens."""


def rule_id(rule: Rule) -> str:
    """The id under which findings of a rule are reported."""
    return rule.__name__.replace("_", "-")

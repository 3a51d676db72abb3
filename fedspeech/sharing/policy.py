"""What an audience may be given: a TOML file that the owner of the data writes.

    tier = "public"
    k_min = 20
    epsilon = 8.0
    revocation_epoch = 2
    signers = ["9f3c..."]
    identities = "people.txt"

Files that it names lie beside it and never leave: who is in the data, and what was said.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from fedspeech.errors import ScenarioError
from fedspeech.hash_chain import Head
from fedspeech.limits import Count, Positive, Probability, WholeNumber, check_limits
from fedspeech.sharing.access_log import AccessLog
from fedspeech.sharing.cells import Release
from fedspeech.sharing.manifest import Tier

LOG = "access.jsonl"
"""The log beside a policy that names no other."""

KINDS = {
    "public": ("json", "csv", "toml", "text", "html", "png"),
    "partner": ("json", "jsonl", "csv", "toml", "text", "html", "png", "safetensors", "tflite"),
    "internal": ("json", "jsonl", "csv", "toml", "text", "html", "png", "safetensors", "tflite"),
}
"""Types of files that an audience is given."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the gate holds an artifact against.

    Attributes:
      tier: the audience.
      k_min: fewest people that a published figure may be of.
      most_numbers: longest list of numbers.
      epsilon: most that may have been spent on the people behind an artifact.
      delta: most of it.
      revocation_epoch: of the last revocation of consent.
      signers: public keys, hex, of those who may make artifacts.
      keys: names that an artifact's objects may have besides those of its kind.
      regions: countries whose telephone numbers and addresses are looked for.
      identities: who is in the data: names and ids, as they are written anywhere.
      transcripts: what was said, a sentence each.
      heads: of logs, by file name, kept where the log is not.
      log: of who read what and what was given away.
      released: SHA-256 of what was given away, and the numbers of people in it.
      scripts: SHA-256 of code that a page may carry.
      today: the day of the check.
    """

    tier: Tier
    k_min: Annotated[int, Ge(2)] = 20
    most_numbers: Count = 64
    epsilon: Positive = 10.0
    delta: Probability = 1e-3
    revocation_epoch: WholeNumber = 0
    signers: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    regions: tuple[str, ...] = ("US", "GB")
    identities: tuple[str, ...] = ()
    transcripts: tuple[str, ...] = ()
    heads: Mapping[str, Head] = field(default_factory=dict)
    log: Path | None = None
    released: tuple[tuple[str, Release], ...] = ()
    scripts: frozenset[str] = frozenset()
    today: datetime.date = field(default_factory=datetime.date.today)

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Types of files that the audience is given."""
        return KINDS[self.tier]

    @classmethod
    def load(cls, file: Path) -> Policy:
        """Reads a policy and the lists beside it.

        Raises:
          ScenarioError: naming file, key, rule and value.
          ChainDamaged: if rows of the log were edited or cut off.
        """
        try:
            table = tomllib.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ScenarioError(f"{file} is no policy: {error}") from error
        if unknown := sorted(set(table) - _WRITTEN):
            raise ScenarioError(
                f"{file} has the unknown key {unknown[0]}; known: {sorted(_WRITTEN)}"
            )
        try:
            log = file.parent / table.pop("log", LOG)
            values = {key: _value(key, value, file.parent) for key, value in table.items()}
            return cls(**values, log=log, released=AccessLog.released_before(log))
        except (ValueError, TypeError, OSError) as error:
            raise ScenarioError(f"{file}: {error}") from error


_WRITTEN = {
    "tier", "k_min", "most_numbers", "epsilon", "delta", "revocation_epoch", "signers", "keys",
    "regions", "identities", "transcripts", "heads", "log",
}  # fmt: skip


def _value(key: str, value: Any, folder: Path) -> Any:
    if key in {"identities", "transcripts"}:
        lines = (folder / value).read_text("utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    if key == "heads":
        return {name: Head.parse(head) for name, head in value.items()}
    if key in {"signers", "keys", "regions"}:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"{key} must be a list of texts, got {value!r}")
        return tuple(value)
    if key in {"k_min", "most_numbers", "revocation_epoch"} and type(value) is not int:
        raise ValueError(f"{key} must be a whole number, got {value!r}")
    return value

"""Who read what, and what was given away: rows that name one another, with the head kept outside.

    log = AccessLog(Path("access.jsonl"))
    with log.opened():
        log.read(Visitor("ann", "analyst", "why accents differ", day), artifact, sha256, "internal")

| kind | meaning |
|---|---|
| `read` | somebody of a role read an artifact, for a purpose |
| `refused` | they may not, or the gate kept what they wanted to give away |
| `released` | an artifact went to an audience: its hash, and the numbers of people in it |
| `destroyed` | the key of a release's placeholders is gone |
| `recovered` | a line torn by a kill was found; it gave nothing away |

A row stands on disk before anything is read or given away.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from fedspeech.errors import AccessRefused, ChainDamaged
from fedspeech.hash_chain import Head, KeptChain, Row, kept_head
from fedspeech.sharing.cells import Cell, Release
from fedspeech.sharing.manifest import Tier

Role = Literal["owner", "analyst", "auditor", "partner"]
Act = Literal["public", "partner", "internal", "log", "release"]
"""Reading artifacts of a tier or the log itself, and giving away."""

MAY: dict[Role, tuple[Act, ...]] = {
    "owner": ("public", "partner", "internal", "log", "release"),
    "analyst": ("public", "partner", "internal"),
    "auditor": ("public", "partner", "internal", "log"),
    "partner": ("public", "partner"),
}
"""What each role may do. An auditor sees everything and gives nothing away."""


@dataclass(frozen=True)
class Visitor:
    """Somebody who wants to read or to give away.

    Attributes:
      actor: a name that the owner can trace; no name of a person in the data.
      role: what they may do.
      purpose: why, in words.
      day: of the visit.
    """

    actor: str
    role: Role
    purpose: str
    day: datetime.date

    def __post_init__(self) -> None:
        """Refuses a visit that nobody could account for."""
        if self.role not in get_args(Role):
            raise AccessRefused(f"role must be one of {get_args(Role)}, got {self.role!r}")
        for name, value in (("actor", self.actor), ("purpose", self.purpose)):
            if not value.strip():
                raise AccessRefused(f"{name} must be words, got {value!r}")

    def row(self, kind: str) -> Row:
        """The start of a row."""
        return {
            "kind": kind, "actor": self.actor, "role": self.role, "purpose": self.purpose,
            "day": self.day.isoformat(),
        }  # fmt: skip


class AccessLog:
    """The log of one body of data. Every method but `released_before` needs `opened`.

    Attributes:
      rows: in order.
    """

    def __init__(self, path: Path) -> None:
        """Prepares a log and reads nothing."""
        self.path = path
        self.rows: list[Row] = []
        self._chain = KeptChain(
            path, self.rows.append, ChainDamaged, "nothing is given away until somebody has looked"
        )
        self._file: Any = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[AccessLog]:
        """Reads what is new, and keeps other processes out.

        Raises:
          ChainDamaged: if rows were edited, reordered or cut off.
        """
        with self._chain.opened() as file:
            self._file = file
            try:
                yield self
            finally:
                self._file = None

    @classmethod
    def released_before(cls, path: Path) -> tuple[tuple[str, Release], ...]:
        """What was given away: hash and cells of every release; () where no log was begun.

        Raises:
          ChainDamaged: if rows were edited, reordered or cut off, or the log is gone.
        """
        return tuple(
            (row["artifact_sha256"], tuple(_cells(row["cells"])))
            for row in cls.rows_of(path)
            if row["kind"] == "released"
        )

    @classmethod
    def rows_of(cls, path: Path) -> tuple[Row, ...]:
        """Every row; () where no log was begun. Reading it for somebody is a row: `read`.

        Raises:
          ChainDamaged: if rows were edited, reordered or cut off, or the log is gone.
        """
        if not path.exists() and kept_head(path) is None:
            return ()
        if not path.exists():
            raise ChainDamaged(f"{path.name} is gone, and rows of it are known")
        log = cls(path)
        with log.opened():
            return tuple(log.rows)

    @property
    def head(self) -> Head | None:
        """The last row; None: there is none."""
        return self._chain.head

    def read(
        self, visitor: Visitor, artifact: str, sha256: str, tier: Tier | Literal["log"]
    ) -> None:
        """Writes that an artifact is read, before it is.

        Raises:
          AccessRefused: if the role may not; the row then says so.
        """
        self.require(visitor, tier, artifact, sha256)
        self._add(visitor.row("read") | _of(artifact, sha256, tier))

    def release(
        self, visitor: Visitor, artifact: str, sha256: str, tier: Tier, cells: Sequence[Release]
    ) -> None:
        """Writes that an artifact is given away, before it is.

        Raises:
          AccessRefused: if the role may not; the row then says so.
        """
        self.require(visitor, "release", artifact, sha256)
        plain = [
            {"segment": sorted(map(list, cell.conditions)), "people": cell.people}
            for source in cells
            for cell in source
        ]
        self._add(visitor.row("released") | _of(artifact, sha256, tier) | {"cells": plain})

    def refuse(self, visitor: Visitor, artifact: str, sha256: str, reason: str) -> None:
        """Writes that something was wanted and not given."""
        self._add(visitor.row("refused") | _of(artifact, sha256, "") | {"reason": reason})

    def destroyed(self, visitor: Visitor, key_id: str) -> None:
        """Writes that the key of placeholders is gone."""
        self.require(visitor, "release", key_id, "")
        self._add(visitor.row("destroyed") | _of(key_id, "", ""))

    def require(self, visitor: Visitor, act: Act, artifact: str, sha256: str) -> None:
        """Refuses what the role may not do, in a row and by an error.

        Raises:
          AccessRefused: naming role and act.
        """
        if act in MAY[visitor.role]:
            return
        what = {"log": "read the log", "release": "give anything away"}.get(
            act, f"read {act} artifacts"
        )
        self.refuse(visitor, artifact, sha256, f"the role may not {what}")
        raise AccessRefused(f"the role {visitor.role} may not {what}: {artifact}")

    def _add(self, row: Row) -> None:
        self._chain.add(self._file, row)


def _of(artifact: str, sha256: str, tier: str) -> Row:
    return {"artifact": artifact, "artifact_sha256": sha256, "tier": tier}


def _cells(rows: Sequence[dict[str, Any]]) -> Iterator[Cell]:
    for row in rows:
        yield Cell(frozenset((name, value) for name, value in row["segment"]), row["people"])

"""The access log as functions: reads through the door, and who read what."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import FedspeechError
from fedspeech.files import read_at_most, write_whole
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.sharing.access_log import AccessLog, Visitor
    from fedspeech.sharing.policy import Policy

MOST_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class ShareRead(Printed):
    """A copy of an artifact that somebody read through the door.

    Attributes:
      copy: where it lies.
      role: whose row stands in the log.
    """

    copy: Path
    role: str

    def record(self) -> dict[str, Any]:
        """Copy and role as plain data."""
        return {"copy": str(self.copy), "role": self.role}

    def print(self, console: Console) -> None:
        """Prints where the copy lies."""
        console.print(f"{self.copy}: read as {self.role}; the access log says so", soft_wrap=True)

    def __repr__(self) -> str:
        """Where the copy lies."""
        return f"ShareRead({str(self.copy)!r}, {self.role!r})"


@dataclass(frozen=True, eq=False)
class ShareLog(Printed):
    """An access log, whole up to its head.

    Attributes:
      rows: in order, without checksums.
      head: NUMBER:SHA256 of the last row, to be kept elsewhere.
    """

    rows: tuple[Mapping[str, Any], ...]
    head: str

    def record(self) -> dict[str, Any]:
        """Rows and head as plain data."""
        return {"rows": [dict(row) for row in self.rows], "head": self.head}

    def print(self, console: Console) -> None:
        """Prints a line for each row."""
        names = ("day", "kind", "actor", "role", "artifact", "tier", "purpose")
        cells = [tuple(str(row.get(name, "")) for name in names) for row in self.rows]
        console.print(table(names, cells), soft_wrap=True)
        console.print(f"\nkeep this head where the log is not: {self.head}", soft_wrap=True)

    def __repr__(self) -> str:
        """How many rows of each kind."""
        kinds = Counter(row["kind"] for row in self.rows)
        return "ShareLog(" + ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds)) + ")"


def share_read(
    file: str | Path,
    *,
    policy: str | Path,
    out: str | Path,
    purpose: str,
    actor: str,
    role: str,
) -> ShareRead:
    """Copies an artifact for somebody whose role may read it, and says so in the access log first.

        >>> import fedspeech as fs
        >>> fs.share_read("runs/quick/summary.json", policy="internal.toml", out="summary.json",
        ...               purpose="accents", actor="ann", role="analyst")    # doctest: +SKIP
        ShareRead('summary.json', 'analyst')

    What has no manifest beside it is of the inner circle: tier "internal".

    Args:
      file: an artifact, or a file of a run.
      policy: whose log it is, a TOML file.
      out: where the copy goes; nothing is replaced.
      purpose: why it is read, in words.
      actor: who reads, as the log names them.
      role: theirs: "owner", "analyst", "auditor" or "partner".

    Raises:
      AccessRefused: if the role may not read it; the log then says so.
      ChainDamaged: if rows of the log were edited or cut off.
      FedspeechError: if the file cannot be read, or something lies where the copy goes.
    """
    source, target = Path(file), Path(out)
    held, log, visitor = _door(policy, purpose, actor, role)
    try:
        content = read_at_most(source, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise FedspeechError(f"{source} cannot be read: {error}") from error
    if target.exists():
        raise FedspeechError(f"{target} is there already; nothing is replaced")
    sha256 = hashlib.sha256(content).hexdigest()
    with log.opened():
        log.read(visitor, source.name, sha256, _tier_of(source, content, held.signers))
    write_whole(target, content)
    return ShareRead(target, role)


def share_log(
    policy: str | Path, *, purpose: str, actor: str = "owner", role: str = "owner"
) -> ShareLog:
    """Reads the access log of a policy, which is a row itself.

        >>> import fedspeech as fs
        >>> fs.share_log("public.toml", purpose="yearly audit", role="auditor")  # doctest: +SKIP
        ShareLog(4 read, 2 released)

    Args:
      policy: whose log it is, a TOML file.
      purpose: why it is read, in words.
      actor: who reads.
      role: theirs; owners and auditors may.

    Raises:
      AccessRefused: if the role may not read the log; the log then says so.
      ChainDamaged: if rows of the log were edited or cut off.
    """
    _, log, visitor = _door(policy, purpose, actor, role)
    with log.opened():
        log.read(visitor, log.path.name, "", "log")
        rows = [
            {name: value for name, value in row.items() if name not in {"previous", "sha256"}}
            for row in log.rows
        ]
        return ShareLog(tuple(rows), str(log.head))


def share_pseudonymize(
    file: str | Path, *, policy: str | Path, key: str | Path, out: str | Path
) -> Path:
    """Copies a text, table or document with a placeholder for everybody of the policy's registry.

        >>> import fedspeech as fs
        >>> fs.share_pseudonymize("notes.md", policy="internal.toml", key="release-3.key",
        ...                       out="notes-shared.md")                        # doctest: +SKIP
        PosixPath('notes-shared.md')

    The same person has the same placeholder under one key. The copy is no anonymous data.

    Args:
      file: UTF-8 text of any kind.
      policy: whose `identities` are replaced.
      key: of the release; made if nothing lies there.
      out: where the copy goes; nothing is replaced.

    Raises:
      FedspeechError: if the file is no text, the registry is empty, or something lies at `out`.
    """
    from fedspeech.sharing.placeholders import ReleaseKey
    from fedspeech.sharing.policy import Policy

    held, place, target = Policy.load(Path(policy)), Path(key), Path(out)
    if not held.identities:
        raise FedspeechError(f"{policy} names no `identities`, so there is nobody to replace")
    if target.exists():
        raise FedspeechError(f"{target} is there already; nothing is replaced")
    try:
        text = read_at_most(Path(file), MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise FedspeechError(f"{file} cannot be read as text: {error}") from error
    release = ReleaseKey.load(place) if place.exists() else ReleaseKey.create(place)
    write_whole(target, release.replaced(text, held.identities).encode())
    return target


def share_destroy(
    key: str | Path, *, policy: str | Path, purpose: str, actor: str = "owner", role: str = "owner"
) -> str:
    """Destroys the key of a release, so that nobody links its placeholders to people any more.

        >>> import fedspeech as fs
        >>> fs.share_destroy("release-3.key", policy="internal.toml",
        ...                  purpose="asked for by a user")                     # doctest: +SKIP
        '3f9a1c77b2d04e51'

    Args:
      key: of `share_pseudonymize`.
      policy: whose access log says so.
      purpose: why, in words.
      actor: who destroys it.
      role: theirs; owners alone may.

    Returns:
      The name of the key, as the log has it.

    Raises:
      AccessRefused: if the role may not; the log then says so.
      FedspeechError: if there is no key.
    """
    from fedspeech.sharing.placeholders import ReleaseKey

    release = ReleaseKey.load(Path(key))
    _, log, visitor = _door(policy, purpose, actor, role)
    name = release.name
    with log.opened():
        log.require(visitor, "release", name, "")
        release.destroy()  # before the row: a row must not say what a kill prevented
        log.destroyed(visitor, name)
    return name


def _door(
    policy: str | Path, purpose: str, actor: str, role: str
) -> tuple[Policy, AccessLog, Visitor]:
    from fedspeech.sharing.access_log import AccessLog, Visitor
    from fedspeech.sharing.policy import Policy

    held = Policy.load(Path(policy))
    assert held.log is not None
    visitor = Visitor(actor, role, purpose, datetime.date.today())  # type: ignore[arg-type]
    return held, AccessLog(held.log), visitor


def _tier_of(source: Path, content: bytes, signers: Sequence[str]) -> Any:
    """The audience that its signed manifest names; without one of these bytes it is internal."""
    from fedspeech.sharing.manifest import BadManifest, Manifest

    try:
        said = Manifest.read(source.with_name(source.name + ".manifest.json").read_bytes())
    except (OSError, BadManifest):
        return "internal"
    return said.tier if said.of(content) and said.signed_by(signers) else "internal"

"""An append-only file of JSON rows that name one another; knows nothing of what they mean.

Each line carries its own SHA-256 and that of the line before. A kill can tear only the last line,
which then lacks its newline: the next row must be one of kind `recovered` that names the fragment's
hash. A complete line that does not check was edited.

Checksums that name one another show every edit between two rows. They cannot show that the last
rows were cut off, or that the whole file was written anew: what is left is a chain as well, for no
key is in the checksums. So whoever appends a row keeps its number and checksum, the head, in a file
of their own, one per chain, named after the chain's resolved path. Every reading compares.

A head shows that rows were cut off the end, or that the file was removed, put back from an older
copy or written anew. It shows this to the user who wrote to the file, on the machine and in the
state folder where they did, and to anybody who kept a head elsewhere and names it. It shows nothing
to somebody who has neither, and nothing if both files are changed by the same hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fedspeech.errors import ChainDamaged, FedspeechError
from fedspeech.files import lock, sync_folder, write_text

Row = dict[str, Any]

_START = "0" * 64


@dataclass(frozen=True)
class Head:
    """The last row of a chain at some time.

    Attributes:
      sequence: its number, from 0.
      sha256: its checksum, hex.
    """

    sequence: int
    sha256: str

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.sequence}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Reads `NUMBER:SHA256`.

        Raises:
          ValueError: if it is anything else.
        """
        found = re.fullmatch(r"([0-9]+):([0-9a-f]{64})", text.strip())
        if found is None:
            raise ValueError(f"a head is NUMBER:SHA256, as it was printed, got {text!r}")
        return cls(int(found[1]), found[2])


class HashChain:
    """Rows with checksums, each naming the one before.

    Attributes:
      torn: bytes of a last line that a kill cut short; None if there is none.
    """

    def __init__(
        self,
        path: Path,
        damaged: type[ChainDamaged] = ChainDamaged,
        consequence: str = "nothing is written to it until somebody has looked",
    ) -> None:
        """Prepares a chain and reads nothing; `damaged` is raised, and says the consequence."""
        self._path = path
        self._damaged, self._consequence = damaged, consequence
        self._position = 0  # bytes read and checked
        self._last_bytes = 0  # of them, those of the last row
        self._previous = _START
        self._checksums: list[str] = []  # of the rows that were read or written
        self.torn: bytes | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[BinaryIO]:
        """Opens the file for reading and appending, and keeps every other process out."""
        with self._path.open("a+b", buffering=0) as file:
            lock(file)
            yield file

    @property
    def _sequence(self) -> int:
        """Number of the next row."""
        return len(self._checksums)

    @property
    def head(self) -> Head | None:
        """The last row that was read or written; None if there is none."""
        return Head(self._sequence - 1, self._previous) if self._checksums else None

    def require(self, head: Head, whose: str) -> None:
        """Refuses a file that does not go on from a head that was kept outside.

        Args:
          head: a row that stood in it.
          whose: where the head was kept, in words.

        Raises:
          ChainDamaged: if the row is not there, or is another.
        """
        if head.sequence >= self._sequence:
            self._refuse(
                f"rows were cut off its end, for row {head.sequence + 1} was there ({whose})"
            )
        if self._checksums[head.sequence] != head.sha256:
            self._refuse(
                f"it was written anew, or is another file, for row {head.sequence + 1} was another "
                f"({whose})"
            )

    def read(self, file: BinaryIO, kept: Head | None = None) -> Iterator[Row]:
        """Yields rows not read before, requires the head that was kept, and keeps what is torn.

        Raises:
          ChainDamaged: if a complete line does not check, the file has shrunk, or it does not go
            on from the head.
        """
        self.torn = None
        size = file.seek(0, os.SEEK_END)
        if size < self._position:
            raise self._damaged(
                f"{self._path.name} was cut: {size} bytes, of which {self._position} were read"
            )
        # A file that was written anew may be as long as before: its last row tells.
        file.seek(self._position - self._last_bytes)
        if self._checksums and self._previous.encode() not in file.read(self._last_bytes):
            self._refuse("it was written anew, for its last row is another")
        file.seek(self._position)
        data = file.read()
        pending = b""  # a fragment that a later `recovered` row must explain
        for line in io.BytesIO(data):  # splits at newlines only, unlike splitlines
            row = self._parse(line)
            if not line.endswith(b"\n"):
                if row is None:
                    pending += line
                    break
                self._write(file, b"\n")  # the row is whole; a kill took its newline only
                line += b"\n"
            explains = row is not None and row["kind"] == "recovered"
            if row is None or (pending and not explains):
                pending += line
                continue
            if explains and fragment_fields(pending.removesuffix(b"\n")) != {
                name: row[name] for name in ("fragment_bytes", "fragment_sha256")
            }:
                self._refuse("a recovered row does not fit the fragment before it")
            self._advance(row, len(pending) + len(line))
            pending = b""
            yield row
        if pending.endswith(b"\n"):
            self._refuse("a complete line does not check: it was edited, inserted or removed")
        if kept is not None:
            where = head_place(self._path)
            self.require(kept, f"kept in {where}; remove that to accept the file as it is")
        self.torn = pending or None

    def append(self, file: BinaryIO, row: Row) -> Row:
        """Writes one row and waits until file and folder are on disk.

        A torn end is closed with a newline first; the row must be its `recovered` row.
        """
        full = {"sequence": self._sequence, "previous": self._previous, **row}
        full["sha256"] = _checksum(full)
        # NaN and infinity are no JSON: such a row is refused before it is written, since other
        # readers would stop at it.
        line = json.dumps(full, sort_keys=True, allow_nan=False).encode() + b"\n"
        start = b"" if self.torn is None else self.torn + b"\n"
        created = self._position == 0
        self._write(file, line if self.torn is None else b"\n" + line)
        if created:
            sync_folder(self._path.parent)
        self._advance(full, len(start) + len(line))
        self.torn = None
        return full

    def _write(self, file: BinaryIO, data: bytes) -> None:
        """Appends bytes and waits until they are on disk; what a full disk cut is taken back."""
        end = file.seek(0, os.SEEK_END)
        try:
            while data:
                # A write without a buffer may take a part only.
                data = data[file.write(data) :]
            if not isinstance(file, io.BytesIO):  # read only to look
                os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise

    def _parse(self, line: bytes) -> Row | None:
        """Returns the row if the line is the next of the chain, else None."""
        try:
            row = json.loads(line)
        except ValueError:
            return None
        if not isinstance(row, dict) or "kind" not in row or row.get("sha256") != _checksum(row):
            return None
        fits = row.get("sequence") == self._sequence and row.get("previous") == self._previous
        return row if fits else None

    def _advance(self, row: Row, num_bytes: int) -> None:
        self._position, self._last_bytes = self._position + num_bytes, num_bytes
        self._previous = row["sha256"]
        self._checksums.append(self._previous)

    def _refuse(self, what: str) -> None:
        raise self._damaged(
            f"{self._path.name}, row {self._sequence + 1} (byte {self._position}): {what}; "
            f"{self._consequence}"
        )


def _checksum(row: Row) -> str:
    """SHA-256 of a row without its checksum, in one canonical form."""
    body = {name: value for name, value in row.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def fragment_fields(fragment: bytes) -> Row:
    """What a `recovered` row says of the torn line before it."""
    digest = hashlib.sha256(fragment).hexdigest()
    return {"fragment_bytes": len(fragment), "fragment_sha256": digest}


def state_folder() -> Path | None:
    """$FEDSPEECH_STATE, or the user's folder for what programs remember; None: there is no home."""
    if given := os.environ.get("FEDSPEECH_STATE"):
        return Path(given)
    if root := os.environ.get("XDG_STATE_HOME"):
        return Path(root) / "fedspeech"
    try:
        return Path.home() / ".local" / "state" / "fedspeech"
    except RuntimeError:
        return None


def head_file(chain: Path) -> Path | None:
    """The file that keeps a chain's head for this user; None: there is no home."""
    state = state_folder()
    if state is None:
        return None
    name = hashlib.sha256(os.fsencode(chain.resolve())).hexdigest()[:32]
    return state / "ledgers" / f"{name}.json"


def head_place(chain: Path) -> str:
    """Where a chain's head is kept, without the folders of this machine."""
    file = head_file(chain)
    return f"ledgers/{file.name} of fedspeech's state folder" if file else "no folder"


def kept_head(chain: Path, damaged: type[ChainDamaged] = ChainDamaged) -> Head | None:
    """The head that this user kept of a chain; None if they kept none.

    Raises:
      `damaged`: if it is there and cannot be read.
    """
    file = head_file(chain)
    try:
        if file is None or not file.exists():
            return None
        found = json.loads(file.read_text("utf-8"))
        return Head(int(found["sequence"]), str(found["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(
            f"{file} keeps how far {chain.name} had got and cannot be read: {error}"
        ) from error


def keep_head(chain: Path, head: Head) -> str:
    """Keeps a chain's head, on disk when the call returns; returns why not, or ""."""
    file = head_file(chain)
    if file is None:
        return "this user has no home folder; FEDSPEECH_STATE may name another"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"file": str(chain.resolve()), **asdict(head)}) + "\n")
    except OSError as error:
        return f"{file.parent}: {error.strerror}; FEDSPEECH_STATE may name another folder"
    return ""


class KeptChain(HashChain):
    """A chain whose owner takes every row, read or written, and whose head is kept with each.

    with chain.opened() as file:
        chain.add(file, {"kind": "paused", "reason": reason})
    """

    def __init__(
        self,
        path: Path,
        take: Callable[[Row], None],
        damaged: type[ChainDamaged] = ChainDamaged,
        consequence: str = "nothing is written to it until somebody has looked",
    ) -> None:
        """Prepares a chain and reads nothing; `take` is given every row once, in order."""
        super().__init__(path, damaged, consequence)
        self._take = take

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Opens the file alone, takes what is new, and names a torn end in a row of its own."""
        kept = kept_head(self._path, self._damaged)
        with self.locked() as file:
            for row in self.read(file, kept):
                self._take(row)
            if self.torn is not None:
                self.add(file, {"kind": "recovered", **fragment_fields(self.torn)})
            yield file

    def take_all(self, what: str, begun: Callable[[], bool], once_more: str) -> None:
        """Takes every row of a chain that must be there and have begun.

        Args:
          what: whose chain it is, in words.
          begun: whether the rows that were taken begin it.
          once_more: what to do where they do not, in words.

        Raises:
          FedspeechError: if there is no file, or nothing begins it.
        """
        folder = self._path.parent
        if not self._path.is_file():
            raise FedspeechError(f"{folder} is no {what}: it has no {self._path.name}")
        with self.opened():
            if not begun():
                raise FedspeechError(f"{folder} was begun and never {once_more}")

    def add(self, file: BinaryIO, row: Row) -> None:
        """Writes a row, takes it, and keeps the head."""
        self._take(self.append(file, row))
        assert self.head is not None
        keep_head(self._path, self.head)


def forget_head(chain: Path) -> None:
    """Drops the head of a chain that stood where a new, empty folder stands now."""
    file = head_file(chain)
    if file is not None:
        file.unlink(missing_ok=True)

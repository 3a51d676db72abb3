"""An append-only file of JSON rows that name one another; knows nothing of what they mean.

Each line carries its own SHA-256 and that of the line before. A kill can tear only the last line,
which then lacks its newline: the next row must be one of kind `recovered` that names the fragment's
hash. A complete line that does not check was edited. No key is in the checksums: whoever cuts rows
off the end or writes the whole file anew leaves a chain that checks, and only a head kept outside
(`fedspeech.privacy.heads`) tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fedspeech.errors import LedgerDamaged
from fedspeech.files import sync_folder
from fedspeech.privacy import heads
from fedspeech.privacy.heads import Head

Row = dict[str, Any]

_START = "0" * 64


class Chain:
    """Rows with checksums, each naming the one before.

    Attributes:
      torn: bytes of a last line that a kill cut short; None if there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0  # bytes read and checked
        self._last_bytes = 0  # of them, those of the last row
        self._previous = _START
        self._checksums: list[str] = []  # of the rows that were read or written
        self.torn: bytes | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[BinaryIO]:
        """Opens the file for reading and appending, and keeps every other process out."""
        with self._path.open("a+b", buffering=0) as file:
            _lock(file)
            try:
                yield file
            finally:
                _unlock(file)

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
          LedgerDamaged: if the row is not there, or is another.
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
        """Yields rows that were not read before; leaves a torn end in `torn`.

        Args:
          file: opened.
          kept: the head that this user kept outside; None: they kept none.

        Raises:
          LedgerDamaged: if a complete line does not check, the file has shrunk, or it does not go
            on from the head.
        """
        self.torn = None
        size = file.seek(0, os.SEEK_END)
        if size < self._position:
            raise LedgerDamaged(
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
            where = heads.words(self._path)
            self.require(kept, f"kept in {where}; remove that to accept the file as it is")
        self.torn = pending or None

    def append(self, file: BinaryIO, row: Row) -> Row:
        """Writes one row and waits until file and folder are on disk.

        A torn end is closed with a newline first; the row must be its `recovered` row.
        """
        full = {"sequence": self._sequence, "previous": self._previous, **row}
        full["sha256"] = _checksum(full)
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
        raise LedgerDamaged(
            f"{self._path.name}, row {self._sequence + 1} (byte {self._position}): {what}; nothing "
            "is released on this population until somebody has looked"
        )


def _checksum(row: Row) -> str:
    """SHA-256 of a row without its checksum, in one canonical form."""
    body = {name: value for name, value in row.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def fragment_fields(fragment: bytes) -> Row:
    """What a `recovered` row says of the torn line before it."""
    return {
        "fragment_bytes": len(fragment),
        "fragment_sha256": hashlib.sha256(fragment).hexdigest(),
    }


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        """Waits for the file: one byte far beyond its end stands for all of it."""
        file.seek(1 << 40)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

    def _unlock(file: BinaryIO) -> None:
        file.seek(1 << 40)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        """Waits for the file."""
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)

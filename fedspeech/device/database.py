"""The SQLite file of a store: its settings, its tables, and its failures by name.

* Write-ahead log, `synchronous=FULL`: a transaction that returned outlives a power cut, one that
  did not is absent. An erasure depends on it: the old wrapping key is destroyed after the commit.
* `secure_delete`: deleted rows and free pages are zeroed; `auto_vacuum`: free pages leave the file;
  `wipe_journal` empties the log. Temporary tables stay in memory.
* `locking_mode=EXCLUSIVE`: one process at a time, and no shared-memory file.
* The log moves to the database every 64 pages, so that it has little to move on a full disk.
* A file of `RESERVE_BYTES` beside it is given up for an erasure on a full disk: a user whose phone
  is full must be able to erase, and erasing writes before it frees.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedspeech.errors import StoreDamaged, StoreFull, StoreRefused

STORE_FILE = "store.sqlite"
RESERVE_FILE = "reserve"
RESERVE_BYTES = 1 << 20
"""Room for new wrapped keys of some thousands of records."""

_SETTINGS = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA auto_vacuum = FULL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
PRAGMA temp_store = MEMORY;
PRAGMA wal_autocheckpoint = 64;
"""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS header (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID",
    # Keys stand apart from contents, so that an erasure rewrites some bytes of each record that
    # stays, and none of its content.
    "CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, wrapped BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, id TEXT UNIQUE, kind TEXT,"
    " expires_s INTEGER, consent TEXT, sealed BLOB)",
    "CREATE TABLE IF NOT EXISTS erasures (id TEXT PRIMARY KEY, receipt TEXT) WITHOUT ROWID",
)
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_SCHEMA", "SQLITE_ERROR")


class Database:
    """The open file.

    Attributes:
      connection: to it; transactions are begun by `changing` alone.

    Raises:
      StoreRefused: if another process holds it.
      StoreFull, StoreDamaged: if the disk is full, or the file is no such database.
    """

    def __init__(self, folder: Path) -> None:
        """Opens it; makes file and tables where there are none."""
        folder.mkdir(parents=True, exist_ok=True)
        self._reserve = folder / RESERVE_FILE
        with named():
            self.connection = sqlite3.connect(
                folder / STORE_FILE, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self.connection.executescript(_SETTINGS)
                with self.changing():
                    for table in _TABLES:
                        self.connection.execute(table)
                self.refill()
            except BaseException:
                self.connection.close()
                raise

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it on disk when the block is left, or nothing of it."""
        with named():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some failures.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def header(self) -> dict[str, Any]:
        """What `set` kept, by name; only inside `named`."""
        return dict(self.connection.execute("SELECT name, value FROM header").fetchall())

    def set(self, **values: object) -> None:
        """Keeps values in the header; only inside `changing`."""
        self.connection.executemany(
            "INSERT INTO header VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            list(values.items()),
        )

    def wipe_journal(self) -> None:
        """Moves what the write-ahead log holds to the database and empties it."""
        with named():
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def give_up_reserve(self) -> bool:
        """Frees the reserve for an erasure; whether there was one."""
        held = self._reserve.exists() and self._reserve.stat().st_size > 0
        if held:
            os.truncate(self._reserve, 0)
            self.wipe_journal()
        return held

    def refill(self) -> None:
        """Takes the reserve again, as far as there is room."""
        try:
            missing = RESERVE_BYTES - (
                self._reserve.stat().st_size if self._reserve.exists() else 0
            )
            with self._reserve.open("ab", buffering=0) as file:
                file.write(os.urandom(missing))  # a file system may store zeros as nothing
        except OSError:
            return  # an erasure then needs room of the disk's own

    def close(self) -> None:
        """Empties the write-ahead log and closes the file."""
        self.connection.close()


@contextmanager
def named() -> Iterator[None]:
    """Says a failure of SQLite by the class on which a caller can act."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(_FULL):
            raise StoreFull(
                f"the disk is full: nothing was kept, and nothing is lost ({error})"
            ) from None
        if code.startswith(_DAMAGED):
            raise StoreDamaged(
                f"{STORE_FILE} is damaged: nothing of it is used ({error})"
            ) from None
        raise StoreRefused(f"{STORE_FILE} cannot be used ({code or error})") from None

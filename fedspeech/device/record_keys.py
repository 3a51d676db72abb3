"""The keys of records, wrapped three levels deep, and how some of them are destroyed.

The key store of the device holds one wrapping key; it wraps the one key of a generation; that wraps
the key of each record. To erase, the keys of records that stay move to a new generation, and the
device destroys the wrapping key of the old one: a copy of the database, its journal, a backup or a
worn block of flash may hold the old rows for ever, and no key opens them (Reardon, Capkun, Basin
2012, "Data Node Encrypted File System", USENIX Security: destroy keys, for flash does not
overwrite).

The move is one transaction, and it names the receipt that is due. Whatever a kill leaves undone
after it, `finish` does when the store opens again: a wrapping key that no generation needs is
destroyed, and a receipt that is not in the log is written.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Set
from typing import Any

from fedspeech.device.database import RESERVE_BYTES, STORE_FILE, Database, named
from fedspeech.device.key_store import KEY_BYTES, KeyStore, seal, unseal
from fedspeech.device.phone_log import PhoneLog
from fedspeech.errors import KeyRefused, StoreDamaged, StoreForeign, StoreRefused
from fedspeech.hash_chain import Row
from fedspeech.seeds import canonical

VERSION = 1
_REMOVE = """
DELETE FROM records WHERE number IN (
  SELECT number FROM (
    SELECT number, length(sealed) AS size, sum(length(sealed)) OVER (ORDER BY number) AS total
    FROM records WHERE id NOT IN (SELECT id FROM keys)
  ) WHERE total - size < ?
)
"""


class RecordKeys:
    """The open generation of one store.

    Raises:
      StoreRefused: if another version wrote the store.
      StoreForeign: if it was made on another device, or is a copy from before an erasure.
      StoreDamaged: if its header is not what was written.
    """

    def __init__(self, database: Database, keys: KeyStore) -> None:
        """Opens the generation, or makes the first one."""
        self._database, self._keys = database, keys
        with named():
            header = database.header()
            records = database.connection.execute("SELECT count(*) FROM records").fetchone()[0]
        if header:
            self._open(header)
        elif records:
            raise StoreDamaged(f"{STORE_FILE} has {records} records and no header; it is not used")
        else:
            self._store = secrets.token_hex(8)
            alias, generation, wrapped = self._made()
            with database.changing():
                database.set(version=VERSION, store=self._store, alias=alias, generation=wrapped)
            self._alias, self._generation = alias, generation

    def wrap(self, record: str, key: bytes) -> bytes:
        """Wraps the key of a record; good for this record alone."""
        return seal(self._generation, key, canonical("record key", record))

    def unwrap(self, record: str, wrapped: bytes) -> bytes:
        """Opens what `wrap` gave.

        Raises:
          KeyRefused: if it is not what it was, or of another record or generation.
        """
        return unseal(self._generation, wrapped, canonical("record key", record))

    def held(self) -> set[str]:
        """Ids of the records that have a key."""
        with named():
            return {row[0] for row in self._database.connection.execute("SELECT id FROM keys")}

    def destroy(self, going: Set[str], reason: str, at_s: int) -> None:
        """Leaves the keys of some records behind; `finish` destroys them for good.

        Raises:
          StoreFull: if there is no room; no key has moved.
        """
        alias, generation, wrapped = self._made()
        try:
            with self._database.changing() as connection:
                rows = connection.execute("SELECT id, wrapped FROM keys").fetchall()
                moved, damaged = self._moved(rows, going, generation)
                connection.execute("DELETE FROM keys")
                connection.executemany("INSERT INTO keys VALUES (?, ?)", moved)
                receipt = {
                    "erasure": secrets.token_hex(8), "erased_s": at_s, "reason": reason,
                    "records": sorted(going), "damaged": sorted(damaged),
                    "destroyed_key": self._alias,
                }  # fmt: skip
                connection.execute(
                    "INSERT INTO erasures VALUES (?, ?)", (receipt["erasure"], json.dumps(receipt))
                )
                self._database.set(alias=alias, generation=wrapped)
        except BaseException:
            self._keys.destroy(alias)
            raise
        self._alias, self._generation = alias, generation

    def finish(self, log: PhoneLog) -> Row | None:
        """Destroys wrapping keys of generations that were left, removes bytes, writes receipts.

        Returns:
          The last receipt that was due; None if none was.
        """
        for alias in self._keys.aliases(self._store) - {self._alias}:
            self._keys.destroy(alias)
        with named():
            due = self._database.connection.execute("SELECT receipt FROM erasures").fetchall()
        if not due:
            return None
        while self._cleaned():
            self._database.wipe_journal()
        written = {row.get("erasure") for row in log.rows}
        for receipt in (json.loads(row[0]) for row in due):
            if receipt["erasure"] not in written:
                log.add("erased", **receipt)
        with self._database.changing() as connection:
            connection.execute("DELETE FROM erasures")
        self._database.wipe_journal()
        self._database.refill()
        return log.rows[-1]

    def _cleaned(self) -> bool:
        """Removes some records without keys; whether there were any.

        Zeroed pages and pages that move into their place pass through the write-ahead log: no more
        at a time than a full disk has room for once its reserve is given up.
        """
        with self._database.changing() as connection:
            return connection.execute(_REMOVE, (RESERVE_BYTES // 8,)).rowcount > 0

    def _open(self, header: dict[str, Any]) -> None:
        if header.get("version") != VERSION:
            raise StoreRefused(f"version must be {VERSION}, got {header.get('version')!r}")
        try:
            self._store, self._alias = str(header["store"]), str(header["alias"])
            wrapped = bytes(header["generation"])
        except (KeyError, TypeError, ValueError):
            raise StoreDamaged(f"the header of {STORE_FILE} is damaged") from None
        if self._alias not in self._keys.aliases(self._store):
            raise StoreForeign(
                f"{STORE_FILE} was made on another device, or is a copy from before an erasure: "
                f"this device has no key {self._alias!r}"
            )
        self._generation = self._keys.unwrap(self._alias, wrapped, self._bound(self._alias))

    def _made(self) -> tuple[str, bytes, bytes]:
        """A new wrapping key's alias, a new generation's key, and that wrapped."""
        alias, generation = self._keys.create(self._store), secrets.token_bytes(KEY_BYTES)
        return alias, generation, self._keys.wrap(alias, generation, self._bound(alias))

    def _bound(self, alias: str) -> bytes:
        return canonical("generation", VERSION, self._store, alias)

    def _moved(
        self, rows: list[tuple[str, bytes]], going: Set[str], generation: bytes
    ) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Keys that stay, wrapped anew, and the ids of those that were damaged before."""
        moved, damaged = [], []
        for record, wrapped in rows:
            if record in going:
                continue
            try:
                key = self.unwrap(record, wrapped)
            except (KeyRefused, TypeError):
                damaged.append(record)
                continue
            moved.append((record, seal(generation, key, canonical("record key", record))))
        return moved, damaged

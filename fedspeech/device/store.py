"""What a phone holds of its user: records in SQLite, each encrypted under a key of its own.

    store = Store(folder, SoftwareKeyStore(elsewhere))
    record = store.put("clip", flac, consent=receipt)    # whole on disk, or absent
    store.get(record).content
    store.erase([record], "consent revoked")             # a receipt, chained in the log

AES-256-GCM authenticates id, kind, expiry and consent with each content, so that no row passes for
another, lives longer than it was given, or changes its purpose. Ids, kinds, expiries and lengths
are readable; nothing else is. How keys are kept and destroyed: `record_keys`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedspeech.device.database import Database, named
from fedspeech.device.key_store import KEY_BYTES, KeyStore, seal, unseal
from fedspeech.device.phone_log import PhoneLog
from fedspeech.device.record_keys import VERSION, RecordKeys
from fedspeech.device.retention import KINDS, Kind, MonotoneClock, Retention
from fedspeech.errors import KeyRefused, StoreDamaged, StoreFull, StoreRefused, require
from fedspeech.hash_chain import Row
from fedspeech.seeds import canonical


@dataclass(frozen=True)
class Entry:
    """What is readable of a record without its key.

    Attributes:
      id: random, 32 hex digits.
      kind: what it is.
      expires_s: second from which it is no longer given out.
      consent: id of the receipt under which it came in.
    """

    id: str
    kind: Kind
    expires_s: int
    consent: str

    @property
    def authenticated(self) -> bytes:
        """What the content's tag covers beside the content."""
        return canonical("record", VERSION, self.id, self.kind, self.expires_s, self.consent)


@dataclass(frozen=True)
class Record(Entry):
    """A record that was opened; printing it shows no content."""

    content: bytes = field(repr=False)


class Store:
    """The records of one phone; one process at a time holds it.

    Attributes:
      log: of this phone.
      retention: times to live.

    Raises:
      StoreRefused: if another process holds it, or another version wrote it.
      StoreForeign: if it was made on another device, or is a copy from before an erasure.
      StoreDamaged: if file or log is not what was written.
      StoreFull: if the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        keys: KeyStore,
        *,
        clock: MonotoneClock | None = None,
        retention: Retention | None = None,
    ) -> None:
        """Opens or makes a store, and finishes an erasure that a kill cut short.

        Args:
          folder: of the phone: database, its journal, the log.
          keys: of the device; never inside the folder.
          clock: by which records expire.
          retention: times to live.
        """
        self.retention = retention or Retention()
        self._database = Database(folder)
        try:
            self.log = PhoneLog(folder)
            self._keys = RecordKeys(self._database, keys)
            with named():
                header = self._database.header()
            self._clock = (clock or MonotoneClock()).after_restart(
                header.get("latest_s", 0.0), header.get("offset_s", 0.0)
            )
            with suppress(StoreFull):  # what is left to clean waits; its keys are gone
                self._keys.finish(self.log)
        except BaseException:
            self._database.close()
            raise

    def put(self, kind: Kind, content: bytes, *, consent: str) -> str:
        """Keeps one record, on disk when the call returns; its id."""
        return self.put_all([(kind, content)], consent=consent)[0]

    def put_all(self, contents: Iterable[tuple[Kind, bytes]], *, consent: str) -> list[str]:
        """Keeps records, all or none, on disk when the call returns.

        Args:
          contents: kinds and bytes.
          consent: id of the receipt that covers them.

        Returns:
          Their ids.

        Raises:
          ValueError: for an unknown kind, or without a receipt.
          StoreFull: if the disk is full; none of them is kept.
        """
        require(bool(consent), "a record needs the id of a consent receipt", consent=consent)
        now_s, records, wrapped = self.now(), [], []
        for kind, content in contents:
            require(kind in KINDS, f"kind must be one of {', '.join(KINDS)}", kind=kind)
            expires_s = self.retention.expires_s(kind, now_s)
            entry = Entry(secrets.token_hex(16), kind, expires_s, consent)
            key = secrets.token_bytes(KEY_BYTES)
            sealed = seal(key, content, entry.authenticated)
            records.append((entry.id, kind, expires_s, consent, sealed))
            wrapped.append((entry.id, self._keys.wrap(entry.id, key)))
        with self._database.changing() as connection:
            connection.executemany(
                "INSERT INTO records (id, kind, expires_s, consent, sealed) VALUES (?,?,?,?,?)",
                records,
            )
            connection.executemany("INSERT INTO keys VALUES (?, ?)", wrapped)
            self._keep_time()
        return [record[0] for record in records]

    def get(self, record: str) -> Record:
        """Opens a record.

        Raises:
          StoreRefused: if there is none of this id, or it has expired.
          StoreDamaged: if any bit of it is not what was written; others are not touched.
        """
        with named():
            row = self._database.connection.execute(
                "SELECT r.id, kind, expires_s, consent, sealed, wrapped FROM records r"
                " JOIN keys k ON k.id = r.id WHERE r.id = ?",
                (record,),
            ).fetchone()
        if row is None:
            raise StoreRefused(f"no record {record!r}: it was erased, or never was here")
        entry = Entry(*row[:4])
        try:
            key = self._keys.unwrap(record, row[5])
            content = unseal(key, row[4], entry.authenticated)
        except (KeyRefused, TypeError):  # a damaged row may hold another type
            raise StoreDamaged(f"record {record!r} is not what was written: not used") from None
        if self.now() >= entry.expires_s:
            raise StoreRefused(f"record {record!r} has expired: the next sweep destroys its key")
        return Record(**vars(entry), content=content)

    def entries(self, *kinds: Kind) -> list[Entry]:
        """What is held and has not expired, oldest first; of all kinds if none is named."""
        with named():
            rows = self._database.connection.execute(
                "SELECT id, kind, expires_s, consent FROM records WHERE id IN (SELECT id FROM keys)"
                " AND expires_s > ? ORDER BY number",
                (self.now(),),
            ).fetchall()
        return [Entry(*row) for row in rows if not kinds or row[1] in kinds]

    def now(self) -> float:
        """Second by the phone's monotone clock."""
        return self._clock.now()

    def sweep(self) -> Row | None:
        """Erases what has expired; the receipt, or None if nothing has."""
        with self._database.changing() as connection:
            self._keep_time()
            rows = connection.execute(
                "SELECT id FROM records WHERE NOT expires_s > ?", (self.now(),)
            ).fetchall()
        return self.erase([row[0] for row in rows], "expired")

    def erase(self, records: Collection[str], reason: str) -> Row | None:
        """Destroys the keys of records, then removes their bytes.

        Args:
          records: ids; those that are not there are left out.
          reason: for the receipt.

        Returns:
          The receipt, a row of the log: ids of the records, why and when, the wrapping key that was
          destroyed, and of records that stay those whose keys were damaged before; None if nothing
          was there.

        Raises:
          StoreFull: if not even the reserve is enough; nothing is erased, and nothing lost.
        """
        going, at_s = self._keys.held() & set(records), int(self.now())
        if not going:
            return None
        try:
            self._keys.destroy(going, reason, at_s)
        except StoreFull:
            if not self._database.give_up_reserve():
                raise
            self._keys.destroy(going, reason, at_s)
        return self._keys.finish(self.log)

    def make_room(self) -> bool:
        """Gives up the reserve of a full disk, for what a user may always do; whether it was there.

        The next erasure takes it again.
        """
        return self._database.give_up_reserve()

    def close(self) -> None:
        """Lets another process open it."""
        self._database.close()

    def _keep_time(self) -> None:
        self._database.set(latest_s=self._clock.now(), offset_s=self._clock.offset_s)

"""A phone's own page: what it holds, until when, under which consent, what left it, what went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import FedspeechError
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.device.consent import Receipt
    from fedspeech.device.store import Entry


@dataclass(frozen=True, eq=False)
class PhonePage(Printed):
    """What a phone's user may know of it at any time; no content is opened for it.

    Attributes:
      folder: of the phone.
      consents: receipts in force.
      epoch: consents that were revoked.
      held: records, oldest first.
      log: rows of its log, oldest first: what left, was erased, was opened for debugging.
    """

    folder: str
    consents: tuple[Receipt, ...]
    epoch: int
    held: tuple[Entry, ...]
    log: tuple[Mapping[str, Any], ...]

    def rows(self, kind: str) -> list[Mapping[str, Any]]:
        """Rows of the log of one kind."""
        return [row for row in self.log if row["kind"] == kind]

    def _unknown(self) -> list[Mapping[str, Any]]:
        """Rows of what was sent, and of which no row says that it arrived."""
        arrived = {row["parcel"] for row in self.rows("left")}
        return [row for row in self.rows("sending") if row["parcel"] not in arrived]

    def record(self) -> dict[str, Any]:
        """The page as plain data."""
        return {
            "consents": [asdict(receipt) for receipt in self.consents],
            "revocation_epoch": self.epoch,
            "held": [asdict(entry) for entry in self.held],
            "left": self.rows("left"),
            "may_have_left": self._unknown(),
            "erased": self.rows("erased"),
            "accessed": self.rows("accessed"),
        }

    def print(self, console: Console) -> None:
        """Prints four tables."""
        scopes = {one.id: str(one.scope) for one in self.consents}
        agreed = [(str(one.scope), _day(one.until_s), one.id) for one in self.consents]
        counts = Counter(
            (one.kind, _day(one.expires_s), scopes.get(one.consent, "no consent in force"))
            for one in self.held
        )
        held = [(kind, str(count), *rest) for (kind, *rest), count in counts.items()]
        left, unknown = (
            [
                (row["payload"], _day(row["release_s"]), f"{row['bytes']:,}", row["purpose"])
                for row in rows
            ]
            for rows in (self.rows("left"), self._unknown())
        )
        gone = [
            (str(len(row["records"])), _day(row["erased_s"]), row["reason"])
            for row in self.rows("erased")
        ]
        _print(console, "Consents", ("to", "until", "receipt"), agreed)
        _print(console, "Held", ("kind", "records", "until", "under consent to"), held)
        _print(console, "Left", ("payload", "on", "bytes", "for"), left)
        if unknown:  # sent, and nobody answered
            _print(console, "May have left", ("payload", "on", "bytes", "for"), unknown)
        _print(console, "Erased", ("records", "on", "why"), gone)
        opened = self.rows("accessed")
        console.print(f"{len(opened)} accesses for debugging; {self.epoch} consents revoked")

    def __repr__(self) -> str:
        """How much it holds."""
        return f"PhonePage({self.folder!r}, {len(self.held)} records)"


def phone_show(folder: str | Path, *, keys: str | Path) -> PhonePage:
    """What a phone holds, until when, under which consent, and what left it.

        >>> import fedspeech as fs
        >>> fs.phone_show("phone", keys="keys")                                 # doctest: +SKIP
        PhonePage('phone', 12 records)

    Args:
      folder: of its store.
      keys: folder of its software key store.

    Raises:
      FedspeechError: if there is no store.
      StoreRefused: if a process holds it, these are not its keys, or it is damaged.
    """
    from fedspeech.device.consent import Consents
    from fedspeech.device.database import STORE_FILE
    from fedspeech.device.key_store import SoftwareKeyStore
    from fedspeech.device.store import Store

    folder, keys = Path(folder), Path(keys)
    # Else a new and empty phone would be made.
    for what, place, needed in (("store", folder, folder / STORE_FILE), ("keys", keys, keys)):
        if not needed.exists():
            raise FedspeechError(f"{place} is no folder of a phone's {what}")
    store = Store(folder, SoftwareKeyStore(keys))
    try:
        texts = [row["text"] for row in store.log.rows if row["kind"] == "consented"]
        consents = Consents(
            store.log, store.now, ask=lambda scope: False, text=max(texts, default=1)
        )
        return PhonePage(
            folder=str(folder),
            consents=tuple(consents.receipts()),
            epoch=consents.epoch,
            held=tuple(store.entries()),
            log=tuple(store.log.rows),
        )
    finally:
        store.close()


def _print(
    console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    console.print(table(header, rows, title=title) if rows else f"{title}: nothing")
    console.print()


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")

"""The only way to a phone's records: consent is asked for when data comes in, and at each use.

    vault = Vault(store, consents)
    record = vault.keep("clip", flac, purpose="federated_training", area="wake_word")
    vault.use(record, purpose="federated_training", area="wake_word").content
    vault.revoke(receipt.id)           # stops use at once, then destroys what it covered

A record belongs to the receipt under which it came in and serves that receipt's purpose alone.
What is derived from it, an embedding or a personal adapter, is kept under the same receipt and goes
with it.
"""

from __future__ import annotations

from fedspeech.device.consent import Consents, Purpose
from fedspeech.device.retention import Kind
from fedspeech.device.store import Entry, Record, Store
from fedspeech.errors import ConsentMissing, StoreFull, require
from fedspeech.hash_chain import Row


class Vault:
    """A store behind its user's consents.

    Attributes:
      store: of the phone.
      consents: of its user.
    """

    def __init__(self, store: Store, consents: Consents) -> None:
        """Erases what no consent covers any more: a kill may have come between both."""
        self.store, self.consents = store, consents
        self.sweep()

    def keep(
        self, kind: Kind, content: bytes, *, purpose: Purpose, area: str, begun: str = ""
    ) -> str:
        """Takes a record in; its id.

        Args:
          kind: what it is; `debug` comes in for the purpose `debug` alone, and nothing else does.
          content: its bytes.
          purpose: for which the user agreed.
          area: part of the product.
          begun: id of the receipt under which the work behind it began; a result of work during
            which that consent ended is refused, though there is another one. "": it began now.

        Raises:
          ConsentMissing: if the user has not agreed, or no longer does; nothing is kept.
        """
        rule = 'kind "debug" and purpose "debug" go together'
        require((kind == "debug") == (purpose == "debug"), rule, kind=kind, purpose=purpose)
        receipt = begun or self.consents.require(purpose, area).id
        if not self.consents.covers(receipt, purpose, area):
            raise ConsentMissing(f"consent {receipt} ended while a record of it was made: dropped")
        return self.store.put(kind, content, consent=receipt)

    def use(
        self, record: str, *, purpose: Purpose, area: str, who: str = "", why: str = ""
    ) -> Record:
        """Opens a record for a purpose.

        Args:
          record: its id.
          purpose: for which it is read: that of its receipt.
          area: likewise.
          who: reads a record of the debug cohort; stands in the log before it is opened.
          why: likewise.

        Raises:
          ConsentMissing: if its receipt is no longer in force, or is of another purpose or area.
          StoreRefused: if it is not there.
          ValueError: for a record of the debug cohort without who and why.
        """
        found = self.store.get(record)
        if not self.consents.covers(found.consent, purpose, area):
            raise ConsentMissing(
                f"record {record} came in under consent {found.consent}, which does not cover "
                f"{purpose} in {area}, or no longer does"
            )
        if found.kind == "debug":
            require(bool(who and why), "a debug record is opened by somebody, for a reason",
                    who=who, why=why)  # fmt: skip
            self.store.log.add(
                "accessed", record=record, who=who, why=why, accessed_s=int(self.store.now())
            )
        return found

    def usable(self, *kinds: Kind, purpose: Purpose, area: str) -> list[Entry]:
        """Records of some kinds that may be used for a purpose now, oldest first."""
        return [
            entry
            for entry in self.store.entries(*kinds)
            if self.consents.covers(entry.consent, purpose, area)
        ]

    def revoke(self, receipt: str) -> Row | None:
        """Ends a consent: no use from here on, also after a kill; then erases what it covered.

        Returns:
          The receipt of the erasure; None if it covered nothing.

        Raises:
          ConsentMissing: if there is no such consent.
        """
        try:
            self.consents.revoke(receipt)
        except StoreFull:
            # A user whose disk is full may still say no.
            if not self.store.make_room():
                raise
            self.consents.revoke(receipt)
        return self._erase_uncovered("consent revoked")

    def trained(self, records: list[str]) -> Row | None:
        """Erases clips that a round has trained on, where the retention says so."""
        if not self.store.retention.clips_until_trained:
            return None
        clips = {entry.id for entry in self.store.entries("clip")}
        return self.store.erase(clips & set(records), "a round has trained on it")

    def sweep(self) -> None:
        """Erases what has expired, and what no consent covers any more."""
        self.store.sweep()
        self._erase_uncovered("no consent covers it any more")

    def _erase_uncovered(self, reason: str) -> Row | None:
        uncovered = [
            entry.id for entry in self.store.entries() if not self.consents.in_force(entry.consent)
        ]
        return self.store.erase(uncovered, reason)

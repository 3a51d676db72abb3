"""What happened on a phone, for its user: rows of a hash chain that hold no content.

| kind | meaning |
|---|---|
| `consented`, `declined` | the user was asked for a scope, and answered |
| `revoked` | a consent ended; the revocation epoch moved |
| `accessed` | a record of the debug cohort was opened, by whom and why |
| `sending` | a payload goes to the network first: type, purpose, size, release; it may have left |
| `left` | the server has it |
| `kept_back` | its way ended before that was known: its round was over, or consent was gone |
| `erased` | a receipt: records whose keys were destroyed, when and why |
| `recovered` | a line torn by a kill was found |
"""

from __future__ import annotations

from pathlib import Path

from fedspeech.errors import StoreDamaged, StoreFull
from fedspeech.hash_chain import KeptChain, Row

LOG_FILE = "log.jsonl"


class PhoneLog:
    """The log of one phone.

    Attributes:
      rows: that were read or written, in order.

    Raises:
      StoreDamaged: if a row was edited or cut off.
    """

    def __init__(self, folder: Path) -> None:
        """Reads what is there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[Row] = []
        self._chain = KeptChain(
            folder / LOG_FILE, self.rows.append, StoreDamaged, "the phone takes part in nothing"
        )
        with self._chain.opened():
            pass

    def add(self, kind: str, **fields: object) -> Row:
        """Appends a row, on disk when the call returns.

        Args:
          kind: of the table above.
          fields: ids, names, seconds and counts; never content.

        Raises:
          StoreFull: if the disk is full; the log is as it was.
        """
        try:
            with self._chain.opened() as file:
                self._chain.add(file, {"kind": kind, **fields})
        except OSError as error:
            raise StoreFull(f"the log of this phone cannot be written: {error.strerror}") from None
        return self.rows[-1]

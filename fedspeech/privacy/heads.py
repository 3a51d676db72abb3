"""How far a ledger had got when this user last wrote to it, kept outside the ledger.

Checksums that name one another show every edit between two rows. They cannot show that the last
rows were cut off, or that the whole file was written anew: what is left is a chain as well. So
whoever appends a row keeps its number and checksum, the head, in a file of their own, one per
ledger, named after the ledger's resolved path. Every reading compares.

What this shows, and to whom:

* rows cut off the end, the file removed, put back from an older copy or written anew: to the user
  who wrote to it, on the machine and in the state folder where they did;
* the same to anybody who kept a head elsewhere and names it (`fedspeech ledger FILE --head`);
* nothing to somebody who has neither, and nothing if both files are changed by the same hand.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from fedspeech.errors import LedgerDamaged
from fedspeech.files import write_text


@dataclass(frozen=True)
class Head:
    """The last row of a ledger at some time.

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
        sequence, _, sha256 = text.strip().partition(":")
        if (
            not sequence.isdecimal()
            or len(sha256) != 64
            or not set(sha256) <= set("0123456789abcdef")
        ):
            raise ValueError(
                f"a head is NUMBER:SHA256 as `fedspeech ledger` prints it, got {text!r}"
            )
        return cls(int(sequence), sha256)


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


def place(ledger: Path) -> Path | None:
    """The file that keeps a ledger's head for this user; None: there is no home."""
    state = state_folder()
    if state is None:
        return None
    name = hashlib.sha256(os.fsencode(ledger.resolve())).hexdigest()[:32]
    return state / "ledgers" / f"{name}.json"


def words(ledger: Path) -> str:
    """Where a ledger's head is kept, without the folders of this machine."""
    file = place(ledger)
    return f"ledgers/{file.name} of fedspeech's state folder" if file else "no folder"


def kept(ledger: Path) -> Head | None:
    """The head that this user kept of a ledger; None if they kept none.

    Raises:
      LedgerDamaged: if it is there and cannot be read.
    """
    file = place(ledger)
    try:
        if file is None or not file.exists():
            return None
        found = json.loads(file.read_text("utf-8"))
        return Head(int(found["sequence"]), str(found["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerDamaged(
            f"{file} keeps how far {ledger.name} had got and cannot be read: {error}"
        ) from error


def keep(ledger: Path, head: Head) -> str:
    """Keeps a ledger's head, on disk when the call returns; returns why not, or ""."""
    file = place(ledger)
    if file is None:
        return "this user has no home folder; FEDSPEECH_STATE may name another"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"ledger": str(ledger.resolve()), **asdict(head)}) + "\n")
    except OSError as error:
        return f"{file.parent}: {error.strerror}; FEDSPEECH_STATE may name another folder"
    return ""


def forget(ledger: Path) -> None:
    """Drops the head of a ledger that stood where a new, empty folder stands now."""
    file = place(ledger)
    if file is not None:
        file.unlink(missing_ok=True)

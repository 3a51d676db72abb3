"""The one account of what a population has spent: append-only, on disk before anything is revealed.

One file per population, shared by every run on it. Each line is a JSON row that carries its own
SHA-256 and that of the row before, so an edit anywhere shows. Rows:

| kind | meaning |
|---|---|
| `opened` | a run began: its plan, and the cost of a round of it as data |
| `charge` | a round is about to send; it stays charged whatever becomes of it |
| `outcome` | what became of it: completed, or failed and why |
| `recovered` | a line torn by a kill was found and is counted as one more charge |

A kill can tear only the last line, which then lacks its newline: the next opening appends a
`recovered` row that names the fragment's hash, and charges a round for it, since it may have been a
charge. A complete line that does not check was edited: `LedgerDamaged`, and nothing is released
until somebody has looked. (A chain cannot show that whole rows were cut off its end; the run
folders, which repeat each charge, can.)

Rounds are priced per opening, also where two have the same plan: phones count their inputs anew in
every run, so two runs of one plan can bring a phone to its quota twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from fedspeech.errors import BudgetExhausted, LedgerDamaged
from fedspeech.privacy import guarantee
from fedspeech.privacy.events import RoundCost, cost_from_record, cost_to_record
from fedspeech.privacy.guarantee import Guarantee, sum_words
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import REHEARSAL_NOTICE

Row = dict[str, Any]

_START = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A round that has been paid for.

    Attributes:
      sequence: number of its row in the ledger.
      round: number of the round.
      attempt: of that round, from 0.
      rid: 16 or more random bytes that name this attempt.
      guarantee: what the population has spent with this round.
    """

    sequence: int
    round: int
    attempt: int
    rid: bytes
    guarantee: Guarantee


class Ledger:
    """What a population has spent, and whether it can afford another round. Use `Ledger.open`."""

    def __init__(
        self, path: Path, plan: PrivacyPlan, run_id: str, noise_source: Literal["os", "rehearsal"]
    ) -> None:
        """Prepares an account; `open` is the way in."""
        self.path = path
        self.notices: list[str] = []
        self._plan = plan
        self._run_id = run_id
        self._noise_source = noise_source
        self._chain = _Chain(path)
        # By sequence number of the `opened` row.
        self._charges: dict[int, int] = {}
        self._costs: dict[int, RoundCost] = {}
        self._trust: dict[int, str] = {}
        self._latest = self._own = -1
        self._rids: set[str] = set()

    @classmethod
    def open(
        cls,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: Literal["os", "rehearsal"],
    ) -> Ledger:
        """Opens the population's ledger, or starts it, and records this run's plan.

        Args:
          path: the file; its folder exists.
          plan: of this run. Earlier runs may have had other plans; their rounds count.
          run_id: unique among the runs on this population.
          noise_source: `NoiseEntropy.source`.

        Raises:
          LedgerDamaged: if a complete line does not check.
          ValueError: if the population of an earlier plan had another size or unit, or the noise
            source is unknown.
        """
        if noise_source not in ("os", "rehearsal"):
            raise ValueError(f'noise_source must be "os" or "rehearsal", got {noise_source!r}')
        ledger = cls(Path(path), plan, run_id, noise_source)
        with ledger._chain.locked() as file:
            ledger._catch_up(file)
            opened = ledger._append(
                file,
                {
                    "kind": "opened",
                    "run_id": run_id,
                    "plan": _jsonable(asdict(plan)),
                    "fingerprint": plan.fingerprint,
                    "cost": cost_to_record(plan.cost),
                    "trust": plan.trust,
                    "noise": _noise_words(noise_source),
                },
            )
            ledger._own = opened["sequence"]
        return ledger

    @property
    def rounds_charged(self) -> int:
        """Rounds charged to this population, of all runs, failed and recovered ones included."""
        return sum(self._charges.values())

    def guarantee(self) -> Guarantee:
        """Returns what the population has spent, as far as this process has read."""
        return self._price(extra=0)

    def require_budget(self, round: int, rounds: int = 1) -> None:  # noqa: A002
        """Refuses rounds that the budget would not cover, before anybody is asked to join them.

        Writes nothing; `charge` asks again under the same lock as it pays.

        Args:
          round: number of the round, or of the first of them.
          rounds: how many are planned.

        Raises:
          BudgetExhausted: if they would bring epsilon_release above the plan's budget.
          LedgerDamaged: if the file was edited or cut since it was last read.
        """
        with self._chain.locked() as file:
            self._catch_up(file)
            self._affordable(round, rounds)

    def charge(self, round: int, attempt: int, rid: bytes) -> Charge:  # noqa: A002
        """Pays for one round before any of its messages leave; returns once it is on disk.

        Rows that other processes have appended are read first, under a lock, so two runs cannot
        both spend the last of a budget.

        Args:
          round: number of the round.
          attempt: of that round, from 0; every attempt that sends inputs costs.
          rid: names this attempt, at least 16 bytes, never used before on this population.

        Raises:
          BudgetExhausted: if this round would bring epsilon_release above the plan's budget;
            nothing was written.
          LedgerDamaged: if the file was edited or cut since it was last read.
          ValueError: if rid is too short or was used before.
        """
        if len(rid) < 16:
            raise ValueError(f"rid must have at least 16 bytes, got {len(rid)}")
        with self._chain.locked() as file:
            self._catch_up(file)
            if rid.hex() in self._rids:
                raise ValueError(f"rid must never be used twice, got round={round} again")
            price = self._affordable(round)
            row = self._append(
                file,
                {
                    "kind": "charge",
                    "run_id": self._run_id,
                    "opened": self._own,
                    "round": round,
                    "attempt": attempt,
                    "rid": rid.hex(),
                    "fingerprint": self._plan.fingerprint,
                    **_jsonable(asdict(price)),
                    "server_simulated": price.secure_aggregation == "ideal",
                    "sum": sum_words(price.secure_aggregation, price.server),
                    "noise": _noise_words(self._noise_source),
                },
            )
        return Charge(
            sequence=row["sequence"], round=round, attempt=attempt, rid=rid, guarantee=price
        )

    def outcome(self, charge: Charge, completed: bool, reason: str = "") -> None:
        """Records what became of a charged round; the charge stays either way.

        Args:
          charge: what `charge` returned.
          completed: whether the sum was opened and published.
          reason: why not; for the operator, never for a published report.

        Raises:
          LedgerDamaged: if the file was edited or cut since it was last read.
        """
        with self._chain.locked() as file:
            self._catch_up(file)
            self._append(
                file,
                {
                    "kind": "outcome",
                    "run_id": self._run_id,
                    "charge": charge.sequence,
                    "round": charge.round,
                    "attempt": charge.attempt,
                    "completed": completed,
                    "reason": reason,
                },
            )

    def _affordable(self, round_number: int, rounds: int = 1) -> Guarantee:
        """Returns what would be spent with so many more rounds, or refuses them."""
        price = self._price(extra=rounds)
        if price.epsilon_release > self._plan.epsilon_budget:
            more = f"{rounds} more rounds"
            if rounds == 1:
                more = f"one more round (number {round_number} from 0)"
            raise BudgetExhausted(
                f"{more} would bring epsilon_release from "
                f"{self._price(extra=0).epsilon_release:.4f} to {price.epsilon_release:.4f} "
                f"({price.relation_release}), above epsilon_budget="
                f"{self._plan.epsilon_budget}; nothing was sent"
            )
        return price

    def _price(self, extra: int) -> Guarantee:
        """Composes every run's rounds, with `extra` more of this one."""
        counts = {**self._charges, self._own: self._charges.get(self._own, 0) + extra}
        counts = {opened: rounds for opened, rounds in counts.items() if rounds}
        spent = [(self._costs[opened], rounds) for opened, rounds in counts.items()]
        trust = dict.fromkeys(self._trust[opened] for opened in (*counts, self._own))
        return guarantee.price(
            spent or [(self._plan.cost, 0)],
            delta=self._plan.delta,
            unit=self._plan.unit,
            trust=" And, for other plans on this population: ".join(trust),
            secure_aggregation=self._plan.secure_aggregation,
            server=self._plan.server,
        )

    def _append(self, file: BinaryIO, row: Row) -> Row:
        """Writes a row and counts it."""
        written = self._chain.append(file, row)
        self._count(written)
        return written

    def _catch_up(self, file: BinaryIO) -> None:
        """Reads what is new, and repairs a torn end on the safe side."""
        for row in self._chain.read(file):
            self._count(row)
        fragment = self._chain.torn
        if fragment is None:
            return
        notice = (
            f"the last line of {self.path.name} was torn by a kill ({len(fragment)} bytes); it may "
            "have been a charge, so one more round is counted as spent"
        )
        self.notices.append(notice)
        self._append(file, {"kind": "recovered", **_fragment_fields(fragment), "reason": notice})

    def _count(self, row: Row) -> None:
        """Adds one checked row to the account."""
        match row["kind"]:
            case "opened":
                self._check_population(row["plan"])
                self._latest = row["sequence"]
                self._costs[self._latest] = cost_from_record(row["cost"])
                self._trust[self._latest] = row["trust"]
            case "charge":
                self._charges[row["opened"]] = self._charges.get(row["opened"], 0) + 1
                self._rids.add(row["rid"])
            case "recovered" if self._costs:  # before the first plan nothing can have been charged
                self._charges[self._latest] = self._charges.get(self._latest, 0) + 1

    def _check_population(self, plan: Row) -> None:
        """Refuses a plan for another population than this ledger's."""
        for name in ("population", "unit"):
            if plan[name] != getattr(self._plan, name):
                raise ValueError(
                    f"{self.path.name} is the ledger of another population: its {name} is "
                    f"{plan[name]!r}, the plan's is {getattr(self._plan, name)!r}"
                )


class _Chain:
    """Rows with checksums, each naming the one before; knows nothing of what they mean."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0  # bytes read and checked
        self._previous = _START
        self._sequence = 0
        self.torn: bytes | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[BinaryIO]:
        """Opens the file for reading and appending, and keeps every other process out."""
        with self._path.open("a+b") as file:
            _lock(file)
            try:
                yield file
            finally:
                _unlock(file)

    def read(self, file: BinaryIO) -> Iterator[Row]:
        """Yields rows that were not read before; leaves a torn end in `torn`.

        Raises:
          LedgerDamaged: if a complete line does not check, or the file has shrunk.
        """
        self.torn = None
        size = file.seek(0, os.SEEK_END)
        if size < self._position:
            raise LedgerDamaged(
                f"{self._path.name} was cut: {size} bytes, of which {self._position} were read"
            )
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
            if explains and _fragment_fields(pending.removesuffix(b"\n")) != {
                name: row[name] for name in ("fragment_bytes", "fragment_sha256")
            }:
                self._refuse("a recovered row does not fit the fragment before it")
            self._advance(row, len(pending) + len(line))
            pending = b""
            yield row
        if pending.endswith(b"\n"):
            self._refuse("a complete line does not check: it was edited, inserted or removed")
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
            _sync_folder(self._path.parent)
        self._advance(full, len(start) + len(line))
        self.torn = None
        return full

    def _write(self, file: BinaryIO, data: bytes) -> None:
        """Appends bytes and waits until they are on disk."""
        file.seek(0, os.SEEK_END)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

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
        self._position += num_bytes
        self._previous = row["sha256"]
        self._sequence += 1

    def _refuse(self, what: str) -> None:
        raise LedgerDamaged(
            f"{self._path.name}, row {self._sequence + 1} (byte {self._position}): {what}; nothing "
            "is released on this population until somebody has looked"
        )


def _checksum(row: Row) -> str:
    """SHA-256 of a row without its checksum, in one canonical form."""
    body = {name: value for name, value in row.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _fragment_fields(fragment: bytes) -> Row:
    return {
        "fragment_bytes": len(fragment),
        "fragment_sha256": hashlib.sha256(fragment).hexdigest(),
    }


def _jsonable(fields: Row) -> Row:
    """Writes infinities as words, so that every JSON reader can read the file."""
    return {
        name: "infinite" if isinstance(value, float) and value == float("inf") else value
        for name, value in fields.items()
    }


def _noise_words(noise_source: str) -> str:
    return REHEARSAL_NOTICE if noise_source == "rehearsal" else "noise from the operating system"


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        """Waits for the file: one byte far beyond its end stands for all of it."""
        file.seek(1 << 40)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

    def _unlock(file: BinaryIO) -> None:
        file.seek(1 << 40)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

    def _sync_folder(folder: Path) -> None:
        """Does nothing: Windows has no way to flush a folder."""
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        """Waits for the file."""
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)

    def _sync_folder(folder: Path) -> None:
        """Makes the new file's name survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""The one account of what a population has spent: append-only, on disk before anything is revealed.

One file per population, shared by every run on it, whatever it is for: training, tuning,
evaluation, analytics. `fedspeech.hash_chain` makes edits show, and rows that were cut off the
end. Rows:

| kind | meaning |
|---|---|
| `opened` | a run began: its plan, what a round costs, what it hides or releases once, as data |
| `charge` | a round is about to send; it stays charged whatever becomes of it |
| `outcome` | what became of it: completed, or failed and why |
| `recovered` | a line torn by a kill was found and is counted as one more charge |

A charge names its round, the hash of its plan and, under seeded noise, a commitment to its noise: a
killed run that is resumed replays the round that it was in, is checked against the row that is
there, and pays once. Under noise from the operating system nothing is replayed.

A kill can tear only the last line, which then lacks its newline: the next opening appends a
`recovered` row that names the fragment's hash, and charges a round for it, since it may have been a
charge. A complete line that does not check was edited: `LedgerDamaged`, and nothing is released
until somebody has looked. So does a file that no longer holds the last row that this user wrote.

What its rows add up to is `fedspeech.privacy.spending`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from fedspeech.errors import AlreadyReleased, LedgerDamaged, require
from fedspeech.hash_chain import HashChain, Head, Row, fragment_fields, keep_head, kept_head
from fedspeech.privacy.events import cost_to_record
from fedspeech.privacy.examples import ExampleCost
from fedspeech.privacy.phrasing import sum_words
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.privacy.spending import UNTIL_LOOKED_AT, Charge, Purpose, Spending, plan_of
from fedspeech.seeds import SEEDED_NOISE_NOTICE, NoiseSource


class Ledger(Spending):
    """The file, and whether it can afford another round. Use `Ledger.open`.

    Whatever reads the file raises `LedgerDamaged` if a complete line does not check, or if the file
    was edited or cut since it was last read or since this user wrote to it.
    """

    def __init__(
        self,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: NoiseSource,
        *,
        window: ReleaseWindow | None = None,
        keeps_head: bool = True,
    ) -> None:
        """Prepares an account; `open` is the way in."""
        super().__init__(path.name, plan, noise_source, window)
        self.path = path
        self._keeps_head = keeps_head
        self.notices: list[str] = []
        self._run_id = run_id
        self._chain = HashChain(path, LedgerDamaged, UNTIL_LOOKED_AT)
        self._resumed = False

    @classmethod
    def open(
        cls,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: NoiseSource,
        purpose: Purpose = "training",
        *,
        example_cost: ExampleCost | None = None,
        window: ReleaseWindow | None = None,
        scratch: bool = False,
    ) -> Ledger:
        """Opens the population's ledger, or starts it, and records this run's plan.

        Earlier runs may have had other plans; their rounds count. The folder exists; the run id is
        unique among the runs of seeded noise on this population. `example_cost` is that of DP-SGD
        on the examples of a phone, None where the run hides no single example; `window` is what the
        run releases once. A `scratch` account is thrown away, and nobody keeps its head.

        Raises:
          AlreadyReleased: if another run was charged for a day of the window.
          ScenarioError: if the population of an earlier plan had another size or unit.
          ValueError: if the noise source is unknown.
        """
        known = noise_source in ("os", "seeded")
        require(known, 'noise_source must be "os" or "seeded"', noise_source=noise_source)
        # A run's folder may hold a link to the ledger of its population: the folder to flush is
        # that of the file itself.
        ledger = cls(
            Path(path).resolve(), plan, run_id, noise_source, window=window, keeps_head=not scratch
        )
        with ledger._chain.locked() as file:
            ledger._catch_up(file)
            ledger._require_unreleased()
            opened = ledger._append(
                file,
                {
                    "kind": "opened",
                    "purpose": purpose,
                    "run_id": run_id,
                    "plan": {name: _jsonable(value) for name, value in asdict(plan).items()},
                    "fingerprint": plan.fingerprint,
                    "cost": cost_to_record(plan.cost),
                    "trust": plan.trust,
                    "noise": _noise_words(noise_source),
                    **({"examples": example_cost.to_record()} if example_cost else {}),
                    **({"window": window.to_record()} if window else {}),
                },
            )
            ledger._own = opened["sequence"]
        return ledger

    @classmethod
    def require_first_round(
        cls, path: Path, plan: PrivacyPlan, window: ReleaseWindow | None = None
    ) -> None:
        """Refuses a run that could not pay its first round, before it is prepared.

        Writes nothing; the file need not be there.

        Raises:
          AlreadyReleased: if a run was charged for a day of the window.
          BudgetExhausted: if one round would bring epsilon_release above the plan's budget.
          ScenarioError: as `open`.
        """
        ledger = cls(Path(path).resolve(), plan, "", "os", window=window, keeps_head=False)
        ledger._catch_up(io.BytesIO(ledger.path.read_bytes() if ledger.path.exists() else b""))
        ledger._require_unreleased()
        ledger._affordable(0)

    @classmethod
    def resume(
        cls,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: NoiseSource,
        opened: int | None,
        example_cost: ExampleCost | None = None,
        *,
        purpose: Purpose = "training",
        window: ReleaseWindow | None = None,
    ) -> Ledger:
        """Goes on with the account of a run that was interrupted; opens none anew.

        Under seeded noise a round that was charged is charged once, however often it is
        replayed: `charge` then returns the row that is there. Under noise from the operating
        system every charge is another one.

        `opened` is the number of the row that opened the run. None, if it was killed before it
        could keep that, is for a file that no other run uses: the last row that opened this run,
        or a new one. All else is as for `open`.

        Raises:
          LedgerDamaged: if there is no file, or the row is not there.
          ValueError: if it opened another run.
        """
        if not Path(path).is_file():
            raise LedgerDamaged(f"{Path(path).name} is gone: what the run has spent is unknown")
        ledger = cls(Path(path).resolve(), plan, run_id, noise_source, window=window)
        with ledger._chain.locked() as file:
            ledger._catch_up(file)
        if opened is None:
            own = [n for n, run in ledger._runs.items() if run.run_id == run_id]
            if not own:
                return cls.open(
                    path,
                    plan,
                    run_id,
                    noise_source,
                    purpose,
                    example_cost=example_cost,
                    window=window,
                )
            opened = own[-1]
        run = ledger._runs.get(opened)
        if run is None:
            raise LedgerDamaged(f"{ledger.path.name}: row {opened} opens no run; it was cut")
        found = (run.run_id, run.row["fingerprint"], run.noise, run.examples, run.window)
        if found != (run_id, plan.fingerprint, _noise_words(noise_source), example_cost, window):
            raise ValueError(f"row {opened} of {ledger.path.name} opened another run or plan")
        ledger._own, ledger._resumed = opened, True
        return ledger

    @classmethod
    def inspect(cls, path: Path, run_id: str | None = None, head: Head | None = None) -> Ledger:
        """Reads a ledger and leaves it as it is, a torn end included; not for charging.

        The account is stated at the delta of the plan of this run, or of the last. The file must
        hold the row `head`, from whoever kept it, beside the one that this user kept.

        Raises:
          LedgerDamaged: if there is no file, or it holds neither the run nor the row `head`.
        """
        # The head before the file: another process may append in between.
        kept = kept_head(Path(path), LedgerDamaged)
        try:
            copy = io.BytesIO(Path(path).read_bytes())
        except OSError as error:
            raise LedgerDamaged(f"no ledger at {path}: {error.strerror}") from error
        chain = HashChain(Path(path), LedgerDamaged, UNTIL_LOOKED_AT)
        rows = list(chain.read(copy, kept))
        if head is not None:
            chain.require(head, "as named")
        openings = [
            row for row in rows if row["kind"] == "opened" and run_id in (None, row.get("run_id"))
        ]
        if not openings:
            raise LedgerDamaged(f"{path} holds no run" + (f" {run_id[:8]}" if run_id else ""))
        last = openings[-1]
        plan = plan_of(last, Path(path).name)
        source: NoiseSource = "seeded" if last["noise"] == SEEDED_NOISE_NOTICE else "os"
        ledger = cls(Path(path), plan, last["run_id"], source, keeps_head=False)
        ledger._own = last["sequence"]
        ledger._chain = chain
        ledger._take(rows, copy)
        return ledger

    def refresh(self) -> None:
        """Reads what other processes have appended."""
        with self._chain.locked() as file:
            self._catch_up(file)

    @property
    def noise_commitments(self) -> frozenset[str]:
        """What names the noise of this run's charged rounds."""
        return frozenset(self._charges[c.sequence]["noise_commitment"] for c in self.charges)

    @property
    def head(self) -> Head | None:
        """The last row, to be kept outside; None before any was read."""
        return self._chain.head

    def require_budget(self, round: int, rounds: int = 1) -> None:  # noqa: A002
        """Refuses rounds from `round` on that the budget would not cover, before anybody is asked.

        Writes nothing; `charge` asks again under the same lock as it pays.

        Raises:
          AlreadyReleased: if another run was charged for a day of this run's window.
          BudgetExhausted: if they would bring epsilon_release above the plan's budget.
        """
        with self._chain.locked() as file:
            self._catch_up(file)
            self._require_unreleased()
            if not any(charge.round == round for charge in self._replayed()):
                self._affordable(round, rounds)

    def charge(
        self,
        round: int,  # noqa: A002
        attempt: int,
        rid: bytes,
        noise_commitment: str = "",
    ) -> Charge:
        """Pays for one round before any of its messages leave; returns once it is on disk.

        Rows that other processes have appended are read first, under a lock, so two runs cannot
        both spend the last of a budget.

        Every attempt that sends inputs costs. Its `rid` was never used before on this population;
        but in a resumed run of seeded noise it is paid for already when the round is replayed. The
        commitment is `NoiseEntropy.commitment` of the round.

        Raises:
          AlreadyReleased: if another run was charged for a day of this run's window, or this one
            for the round; nothing was written.
          BudgetExhausted: if this round would bring epsilon_release above the plan's budget;
            nothing was written.
          LedgerDamaged: if a replay is not of the round that was paid for.
          ValueError: if rid is too short or was used before.
        """
        require(len(rid) >= 16, "rid must have at least 16 bytes", length=len(rid))
        with self._chain.locked() as file:
            self._catch_up(file)
            for paid in self._replayed():
                if paid.rid == rid:
                    return self._paid(paid, round, attempt, noise_commitment)
            # Seeded noise of a run is drawn by this name: used twice, two sums would have the same
            # noise and their difference none.
            if any(row["rid"] == rid.hex() for row in self._charges.values()):
                raise ValueError(f"rid must never be used twice, got round={round} again")
            # Correlated noise is drawn by the number of its round, also under noise from the
            # operating system.
            if self._plan.factorization and any(c.round == round for c in self.charges):
                raise ValueError(f"noise of a round must never be used twice, got round={round}")
            self._require_unreleased()  # another process may have been charged since `open`
            self._require_unasked(round)
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
                    "noise_commitment": noise_commitment,
                    **price.to_record(infinite="infinite"),
                    "server_simulated": price.secure_aggregation == "ideal",
                    "sum": sum_words(price.mechanism, price.secure_aggregation, price.threat_model),
                    "noise": _noise_words(self._noise_source),
                },
            )
        return self._charge_of(row)

    def _require_unasked(self, round_number: int) -> None:
        """Refuses a round of a release once more: a copy of its folder gets no second answer."""
        if self._window is not None and any(c.round == round_number for c in self.charges):
            raise AlreadyReleased(
                f"one release per window: round {round_number + 1} of this release "
                f"({self._window.says}, {self._window.days}) was charged before, and its noise "
                "cannot be drawn again; nothing was sent"
            )

    def _replayed(self) -> tuple[Charge, ...]:
        """Charges that a resumed run of seeded noise may meet again."""
        seeded = self._resumed and self._noise_source == "seeded"
        return self.charges if seeded else ()

    def _paid(self, charge: Charge, round_number: int, attempt: int, commitment: str) -> Charge:
        """Returns the charge of a round that is replayed, if it is the same in everything."""
        row = self._charges[charge.sequence]
        found = (row["round"], row["attempt"], row["noise_commitment"])
        if found != (round_number, attempt, commitment):
            raise LedgerDamaged(
                f"{self.path.name}: row {charge.sequence} paid for another round than "
                f"{round_number + 1}, or for other noise; it is not replayed"
            )
        return charge

    def outcome(self, charge: Charge, completed: bool, reason: str = "") -> None:
        """Records whether a charged round opened and published its sum; it stays charged if not.

        A replay that ends as the round did before adds nothing. The reason is for the operator,
        never for a published report.
        """
        with self._chain.locked() as file:
            self._catch_up(file)
            before = self._outcomes.get(charge.sequence)
            if before and (before["completed"], before["reason"]) == (completed, reason):
                return
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

    def _append(self, file: BinaryIO, row: Row) -> Row:
        written = self._chain.append(file, row)
        self._count(written)
        # After the row: a kill in between leaves an older head, from which the file still goes on.
        # A head that came first would accuse the file of a row cut off.
        head = Head(written["sequence"], written["sha256"])
        if self._keeps_head and (why := keep_head(self.path, head)):
            notice = (
                f"how far {self.path.name} has got could not be kept outside it, so rows cut off "
                f"its end would not show: {why}"
            )
            if notice not in self.notices:
                self.notices.append(notice)
        return written

    def _catch_up(self, file: BinaryIO) -> None:
        """Reads what is new, and repairs a torn end on the safe side."""
        self._take(self._chain.read(file, kept_head(self.path, LedgerDamaged)), file)

    def _take(self, rows: Iterable[Row], file: BinaryIO) -> None:
        """Counts all rows that were not read before, and what is torn behind them."""
        for row in rows:
            self._count(row)
        fragment = self._chain.torn
        if fragment is None:
            return
        notice = (
            f"the last line of {self.path.name} was torn by a kill ({len(fragment)} bytes); it may "
            "have been a charge, so one more round is counted as spent"
        )
        self.notices.append(notice)
        self._append(file, {"kind": "recovered", **fragment_fields(fragment), "reason": notice})


def _jsonable(value: Any) -> Any:
    """Writes infinities as words, so that every JSON reader can read the file."""
    return "infinite" if value == math.inf else value


def _noise_words(noise_source: str) -> str:
    return SEEDED_NOISE_NOTICE if noise_source == "seeded" else "noise from the operating system"

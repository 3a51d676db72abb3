"""The one account of what a population has spent: append-only, on disk before anything is revealed.

One file per population, shared by every run on it, whatever it is for: training, tuning,
evaluation, analytics. `fedspeech.hash_chain` makes edits show, and rows that were cut off the
end. Rows:

| kind | meaning |
|---|---|
| `opened` | a run began: its plan, and the cost of a round of it as data |
| `charge` | a round is about to send; it stays charged whatever becomes of it |
| `outcome` | what became of it: completed, or failed and why |
| `recovered` | a line torn by a kill was found and is counted as one more charge |

A charge names its round, the hash of its plan and, in a rehearsal, a commitment to its noise: a
killed run that is resumed replays the round that it was in, is checked against the row that is
there, and pays once. Under noise from the operating system nothing is replayed.

A kill can tear only the last line, which then lacks its newline: the next opening appends a
`recovered` row that names the fragment's hash, and charges a round for it, since it may have been a
charge. A complete line that does not check was edited: `LedgerDamaged`, and nothing is released
until somebody has looked. So does a file that no longer holds the last row that this user wrote.

Rounds are priced per opening, also where two have the same plan: phones count their inputs anew in
every run, so two runs of one plan can bring a phone to its quota twice.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from fedspeech.errors import BudgetExhausted, LedgerDamaged, ScenarioError
from fedspeech.hash_chain import HashChain, Head, Row, fragment_fields, keep_head, kept_head
from fedspeech.privacy import guarantee
from fedspeech.privacy.config import Mechanism
from fedspeech.privacy.events import RoundCost, cost_from_record, cost_to_record
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import rounded_up, sum_words
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import REHEARSAL_NOTICE

Purpose = Literal["training", "tuning", "evaluation", "analytics"]
"""What a run on a population is for."""

_UNTIL_LOOKED_AT = "nothing is released on this population until somebody has looked"


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A round that has been paid for.

    Attributes:
      sequence: number of its row in the ledger.
      round: number of the round.
      attempt: of that round, from 0.
      rid: 16 or more random bytes that name this attempt.
    """

    sequence: int
    round: int
    attempt: int
    rid: bytes


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run on a population.

    Attributes:
      opened: number of the row that opened it.
      run_id: of the run.
      purpose: what it is for.
      plan: of the run.
      charged: rounds that were charged, failed and recovered ones included.
      completed: rounds whose sum was opened and used.
      noise: where its noise comes from, in words.
    """

    opened: int
    run_id: str
    purpose: Purpose
    plan: PrivacyPlan
    charged: int
    completed: int
    noise: str


class Ledger:
    """What a population has spent, and whether it can afford another round. Use `Ledger.open`."""

    def __init__(
        self,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: Literal["os", "rehearsal"],
        *,
        keeps_head: bool = True,
    ) -> None:
        """Prepares an account; `open` is the way in."""
        self.path = path
        self._keeps_head = keeps_head
        self.notices: list[str] = []
        self._plan = plan
        self._run_id = run_id
        self._noise_source = noise_source
        self._chain = _chain(path)
        # By sequence number of the `opened` row.
        self._charges: dict[int, int] = {}
        self._costs: dict[int, RoundCost] = {}
        self._trust: dict[int, str] = {}
        self._latest = self._own = -1
        self._rids: set[str] = set()
        self._opened: dict[int, Row] = {}
        self._charge_rows: dict[int, Row] = {}
        self._outcomes: dict[int, Row] = {}  # by sequence number of the charge
        self._resumed = False

    @classmethod
    def open(
        cls,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: Literal["os", "rehearsal"],
        purpose: Purpose = "training",
        *,
        scratch: bool = False,
    ) -> Ledger:
        """Opens the population's ledger, or starts it, and records this run's plan.

        Args:
          path: the file; its folder exists.
          plan: of this run. Earlier runs may have had other plans; their rounds count.
          run_id: unique among the rehearsals on this population.
          noise_source: `NoiseEntropy.source`.
          purpose: what the run is for.
          scratch: an account that is thrown away, whose head nobody keeps.

        Raises:
          LedgerDamaged: if a complete line does not check, or rows that this user wrote are gone.
          ScenarioError: if the population of an earlier plan had another size or unit.
          ValueError: if the noise source is unknown.
        """
        if noise_source not in ("os", "rehearsal"):
            raise ValueError(f'noise_source must be "os" or "rehearsal", got {noise_source!r}')
        ledger = cls(Path(path).resolve(), plan, run_id, noise_source, keeps_head=not scratch)
        with ledger._chain.locked() as file:
            ledger._catch_up(file)
            opened = ledger._append(
                file,
                {
                    "kind": "opened",
                    "purpose": purpose,
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

    @classmethod
    def require_first_round(cls, path: Path, plan: PrivacyPlan) -> None:
        """Refuses a run that could not pay its first round, before it is prepared; writes nothing.

        Args:
          path: the file; it need not be there.
          plan: of the run.

        Raises:
          BudgetExhausted: if one round would bring epsilon_release above the plan's budget.
          LedgerDamaged: if a complete line does not check, or rows that this user wrote are gone.
          ScenarioError: if the population of an earlier plan had another size or unit.
        """
        ledger = cls(Path(path).resolve(), plan, "", "os", keeps_head=False)
        ledger._catch_up(io.BytesIO(ledger.path.read_bytes() if ledger.path.exists() else b""))
        ledger._affordable(0)

    @classmethod
    def resume(
        cls,
        path: Path,
        plan: PrivacyPlan,
        run_id: str,
        noise_source: Literal["os", "rehearsal"],
        opened: int | None,
    ) -> Ledger:
        """Goes on with the account of a run that was interrupted; opens none anew.

        Under rehearsal noise a round that was charged is charged once, however often it is
        replayed: `charge` then returns the row that is there. Under noise from the operating
        system every charge is another one.

        Args:
          path: the file.
          plan: of the run.
          run_id: of the run.
          noise_source: of the run.
          opened: number of the row that opened it; None if it was killed before it could keep that:
            the last row that opened this run, or a new one. None is for a file that no other run
            uses.

        Raises:
          LedgerDamaged: if there is no file, a complete line does not check, or the row is not
            there.
          ValueError: if it opened another run.
        """
        if not Path(path).is_file():
            raise LedgerDamaged(f"{Path(path).name} is gone: what the run has spent is unknown")
        ledger = cls(Path(path).resolve(), plan, run_id, noise_source)
        with ledger._chain.locked() as file:
            ledger._catch_up(file)
        if opened is None:
            own = [n for n, row in ledger._opened.items() if row["run_id"] == run_id]
            if not own:
                return cls.open(path, plan, run_id, noise_source)
            opened = own[-1]
        row = ledger._opened.get(opened)
        if row is None:
            raise LedgerDamaged(f"{ledger.path.name}: row {opened} opens no run; it was cut")
        found = (row["run_id"], row["fingerprint"], row["noise"])
        if found != (run_id, plan.fingerprint, _noise_words(noise_source)):
            raise ValueError(f"row {opened} of {ledger.path.name} opened another run or plan")
        ledger._own, ledger._resumed = opened, True
        return ledger

    @classmethod
    def inspect(cls, path: Path, run_id: str | None = None, head: Head | None = None) -> Ledger:
        """Reads a ledger and leaves it as it is, a torn end included; not for charging.

        Args:
          path: the file.
          run_id: the run that asks: the account is stated at the delta of its plan. None: the last.
          head: a row that must be in it, from whoever kept it; beside what this user kept.

        Raises:
          LedgerDamaged: if there is no file, the run is not in it, a complete line does not check,
            or the file does not go on from a head.
        """
        kept = kept_head(
            Path(path), LedgerDamaged
        )  # before the file: another process may append in between
        try:
            copy = io.BytesIO(Path(path).read_bytes())
        except OSError as error:
            raise LedgerDamaged(f"no ledger at {path}: {error.strerror}") from error
        chain = _chain(Path(path))
        rows = list(chain.read(copy, kept))
        if head is not None:
            chain.require(head, "as named")
        openings = [
            row for row in rows if row["kind"] == "opened" and run_id in (None, row.get("run_id"))
        ]
        if not openings:
            raise LedgerDamaged(f"{path} holds no run" + (f" {run_id[:8]}" if run_id else ""))
        last = openings[-1]
        plan = _plan_of(last, Path(path).name)
        source: Literal["os", "rehearsal"] = "os"
        if last["noise"] == REHEARSAL_NOTICE:
            source = "rehearsal"
        ledger = cls(Path(path), plan, last["run_id"], source, keeps_head=False)
        ledger._own = last["sequence"]
        ledger._chain = chain
        ledger._take(rows, copy)
        return ledger

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs on this population, in order."""
        return tuple(
            Run(
                opened=opened,
                run_id=row["run_id"],
                purpose=row["purpose"],
                plan=_plan_of(row, self.path.name),
                charged=self._charges.get(opened, 0),
                completed=sum(
                    outcome["completed"]
                    for charge, outcome in self._outcomes.items()
                    if self._charge_rows[charge]["opened"] == opened
                ),
                noise=row["noise"],
            )
            for opened, row in self._opened.items()
        )

    def refresh(self) -> None:
        """Reads what other processes have appended.

        Raises:
          LedgerDamaged: if the file was edited or cut since it was last read.
        """
        with self._chain.locked() as file:
            self._catch_up(file)

    @property
    def head(self) -> Head | None:
        """The last row, to be kept outside; None before any was read."""
        return self._chain.head

    @property
    def opened(self) -> int:
        """Number of the row that opened this run."""
        return self._own

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Charges of this run, in order."""
        return tuple(
            self._charge_of(row) for row in self._charge_rows.values() if row["opened"] == self._own
        )

    def settled(self, charge: Charge) -> bool:
        """Whether the ledger says what became of a charged round."""
        return charge.sequence in self._outcomes

    @property
    def own_rounds_charged(self) -> int:
        """Rounds charged to this run, failed and recovered ones included."""
        return self._charges.get(self._own, 0)

    @property
    def runs_charged(self) -> int:
        """Runs that were charged for a round, this one included whether or not it was."""
        return len({*(opened for opened, rounds in self._charges.items() if rounds), self._own})

    @property
    def noise_notice(self) -> str | None:
        """That noise of a run which was charged, or of this one, can be drawn again; else None."""
        rehearsed = self._noise_source == "rehearsal" or any(
            row["noise"] == REHEARSAL_NOTICE and self._charges.get(opened)
            for opened, row in self._opened.items()
        )
        return REHEARSAL_NOTICE if rehearsed else None

    @property
    def rounds_charged(self) -> int:
        """Rounds charged to this population, of all runs, failed and recovered ones included."""
        return sum(self._charges.values())

    def guarantee(self, more_rounds: int = 0) -> Guarantee:
        """Returns what the population has spent, as far as this process has read.

        Args:
          more_rounds: rounds of this run to price as if they were charged too.
        """
        return self._price(extra=more_rounds)

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

        Args:
          round: number of the round.
          attempt: of that round, from 0; every attempt that sends inputs costs.
          rid: names this attempt, at least 16 bytes, never used before on this population; but in a
            resumed rehearsal it is paid for already when the round is replayed.
          noise_commitment: `NoiseEntropy.commitment` of the round; "" where phones draw their own
            keys from the operating system.

        Raises:
          BudgetExhausted: if this round would bring epsilon_release above the plan's budget;
            nothing was written.
          LedgerDamaged: if the file was edited or cut since it was last read, or a replay is not
            of the round that was paid for.
          ValueError: if rid is too short or was used before.
        """
        if len(rid) < 16:
            raise ValueError(f"rid must have at least 16 bytes, got {len(rid)}")
        with self._chain.locked() as file:
            self._catch_up(file)
            for paid in self._replayed():
                if paid.rid == rid:
                    return self._paid(paid, round, attempt, noise_commitment)
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
                    "noise_commitment": noise_commitment,
                    **price.to_record(infinite="infinite"),
                    "server_simulated": price.secure_aggregation == "ideal",
                    "sum": sum_words(price.mechanism, price.secure_aggregation, price.server),
                    "noise": _noise_words(self._noise_source),
                },
            )
        return self._charge_of(row)

    def _replayed(self) -> tuple[Charge, ...]:
        """Charges that a resumed rehearsal may meet again."""
        rehearsal = self._resumed and self._noise_source == "rehearsal"
        return self.charges if rehearsal else ()

    def _charge_of(self, row: Row) -> Charge:
        return Charge(
            sequence=row["sequence"],
            round=row["round"],
            attempt=row["attempt"],
            rid=bytes.fromhex(row["rid"]),
        )

    def _paid(self, charge: Charge, round_number: int, attempt: int, commitment: str) -> Charge:
        """Returns the charge of a round that is replayed, if it is the same in everything."""
        row = self._charge_rows[charge.sequence]
        found = (row["round"], row["attempt"], row["noise_commitment"])
        if found != (round_number, attempt, commitment):
            raise LedgerDamaged(
                f"{self.path.name}: row {charge.sequence} paid for another round than "
                f"{round_number + 1}, or for other noise; it is not replayed"
            )
        return charge

    def outcome(self, charge: Charge, completed: bool, reason: str = "") -> None:
        """Records what became of a charged round; the charge stays either way.

        A replay that ends as the round did before adds nothing.

        Args:
          charge: what `charge` returned.
          completed: whether the sum was opened and published.
          reason: why not; for the operator, never for a published report.

        Raises:
          LedgerDamaged: if the file was edited or cut since it was last read.
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

    def _affordable(self, round_number: int, rounds: int = 1) -> Guarantee:
        """Returns what would be spent with so many more rounds, or refuses them."""
        price = self._price(extra=rounds)
        if price.epsilon_release > self._plan.epsilon_budget:
            more = f"{rounds} more rounds"
            if rounds == 1:
                more = f"one more round (number {round_number} from 0)"
            raise BudgetExhausted(
                f"{more} would bring epsilon_release from "
                f"{rounded_up(self._price(extra=0).epsilon_release, 4)} to "
                f"{rounded_up(price.epsilon_release, 4)} "
                f"({price.relation_release}), above epsilon_budget="
                f"{self._plan.epsilon_budget}; nothing was sent"
            )
        return price

    def _price(self, extra: int) -> Guarantee:
        """Composes every run's rounds, with `extra` more of this one."""
        # A run that was charged for nothing may have abandoned rounds, which readers see.
        begun = {**dict.fromkeys(self._costs, 0), **self._charges}
        begun[self._own] = begun.get(self._own, 0) + extra
        spent = [(self._costs.get(n, self._plan.cost), rounds) for n, rounds in begun.items()]
        counts = [opened for opened, rounds in begun.items() if rounds]
        trust = dict.fromkeys(
            self._trust.get(opened, self._plan.trust) for opened in (*counts, self._own)
        )
        return guarantee.price(
            spent,
            delta=self._plan.delta,
            unit=self._plan.unit,
            trust=" And, for other plans on this population: ".join(trust),
            mechanism=cast(
                "Mechanism", self._weakest("mechanism", ("none", "central", "local"), counts)
            ),
            secure_aggregation=self._weakest("secure_aggregation", ("ideal",), counts),
            server=self._weakest("server", ("curious",), counts),
        )

    def _weakest(self, name: str, weak: tuple[str, ...], counts: Iterable[int]) -> str:
        """The first of the weak settings that a run had which was charged, else this plan's own."""
        found = {self._opened[opened]["plan"][name] for opened in counts if opened >= 0}
        own: str = getattr(self._plan, name)
        return next((setting for setting in weak if setting in {*found, own}), own)

    def _append(self, file: BinaryIO, row: Row) -> Row:
        """Writes a row and counts it."""
        written = self._chain.append(file, row)
        self._count(written)
        if self._keeps_head and (
            why := keep_head(self.path, Head(written["sequence"], written["sha256"]))
        ):
            self._say_once(
                f"how far {self.path.name} has got could not be kept outside it, so rows cut off "
                f"its end would not show: {why}"
            )
        return written

    def _say_once(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)

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

    def _count(self, row: Row) -> None:
        """Adds one checked row to the account, or refuses what no ledger says."""
        try:
            self._add(row)
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerDamaged(
                f"{self.path.name}, row {row['sequence'] + 1}: no row of a ledger "
                f"({type(error).__name__}: {error}); {_UNTIL_LOOKED_AT}"
            ) from error

    def _add(self, row: Row) -> None:
        """Adds one row to the account.

        Raises:
          KeyError, TypeError, ValueError: if it lacks a field, names a row that is not there, or is
            of an unknown kind.
        """
        match row["kind"]:
            case "opened":
                self._check_population(row["plan"])
                self._latest = row["sequence"]
                self._opened[self._latest] = row
                self._costs[self._latest] = cost_from_record(row["cost"])
                self._trust[self._latest] = row["trust"]
            case "charge":
                self._opened[row["opened"]]
                self._charges[row["opened"]] = self._charges.get(row["opened"], 0) + 1
                self._rids.add(row["rid"])
                self._charge_rows[row["sequence"]] = row
            case "outcome":
                self._charge_rows[row["charge"]]
                self._outcomes[row["charge"]] = row
            case "recovered":
                if self._costs:  # before the first plan nothing can have been charged
                    self._charges[self._latest] = self._charges.get(self._latest, 0) + 1
            case unknown:
                raise ValueError(f"unknown kind {unknown!r}")

    def _check_population(self, plan: Row) -> None:
        """Refuses a plan for another population than this ledger's."""
        for name in ("population", "unit"):
            if plan[name] != getattr(self._plan, name):
                raise ScenarioError(
                    f"{self.path.name} is the ledger of another population: its {name} is "
                    f"{plan[name]!r}, the plan's is {getattr(self._plan, name)!r}"
                )


def _chain(path: Path) -> HashChain:
    """The rows of a ledger."""
    return HashChain(path, LedgerDamaged, _UNTIL_LOOKED_AT)


def _jsonable(fields: Row) -> Row:
    """Writes infinities as words, so that every JSON reader can read the file."""
    return {
        name: "infinite" if isinstance(value, float) and value == float("inf") else value
        for name, value in fields.items()
    }


def _plan_of(row: Row, name: str) -> PrivacyPlan:
    """The plan of a row that opened a run.

    Raises:
      LedgerDamaged: if this version of fedspeech knows no such plan.
    """
    try:
        return PrivacyPlan(**_floats(row["plan"]))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise LedgerDamaged(
            f"{name}, row {row['sequence'] + 1}: its plan is none that this version of fedspeech "
            f"knows: {error}"
        ) from error


def _floats(fields: Mapping[str, Any]) -> Row:
    """Reads what `_jsonable` wrote."""
    return {name: math.inf if value == "infinite" else value for name, value in fields.items()}


def _noise_words(noise_source: str) -> str:
    return REHEARSAL_NOTICE if noise_source == "rehearsal" else "noise from the operating system"

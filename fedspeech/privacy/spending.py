"""What the rows of a ledger add up to: who was charged for what, and the price of all of it.

Rounds are priced per opening, also where two have the same plan: phones count their inputs anew in
every run, so two runs of one plan can bring a phone to its participation limit twice. Rounds whose
noise is correlated are one event up to the last that was charged, whichever of them were: a charge
pays what one more row of the strategy adds, and all together never more than the whole. Examples,
where runs hide them by DP-SGD, are an account of their own: their unit is one example of one phone,
so they are never added to the epsilons of phones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from fedspeech.errors import AlreadyReleased, BudgetExhausted, LedgerDamaged, ScenarioError
from fedspeech.hash_chain import Row
from fedspeech.privacy import examples, guarantee
from fedspeech.privacy.events import RoundCost, cost_from_record
from fedspeech.privacy.examples import ExampleCost, ExampleGuarantee
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import rounded_up
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.seeds import SEEDED_NOISE_NOTICE, NoiseSource

Purpose = Literal["training", "tuning", "evaluation", "analytics"]
"""What a run on a population is for."""

# Settings that promise less than others, the weakest first.
_WEAK = {
    "mechanism": ("none", "central", "matrix_factorization", "local"),
    "secure_aggregation": ("ideal",),
    "threat_model": ("semi_honest",),
}

UNTIL_LOOKED_AT = "nothing is released on this population until somebody has looked"


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A round that has been paid for, by the row of this number in the ledger."""

    sequence: int
    round: int
    attempt: int
    rid: bytes


@dataclass(kw_only=True)
class Run:
    """One run on a population, as far as its rows were read.

    Attributes:
      row: that opened it.
      ledger: name of the file, for errors.
      trust: who must be honest, in words.
      cost: of one of its rounds.
      examples: what it costs one example of a phone; None: it hides none.
      window: what it releases once; None: nothing that is released by windows.
      charged: rounds that were charged, failed and recovered ones included.
      reached: number of rounds up to the last that was charged.
      completed: rounds whose sum was opened and used.
    """

    row: Row
    ledger: str
    trust: str
    cost: RoundCost
    examples: ExampleCost | None
    window: ReleaseWindow | None = None
    charged: int = 0
    reached: int = 0
    completed: int = 0

    @property
    def run_id(self) -> str:
        """Of the run."""
        return str(self.row["run_id"])

    @property
    def purpose(self) -> Purpose:
        """What the run is for."""
        return cast("Purpose", self.row["purpose"])

    @property
    def noise(self) -> str:
        """Where its noise comes from, in words."""
        return str(self.row["noise"])

    @property
    def plan(self) -> PrivacyPlan:
        """Its plan.

        Raises:
          LedgerDamaged: if this version of fedspeech knows no such plan.
        """
        return plan_of(self.row, self.ledger)


class Spending:
    """What a population has spent, as far as its rows were read."""

    def __init__(
        self,
        name: str,
        plan: PrivacyPlan,
        noise_source: NoiseSource,
        window: ReleaseWindow | None = None,
    ) -> None:
        """Starts with no row; plan, noise and window are those of the run that asks."""
        self._name, self._plan, self._noise_source = name, plan, noise_source
        self._window = window
        self._own = -1
        # Each by the number of its row; outcomes by that of the charge.
        self._runs: dict[int, Run] = {}
        self._charges: dict[int, Row] = {}
        self._outcomes: dict[int, Row] = {}

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs on this population, in order."""
        return tuple(self._runs.values())

    @property
    def opened(self) -> int:
        """Number of the row that opened this run."""
        return self._own

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Charges of this run, in order."""
        own = [row for row in self._charges.values() if row["opened"] == self._own]
        return tuple(self._charge_of(row) for row in own)

    def settled(self, charge: Charge) -> bool:
        """Whether the ledger says what became of a charged round."""
        return charge.sequence in self._outcomes

    @property
    def own_rounds_charged(self) -> int:
        """Rounds charged to this run, failed and recovered ones included."""
        return self._runs[self._own].charged if self._own in self._runs else 0

    @property
    def runs_charged(self) -> int:
        """Runs that were charged for a round, this one included whether or not it was."""
        return len({*(opened for opened, run in self._runs.items() if run.charged), self._own})

    @property
    def noise_notice(self) -> str | None:
        """That noise of a run which was charged, or of this one, can be drawn again; else None."""
        seeded = self._noise_source == "seeded" or any(
            run.noise == SEEDED_NOISE_NOTICE and run.charged for run in self.runs
        )
        return SEEDED_NOISE_NOTICE if seeded else None

    @property
    def rounds_charged(self) -> int:
        """Rounds charged to this population, of all runs, failed and recovered ones included."""
        return sum(run.charged for run in self.runs)

    def guarantee(self, more_rounds: int = 0) -> Guarantee:
        """What the population has spent, with `more_rounds` of this run as if charged too."""
        return self._price(extra=more_rounds)

    def example_guarantee(self) -> ExampleGuarantee | None:
        """What one example of a phone is promised by all runs that hid it; None if none did.

        Each that was charged counts at its participation limit; the run that asks counts before it
        is charged.
        """
        counted = [run for n, run in self._runs.items() if n == self._own or run.charged]
        return examples.price([run.examples for run in counted if run.examples])

    def _charge_of(self, row: Row) -> Charge:
        return Charge(
            sequence=row["sequence"],
            round=row["round"],
            attempt=row["attempt"],
            rid=bytes.fromhex(row["rid"]),
        )

    def _require_unreleased(self) -> None:
        """Refuses a window of which another run was charged for a day, whatever became of it."""
        if self._window is None:
            return
        for number, run in self._runs.items():
            other = run.window
            if number == self._own or not run.charged or other is None:
                continue
            if self._window.overlaps(other):
                raise AlreadyReleased(
                    f"one release per window: {self._window.says} was asked about {other.days} "
                    f"by run {run.run_id[:8]} of {self._name}, which counts as released whatever "
                    f"became of it, got {self._window.days}; nothing was sent. Read what that "
                    "run released, or ask about other days"
                )

    def _affordable(self, round_number: int, rounds: int = 1) -> Guarantee:
        price = self._price(extra=rounds, reached=round_number + rounds)
        if price.epsilon_release > self._plan.epsilon_budget:
            more = f"{rounds} more rounds"
            if rounds == 1:
                more = f"one more round (number {round_number + 1})"
            raise BudgetExhausted(
                f"{more} would bring epsilon_release from "
                f"{rounded_up(self._price(extra=0).epsilon_release, 4)} to "
                f"{rounded_up(price.epsilon_release, 4)} "
                f"({price.relation_release}), above epsilon_budget="
                f"{self._plan.epsilon_budget}; nothing was sent"
            )
        return price

    def _price(self, extra: int, reached: int = 0) -> Guarantee:
        """Composes every run's rounds, with `extra` more of this one, that ends at `reached`."""
        # A run that was charged for nothing may have abandoned rounds, which readers see.
        begun = {n: run.charged for n, run in self._runs.items()}
        begun[self._own] = begun.get(self._own, 0) + extra
        spent, paying = [], []
        for n, rounds in begun.items():
            run = self._runs.get(n)
            cost, last = (run.cost, run.reached) if run else (self._plan.cost, 0)
            if n == self._own:
                last = max(last + extra, reached)
            spent.append((cost.of_first(max(last, rounds)), rounds))
            if run and rounds:
                paying.append(run)
        own = self._runs.get(self._own)
        trust = [*(run.trust for run in paying), own.trust if own else self._plan.trust]
        weakest = {name: self._weakest(name, weak, paying) for name, weak in _WEAK.items()}
        joined = " And, for other plans on this population: ".join(dict.fromkeys(trust))
        return guarantee.price(spent, self._plan, trust=joined, **weakest)

    def _weakest(self, name: str, weak: tuple[str, ...], paying: Iterable[Run]) -> str:
        """The first of the weak settings that a run had which was charged, else this plan's own."""
        own: str = getattr(self._plan, name)
        found = {own, *(run.row["plan"][name] for run in paying)}
        return next((setting for setting in weak if setting in found), own)

    def _count(self, row: Row) -> None:
        """Adds one checked row to the account, or refuses what no ledger says."""
        try:
            self._add(row)
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerDamaged(
                f"{self._name}, row {row['sequence'] + 1}: no row of a ledger "
                f"({type(error).__name__}: {error}); {UNTIL_LOOKED_AT}"
            ) from error

    def _add(self, row: Row) -> None:
        """Adds one row to the account.

        Raises:
          KeyError, TypeError, ValueError: if it lacks a field, names a row that is not there, or is
            of an unknown kind.
        """
        number = row["sequence"]
        match row["kind"]:
            case "opened":
                self._check_population(row["plan"])
                hidden, window = row.get("examples"), row.get("window")
                self._runs[number] = Run(
                    row=row,
                    ledger=self._name,
                    trust=row["trust"],
                    cost=cost_from_record(row["cost"]),
                    examples=hidden and ExampleCost.from_record(hidden),
                    window=window and ReleaseWindow.from_record(window),
                )
            case "charge":
                charge, run = self._charge_of(row), self._runs[row["opened"]]
                run.charged += 1
                run.reached = max(run.reached, charge.round + 1)
                self._charges[number] = row
            case "outcome":
                run = self._runs[self._charges[row["charge"]]["opened"]]
                before = self._outcomes.get(row["charge"], {"completed": False})
                # A replay may end otherwise than the round did before: its outcome replaces the
                # first.
                run.completed += row["completed"] - before["completed"]
                self._outcomes[row["charge"]] = row
            case "recovered":
                if self._runs:  # before the first plan nothing can have been charged
                    # Nobody can read whose charge the line was; the run that was opened last pays.
                    last = self._runs[max(self._runs)]
                    last.charged += 1
                    last.reached = last.cost.planned  # nor of which round
            case unknown:
                raise ValueError(f"unknown kind {unknown!r}")

    def _check_population(self, plan: Row) -> None:
        """Refuses a plan for another population than this ledger's."""
        for name in ("population", "unit"):
            if plan[name] != getattr(self._plan, name):
                raise ScenarioError(
                    f"{self._name} is the ledger of another population: its {name} is "
                    f"{plan[name]!r}, the plan's is {getattr(self._plan, name)!r}"
                )


def plan_of(row: Row, name: str) -> PrivacyPlan:
    """The plan of a row that opened a run.

    Raises:
      LedgerDamaged: if this version of fedspeech knows no such plan.
    """
    try:
        fields: dict[str, Any] = dict(row["plan"])
        infinite = dict.fromkeys(
            (n for n, value in fields.items() if value == "infinite"), math.inf
        )
        return PrivacyPlan(**fields | infinite)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise LedgerDamaged(
            f"{name}, row {row['sequence'] + 1}: its plan is none that this version of fedspeech "
            f"knows: {error}"
        ) from error

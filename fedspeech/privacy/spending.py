"""What the rows of a ledger add up to: who was charged for what, and the price of all of it.

Rounds are priced per opening, also where two have the same plan: phones count their inputs anew in
every run, so two runs of one plan can bring a phone to its quota twice. Examples, where runs hide
them by DP-SGD, are an account of their own: their unit is one example of one phone, so they are
never added to the epsilons of phones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from fedspeech.errors import BudgetExhausted, LedgerDamaged, ScenarioError
from fedspeech.hash_chain import Row
from fedspeech.privacy import examples, guarantee
from fedspeech.privacy.config import Mechanism
from fedspeech.privacy.events import RoundCost, cost_from_record
from fedspeech.privacy.examples import ExampleCost, ExampleGuarantee
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import rounded_up
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import REHEARSAL_NOTICE

Purpose = Literal["training", "tuning", "evaluation", "analytics"]
"""What a run on a population is for."""

UNTIL_LOOKED_AT = "nothing is released on this population until somebody has looked"


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


class Spending:
    """What a population has spent, as far as its rows were read."""

    def __init__(
        self, name: str, plan: PrivacyPlan, noise_source: Literal["os", "rehearsal"]
    ) -> None:
        """Starts with no row.

        Args:
          name: of the ledger, for errors.
          plan: of the run that asks.
          noise_source: of that run.
        """
        self._name, self._plan, self._noise_source = name, plan, noise_source
        # By sequence number of the `opened` row.
        self._charges: dict[int, int] = {}
        self._costs: dict[int, RoundCost] = {}
        self._examples: dict[int, ExampleCost] = {}
        self._trust: dict[int, str] = {}
        self._latest = self._own = -1
        self._rids: set[str] = set()
        self._opened: dict[int, Row] = {}
        self._charge_rows: dict[int, Row] = {}
        self._outcomes: dict[int, Row] = {}  # by sequence number of the charge

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs on this population, in order."""
        return tuple(
            Run(
                opened=opened,
                run_id=row["run_id"],
                purpose=row["purpose"],
                plan=plan_of(row, self._name),
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

    def example_guarantee(self) -> ExampleGuarantee | None:
        """What one example of a phone is promised by all runs that hid it; None if none did.

        Each that was charged counts at its quota; the run that asks counts before it is charged.
        """
        return examples.price(
            [c for n, c in self._examples.items() if n == self._own or self._charges.get(n)]
        )

    def _charge_of(self, row: Row) -> Charge:
        return Charge(
            sequence=row["sequence"],
            round=row["round"],
            attempt=row["attempt"],
            rid=bytes.fromhex(row["rid"]),
        )

    def _affordable(self, round_number: int, rounds: int = 1) -> Guarantee:
        """Returns what would be spent with so many more rounds, or refuses them."""
        price = self._price(extra=rounds)
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
        match row["kind"]:
            case "opened":
                self._check_population(row["plan"])
                self._latest = row["sequence"]
                self._opened[self._latest] = row
                self._costs[self._latest] = cost_from_record(row["cost"])
                self._trust[self._latest] = row["trust"]
                if "examples" in row:
                    self._examples[self._latest] = ExampleCost.from_record(row["examples"])
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
                    f"{self._name} is the ledger of another population: its {name} is "
                    f"{plan[name]!r}, the plan's is {getattr(self._plan, name)!r}"
                )


def plan_of(row: Row, name: str) -> PrivacyPlan:
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

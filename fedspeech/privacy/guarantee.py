"""Two epsilons and everything that must stand next to them.

An epsilon without its adversary, unit, relation, delta, accountant, rounds and trust assumption is
a defect, so there is no way to obtain one alone: pricing gives a `Guarantee`, and ledger, rows,
summary and card store what `Guarantee.to_record` makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedspeech.errors import require
from fedspeech.privacy import adversary_views
from fedspeech.privacy.adversary_views import Spent
from fedspeech.privacy.config import Mechanism, Unit
from fedspeech.privacy.events import rebuilt
from fedspeech.privacy.sizing import PlanSizing

_EPSILONS = ("epsilon_release", "epsilon_server")


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What a phone is promised, against whom, and on what condition.

    Attributes:
      epsilon_release: against somebody who reads every published model.
      epsilon_server: against the server, which knows who took part; simulated under "ideal".
      delta: of both, bad events included.
      unit: whose whole contribution is protected.
      relation_release: neighboring relation of `epsilon_release`: "add/remove", "replace",
        "zero-out" or "none".
      relation_server: "zero-out" (what a phone said, not that it took part), "replace" (likewise,
        against anything else it could have said) or "none".
      amplified: whether `epsilon_release` counts on the secrecy of who took part.
      accountant: how it was computed.
      rounds: rounds charged, failed ones included.
      max_participations: participations at which a phone is priced at most when no sampling is
        counted on.
      trust: who must be honest, in words.
      failure_probability: of what the accountant's argument leaves out, all rounds.
      secure_aggregation: how sums were taken: "masked" or "ideal".
      threat_model: whom the masked protocol was made to withstand: "malicious" or "semi_honest".
      mechanism: where noise was added.
      reason: why the relation is weaker than participation would give; empty if it is not.

    Raises:
      ValueError: if an epsilon or delta is no such number.
    """

    epsilon_release: float
    epsilon_server: float
    delta: float
    unit: Unit
    relation_release: str
    relation_server: str
    amplified: bool
    accountant: str
    rounds: int
    max_participations: int
    trust: str
    failure_probability: float
    mechanism: Mechanism
    secure_aggregation: str
    threat_model: str
    reason: str

    def __post_init__(self) -> None:
        """Checks the figures, also of a record that was read back."""
        for name in _EPSILONS:
            value = getattr(self, name)
            require(value >= 0, f"{name} must be a number from 0", **{name: value})
        require(0 <= self.delta <= 1, "delta must be in [0, 1]", delta=self.delta)

    def to_record(self, infinite: str = "Infinity") -> dict[str, Any]:
        """Returns the guarantee as plain data for JSON.

        Args:
          infinite: what is written for an infinite epsilon.
        """
        record = dict(vars(self))
        return record | {name: infinite for name in _EPSILONS if math.isinf(record[name])}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Guarantee:
        """Rebuilds a guarantee.

        Raises:
          ValueError: if a field is missing, unknown or out of range.
        """
        return rebuilt(cls, record, epsilon_release=float, epsilon_server=float)


def price(spent: Spent, plan: PlanSizing, *, trust: str, **weaker: str) -> Guarantee:
    """Composes rounds, of one plan or of several, into a guarantee.

    `fedspeech.privacy.adversary_views` says how; the release is never priced below what a phone
    that took part at its participation limit pays without any sampling.

    Args:
      spent: the cost of a round and the number of such rounds, failed ones included.
      plan: that asks: at its delta, for its unit.
      trust: who must be honest, in words.
      **weaker: settings of other plans among the rounds that promise less than this plan's.

    Raises:
      ValueError: if a number of rounds is negative.
    """
    counts = [rounds for _, rounds in spent]
    require(min(counts) >= 0, "rounds must not be negative", rounds=counts)
    release = adversary_views.release(spent, plan.delta)
    against_server = adversary_views.server(spent, plan.delta)
    names = ("mechanism", "secure_aggregation", "threat_model")
    settings: dict[str, Any] = {name: getattr(plan, name) for name in names} | weaker
    reason = release.reason
    if settings["mechanism"] == "none":
        reason = reason or "no noise was added"
    return Guarantee(
        epsilon_release=release.epsilon,
        epsilon_server=against_server.epsilon,
        delta=plan.delta,
        unit=plan.unit,
        relation_release=release.relation,
        relation_server=against_server.relation,
        amplified=release.amplified,
        accountant=_NAMES[release.claim],
        rounds=sum(counts),
        max_participations=sum(cost.max_participations for cost, rounds in spent if rounds)
        or max(cost.max_participations for cost, _ in spent),
        trust=trust,
        failure_probability=release.failure_probability,
        reason=f"{reason}." if reason else "",
        **settings,
    )


_NAMES = {
    "rdp": "Renyi divergences, the noise of absent phones included (dp-accounting)",
    "pld": "privacy loss distributions (dp-accounting)",
}

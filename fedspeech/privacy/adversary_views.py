"""What each adversary's view of a population's rounds costs a phone, bad events included.

Bad events (a phone's participation limit runs out, one phone decides whether a round takes place, a
cap is reached, samplers miss their ideals) have a total probability B over all rounds, and the
delta that is printed covers them: each accountant is asked at delta - e^eps' B, where eps' is its
answer at 0.9 delta, so that the parts sum to at most delta. Where e^eps' B would exceed a tenth of
delta, or rounds under different neighboring relations meet, no sampling is counted on: what a phone
said is protected, not that it took part (zero-out), at as many rounds as it may join. That figure
may be below the one that was withdrawn, which promised more.

A reader of the models sees less than the server does: every model is computed from sums, cohorts
and aborted rounds that the server sees, without asking a phone again. What holds of the server's
view under "zero-out" or "replace" therefore holds of the reader's (processing an output costs
nothing, Dwork and Roth 2014, Proposition 2.1), and the smaller figure is printed where both protect
the same: "zero-out", which replaces what a phone said by silence, is a case of "replace".

A masking graph that does not protect is drawn with a probability `graph_failure`, which delta pays
for as it is, without e^epsilon: the graph is fixed before a phone sends anything that depends on
its speech, so with such graphs set aside each other one gives (epsilon, delta), and setting them
aside changes any probability by at most their own, the same in both worlds.

Rounds whose noise is correlated are one event together (`CorrelatedGaussian`), whichever of them
were released: a release that is left out takes nothing from the argument for the others. So they
enter an account as one Gaussian, and are counted as the rounds that a phone may join among them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedspeech.privacy import accountant, dp_accounting_bridge
from fedspeech.privacy.binomial_tails import SHARE_OF_DELTA, max_participations_failure
from fedspeech.privacy.dp_accounting_bridge import EpsilonAt, Part
from fedspeech.privacy.events import CorrelatedGaussian, Event, NonPrivate, Relation, RoundCost

Spent = Sequence[tuple[RoundCost, int]]
"""The cost of a round, and how many such rounds were charged, failed ones included."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What one adversary's view costs a phone.

    Attributes:
      epsilons: by accountant, those that are bounds: "rdp" and, where the noise does not depend on
        who takes part, "pld".
      checks: by accountant, those that only stand beside: "analytic", "prv", "opacus_rdp".
      relation: neighboring relation.
      participations: rounds of a phone that are paid for; all rounds where sampling is counted on.
      amplified: whether sampling is counted on.
      failure_probability: of events outside the argument, all rounds, included in delta.
      reason: why the relation is weaker than participation would give; empty if it is not.
    """

    epsilons: Mapping[str, float]
    checks: Mapping[str, float]
    relation: Relation
    participations: int
    amplified: bool
    failure_probability: float
    reason: str = ""

    @property
    def claim(self) -> str:
        """The accountant whose bound is the smallest."""
        return min(self.epsilons, key=lambda name: self.epsilons[name])

    @property
    def epsilon(self) -> float:
        """The smallest bound."""
        return self.epsilons[self.claim]


def server(spent: Spent, delta: float) -> View:
    """Prices the view of the server, which knows who took part: no sampling."""
    graph_failure = sum(rounds * cost.graph_failure for cost, rounds in spent)
    # The server knows who took part in which round, so no sampling counts, and a phone pays for the
    # rounds that it may join.
    given = [(cost.server, cost, rounds) for cost, rounds in spent if rounds]
    relation = _common(cost.server_relation for cost, rounds in spent if rounds) or "zero-out"
    if graph_failure > SHARE_OF_DELTA * delta:
        reason = f"masking graphs fail with probability {graph_failure:.1e}"
        return _without_bound(_joined(spent), reason)
    return _unsampled(given, relation, _sampler_failure(spent), delta - graph_failure)


def release(spent: Spent, delta: float) -> View:
    """Prices the view of a reader of the models: its own argument, or the server's if smaller.

    Raises:
      ValueError: if a cohort cap with noise on phones is reached too often to be a bad event.
    """
    own, of_server = _release(spent, delta), server(spent, delta)
    if of_server.epsilon >= own.epsilon or of_server.relation not in _IMPLIES[own.relation]:
        return own
    relation = of_server.relation if own.relation == "none" else own.relation
    return dataclasses.replace(of_server, relation=relation, reason=own.reason)


# By the relation of a reader's view: those of the server's view that promise as much or more.
_IMPLIES: Mapping[Relation, tuple[Relation, ...]] = {
    "add/remove": (),
    "zero-out": ("zero-out", "replace"),
    "replace": ("replace",),
    "none": ("zero-out", "replace"),
}


def _release(begun: Spent, delta: float) -> View:
    """Prices a reader's own view; zero-out where bad events do not fit."""
    # A run that was charged for nothing weakens the relation of no other; before the first charge
    # it is all there is.
    relevant = [(cost, rounds) for cost, rounds in begun if rounds] or begun
    relation = _common(cost.release_relation for cost, _ in relevant)
    spent = [(cost, rounds) for cost, rounds in relevant if rounds]
    if relation == "none":
        return _without_bound(sum(rounds for _, rounds in spent), "")
    if relation is None:
        return _zero_out(
            spent, delta, "rounds of different neighboring relations add up to none of them"
        )
    parts = [_part(cost.release, _paid(cost, rounds), cost) for cost, rounds in spent]
    prices, failing = _accountants(parts), _outside_argument(begun, relation)
    if epsilons := _charged(prices, failing, delta):
        reason = "what an absent phone's missing Skellam noise tells is not derived"
        return View(
            epsilons=epsilons, checks=_exact(parts, delta), relation=relation,
            participations=sum(_paid(cost, rounds) for cost, rounds in spent),
            amplified=any(cost.sampled for cost, _ in relevant),
            failure_probability=min(1.0, failing),
            reason=reason if relation == "zero-out" else "",
        )  # fmt: skip
    withdrawn = min((at((1 - SHARE_OF_DELTA) * delta) for at in prices.values()), default=math.inf)
    if math.isinf(withdrawn):
        reason = "there are too few honest shares for a bound against the missing noise of a phone"
        return _zero_out(spent, delta, reason)
    cap_failure = _cap_failure(spent)
    if cap_failure > 0 and not _fits(withdrawn, cap_failure, delta):
        raise ValueError(
            "cohort_cap with noise on phones must hardly ever be reached: its probability over all "
            f"rounds is {cap_failure:.1e}, and e^epsilon times that exceeds a tenth of delta; "
            "raise the cap or leave it out"
        )
    reason = (
        "events outside the argument (a phone's participation limit, one phone deciding a round) "
        f"have probability {min(1.0, failing):.1e}, and e^epsilon times that exceeds a tenth of "
        "delta"
    )
    return _zero_out(spent, delta, reason)


def _outside_argument(begun: Spent, relation: Relation) -> float:
    """Probability of all events that the argument of a release leaves out, all rounds."""
    failing = _sampler_failure(begun) + _cap_failure(begun)
    for cost, rounds in begun:
        if cost.sampled:
            # A participation limit that runs out parts both worlds from the argument under
            # "replace".
            ends = 2 if relation == "replace" else 1
            failing += ends * max_participations_failure(
                rounds, cost.probability, cost.max_participations
            )
    if relation != "zero-out":
        for cost, rounds in begun:
            # Abandoned rounds were not charged, and readers see them all the same.
            failing += _paid(cost, max(rounds, cost.planned)) * cost.minimum_failure
    return failing


def _zero_out(spent: Spent, delta: float, reason: str) -> View:
    """Protects what a phone said, at all rounds it may join; nothing where there is no bound."""
    given = [(cost.given, cost, rounds) for cost, rounds in spent]
    plain = _unsampled(given, "zero-out", _sampler_failure(spent), delta)
    if math.isinf(plain.epsilon):
        return plain
    return dataclasses.replace(plain, checks={}, reason=reason)


def _unsampled(
    given: Sequence[tuple[Event, RoundCost, int]], relation: Relation, failing: float, delta: float
) -> View:
    """Prices a view that counts on no sampling: events, each with its cost and charged rounds."""
    joined = _joined([(cost, rounds) for _, cost, rounds in given])
    if any(isinstance(event, NonPrivate) for event, _, _ in given):
        return _without_bound(joined, "")
    parts = [
        _part(event, min(rounds, cost.max_participations), cost) for event, cost, rounds in given
    ]
    epsilons = _charged(_accountants(parts), failing, delta)
    if not epsilons:
        reason = _beyond_precision(failing, delta)
        return _without_bound(joined, reason, failing)
    return View(
        epsilons=epsilons, checks=_exact(parts, delta), relation=relation,
        participations=joined, amplified=False,
        failure_probability=min(1.0, failing),
    )  # fmt: skip


def _beyond_precision(failing: float, delta: float) -> str:
    """Why noise that is priced has no bound: its epsilon is more than the samplers carry."""
    if failing == 0:
        return "epsilon is too large to be computed"
    most = math.log(SHARE_OF_DELTA * delta) - math.log(failing)
    return (
        f"epsilon would be above {max(0, math.floor(most))}, where the precision of the noise "
        f"ends: samplers miss their ideals with probability {min(1.0, failing):.1e}, and e^epsilon "
        "times that exceeds a tenth of delta"
    )


def _part(event: Event, paid: int, cost: RoundCost) -> Part:
    """An event as often as it is paid for; rounds of correlated noise are one Gaussian together."""
    if isinstance(event, CorrelatedGaussian):
        return event.together(cost.max_participations), 1
    return event, paid


def _joined(spent: Spent) -> int:
    """Rounds among these that a phone may join."""
    return sum(min(rounds, cost.max_participations) for cost, rounds in spent)


def _without_bound(joined: int, reason: str, failing: float = 0.0) -> View:
    return View(
        epsilons={"rdp": math.inf, "pld": math.inf}, checks={}, relation="none",
        participations=joined, amplified=False,
        failure_probability=min(1.0, failing), reason=reason,
    )  # fmt: skip


def _common(relations: Iterable[Relation]) -> Relation | None:
    """The relation that all rounds share; "none" if one of them promises nothing."""
    found = set(relations)
    if "none" in found:
        return "none"
    return found.pop() if len(found) == 1 else None


def _paid(cost: RoundCost, rounds: int) -> int:
    """How often the release of a round is paid for."""
    return rounds if cost.sampled else min(rounds, cost.max_participations)


def _sampler_failure(spent: Spent) -> float:
    """In both worlds the samplers are off their ideals, hence twice."""
    return sum(2 * _drawn(cost, rounds) * cost.sampler_failure for cost, rounds in spent)


def _drawn(cost: RoundCost, rounds: int) -> int:
    """Rounds whose noise was drawn; correlated noise of a round takes that of all before."""
    if rounds > 0 and isinstance(cost.given, CorrelatedGaussian):
        return cost.given.rounds
    return rounds


def _cap_failure(spent: Spent) -> float:
    return min(1.0, sum(rounds * cost.cap_failure for cost, rounds in spent))


def _exact(parts: Sequence[Part], delta: float) -> dict[str, float]:
    """The analytic epsilon of a plain Gaussian; nothing for others or beyond floating point."""
    if len(parts) != 1:
        return {}
    exact = dp_accounting_bridge.analytic(*parts[0])
    found = math.inf if exact is None else exact(delta)
    return {"analytic": found} if math.isfinite(found) else {}


def _accountants(parts: Sequence[Part]) -> dict[str, EpsilonAt]:
    """Every accountant that has a bound on these rounds together, as a function of delta."""
    if not parts:
        return {"rdp": lambda delta: 0.0}
    found: dict[str, EpsilonAt] = {}
    if renyi := dp_accounting_bridge.rdp(parts):
        found["rdp"] = renyi
    else:
        curve = np.asarray(sum(count * accountant.rdp(event) for event, count in parts))
        if not math.isinf(curve.min()):
            found["rdp"] = lambda delta: accountant.epsilon(curve, delta)
    if distribution := dp_accounting_bridge.pld(parts):
        found["pld"] = distribution
    return found


def _charged(prices: Mapping[str, EpsilonAt], failing: float, delta: float) -> dict[str, float]:
    """Epsilons at delta with bad events inside; those where they do not fit are left out.

    With eps' the answer at .9 delta and e^eps' B <= delta / 10, the answer at delta - e^eps' B is
    at most eps', so that its own e^eps B is covered.
    """
    found = {}
    for name, at in prices.items():
        if failing == 0:
            found[name] = at(delta)
            continue
        above = at((1 - SHARE_OF_DELTA) * delta)
        if math.isfinite(above) and _fits(above, failing, delta):
            found[name] = at(delta - math.exp(above + math.log(failing)))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _fits(epsilon: float, failing: float, delta: float) -> bool:
    """Whether e^epsilon * failing stays within its share of delta, without overflow."""
    return failing == 0 or epsilon + math.log(failing) <= math.log(SHARE_OF_DELTA * delta)

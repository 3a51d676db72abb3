"""What a plan costs: two epsilons, each by every accountant that has a price, and their basis.

    found = price(fill(mechanism="central", participation="poisson", population=10**9, cohort=1000,
                       rounds=500, noise_multiplier=1.0))
    print(found.release.epsilon, found.release.relation, found.server.epsilon)

The plan is the one that a run would obey, and `PrivacyPlan.guarantee` says the same:
`fedspeech.privacy.adversary_views` composes and charges bad events for both.

Doubts, and the safe side that was taken:

- `limited` participation with noise on phones is priced as presence against absence, the missing
  noise included, also where only zero-out can be claimed of it in the end. With Skellam noise what
  its absence tells is not derived, so only zero-out is claimed.
- `limited` add/remove needs a model of the other phones: the schedule is public, and each of them
  answers but for `dropout_rate`. A floor that one phone may decide counts as a bad event.
- A vector that phones clip in floating point and round to integers is a little longer than its clip
  norm. With noise on phones that is in the price; with `central` noise the multiplier is over the
  norm as it is after rounding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fedspeech.privacy import accountant, adversary_views
from fedspeech.privacy.adversary_views import View
from fedspeech.privacy.events import Gaussian, PoissonSampled
from fedspeech.privacy.filling import Filled
from fedspeech.privacy.plan import PrivacyPlan


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a plan costs.

    Attributes:
      plan: that was priced.
      assumed: names of its fields that were filled in.
      release: the view of somebody who reads every published model.
      server: the view of the server.
    """

    plan: PrivacyPlan
    assumed: frozenset[str]
    release: View
    server: View


def price(filled: Filled, *, cross_check: bool = False) -> Price:
    """Prices all rounds of a plan.

    Args:
      filled: the plan, and what was filled in.
      cross_check: also ask Opacus, which takes seconds to import.

    Raises:
      ValueError: if a cohort cap with noise on phones is reached too often to be a bad event.
    """
    plan = filled.plan
    rounds = [(plan.cost, plan.rounds)]
    release = adversary_views.release(rounds, plan.delta)
    if cross_check and release.relation != "zero-out":
        release = dataclasses.replace(release, checks={**release.checks, **_opacus(plan)})
    return Price(
        plan=plan,
        assumed=filled.assumed,
        release=release,
        server=adversary_views.server(rounds, plan.delta),
    )


def spent(plan: PrivacyPlan, joined: int) -> View:
    """Prices what a phone has spent that joined `joined` rounds: nothing is left to chance.

    Against the server; under `central`, where the server has everything, against a reader of the
    models who knows in which rounds it was.

    Args:
      plan: of the rounds.
      joined: rounds in which the phone sent anything.

    Raises:
      ValueError: if it joined no round, or more than it may.
    """
    if not 1 <= joined <= plan.participations:
        raise ValueError(
            f"joined must be from 1 to the rounds that a phone may join "
            f"({plan.participations}), got joined={joined}"
        )
    cost = dataclasses.replace(plan.cost, quota=joined)
    if plan.central:
        cost = dataclasses.replace(cost, server=cost.given, server_relation="zero-out")
    return adversary_views.server([(cost, plan.rounds)], plan.delta)


def _opacus(plan: PrivacyPlan) -> dict[str, float]:
    """What Opacus says, at the full delta with bad events left out: beside the claim, never it."""
    event = plan.cost.release
    if not (isinstance(event, PoissonSampled) and isinstance(event.event, Gaussian)):
        return {}
    return accountant.opacus_checks(
        probability=event.probability,
        noise_multiplier=event.event.noise_multiplier,
        rounds=plan.rounds,
        delta=plan.delta,
    )

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
import math
from dataclasses import dataclass

from fedspeech.privacy import accountant, adversary_views, binomial_tails
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


def assumptions(found: Price) -> list[str]:
    """Returns everything the two epsilons stand on, one sentence each."""
    plan = found.plan
    return [
        *_about_participation(plan, found.assumed),
        *_about_noise(plan, found.assumed),
        *_about_floors(plan, found.assumed),
        "Readers of the models see no cohort size, survivor count, identity, timing or reason of "
        "an abort, and are neither the server nor members of a cohort.",
        "One phone is one user with all its rounds; a person with two phones spends twice.",
        "Every release to this population is in this account: training, statistics, evaluation, "
        "tuning, failed rounds.",
    ]


def warnings(found: Price) -> list[str]:
    """Returns what a reader must not overlook."""
    if found.plan.mechanism == "none":
        return ["No noise is added: epsilon is infinite against everybody."]
    lines = [
        f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} infinite: {reason}."
        for reason, names in _infinite(found).items()
    ]
    if found.release.reason and math.isfinite(found.release.epsilon):
        lines.append(
            "epsilon_release protects what a phone said, not that it took part (zero-out), "
            f"because {found.release.reason}."
        )
    return lines


def _infinite(found: Price) -> dict[str, list[str]]:
    """Which epsilons are infinite, by the reason."""
    names: dict[str, list[str]] = {}
    for name, view in (("epsilon_release", found.release), ("epsilon_server", found.server)):
        if view.reason and math.isinf(view.epsilon):
            names.setdefault(view.reason, []).append(name)
    return names


def _about_participation(plan: PrivacyPlan, assumed: frozenset[str]) -> list[str]:
    q, n = plan.participation_probability, plan.expected_cohort
    said = {
        "poisson": f"Every phone joins each round by a coin of its own with probability {q:.4g} "
        f"(expected cohort {n:,.12g}), whatever it holds and whatever happened before.",
        "fixed_size": f"Every cohort is a uniformly random set of {round(n):,} of "
        f"{plan.population:,} phones, drawn afresh each round.",
        "limited": f"Anybody may know who takes part; no phone joins more than "
        f"{plan.participations:,} of {plan.rounds:,} rounds, and none joins because another does "
        "or does not.",
    }[plan.participation]
    lines = [said]
    if plan.availability < 1:
        lines.append(
            f"At least {plan.availability:.1%} of the population is there whenever a round "
            "begins, each phone for itself and whatever its data; some more often than others, and "
            "everybody may know which. Cohort and floor count the fewest. Being away buys nothing: "
            "a phone joins with at most the probability of its coin, and only the coin amplifies."
        )
    if plan.participation != "limited" and plan.participations < plan.rounds:
        given = " (chosen here)" if "quota" in assumed else ""
        stopped = binomial_tails.quota_failure(plan.rounds, q, plan.participations)
        lines.append(
            f"A phone stops for good after {plan.participations:,} rounds{given}; its chance of "
            f"being stopped, {stopped:.1e}, is a bad event."
        )
    return lines


def _about_noise(plan: PrivacyPlan, assumed: frozenset[str]) -> list[str]:
    lines = []
    if plan.on_phones:
        lines.append(
            f"The number of coordinates was not given: {plan.dimension:,} are assumed"
            if "dimension" in assumed
            else f"A delta has {plan.dimension:,} coordinates"
        )
        lines[0] += f", {plan.padded_dimension:,} as it travels."
        if plan.participation == "poisson" or (
            plan.participation == "limited" and plan.mechanism != "skellam"
        ):
            lines.append(
                "A phone that stays away withholds its noise too; what the variance of the sum "
                "tells of that is in the price."
            )
    if plan.on_phones:
        ring = plan.ring
        lines.append(
            f"Integers mod 2^{ring.bits}; rounding raises the sensitivity by "
            f"{100 * (ring.sensitivity / ring.norm - 1):.2f} %; noise of one phone has stddev "
            f"{plan.stddev:.4g} in integer units."
        )
        if plan.secure_aggregation == "masked":
            lines.append(
                "The server sees masked sums only. That a masking graph does not protect is "
                f"counted in epsilon_server, {plan.cost.graph_failure:.1e} a round."
            )
        elif plan.mechanism != "local":
            lines.append(
                "The server sees sums only: the secure sum is taken as ideal, and the chance that "
                "its protocol fails is not in epsilon_server."
            )
    if plan.mechanism == "central":
        lines.append(
            "The server adds a Gaussian that is rounded to the grid on which phones send integers: "
            "a rounded Gaussian mechanism, so prices of the continuous one hold. The multiplier is "
            "over the norm of a vector after rounding."
        )
    if plan.mechanism == "local":
        lines.append("The server may see each phone's noisy vector: no secure sum is assumed.")
    if plan.participation == "fixed_size" and plan.on_phones:
        lines.append("All phones are equally likely to drop out.")
    return lines


def _about_floors(plan: PrivacyPlan, assumed: frozenset[str]) -> list[str]:
    lines = []
    given = " (chosen here)" if "min_survivors" in assumed else ""
    lines.append(
        f"No round begins with fewer than {plan.min_cohort:,} phones and no sum of fewer than "
        f"{plan.min_survivors:,} answers is opened{given}; rounds below that are abandoned, and "
        "never drawn again."
    )
    lines.append(
        f"{plan.dropout_rate:.0%} of those who would come drop out, each for itself and whatever "
        "its data; that one phone decides a round is a bad event of probability "
        f"{plan.cost.floor_failure:.1e} per round."
    )
    if plan.cohort_cap is not None:
        lines.append(
            f"Of more than {plan.cohort_cap:,} that come, a random {plan.cohort_cap:,} are let "
            + ("in (priced)." if not plan.on_phones else "in (a bad event).")
        )
    return lines

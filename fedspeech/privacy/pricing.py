"""What a plan costs, by every accountant that has a price, and what stands around that price.

    found = price(fill(mechanism="central", participation="poisson", population=10**9, cohort=1000,
                       rounds=500, noise_multiplier=1.0))
    print(found.release.epsilon, found.release.relation, found.server.epsilon)

The plan is the one that a run would obey, and `PrivacyPlan.guarantee` says the same:
`fedspeech.privacy.adversary_views` composes and charges bad events for both.

Doubts, and the safe side that was taken:

- `round_robin` participation with noise on phones is priced as presence against absence, the
  missing noise included, also where only zero-out can be claimed of it in the end. With Skellam
  noise what its absence tells is not derived, so only zero-out is claimed.
- `round_robin` add/remove needs a model of the other phones: the schedule is public, and each of
  them answers but for `dropout_rate`. A minimum that one phone may decide counts as a bad event.
- A vector that phones clip in floating point and round to integers is a little longer than its clip
  norm. With noise on phones that is in the price; with `central` noise the multiplier is over the
  norm as it is after rounding.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fedspeech.errors import require
from fedspeech.privacy import accountant, adversary_views
from fedspeech.privacy.adversary_views import View
from fedspeech.privacy.events import (
    DiscreteGaussianSum,
    Event,
    Gaussian,
    PoissonSampled,
    Presence,
    SkellamSum,
    WithoutReplacement,
)
from fedspeech.privacy.filling import Filled
from fedspeech.privacy.plan import PrivacyPlan

# Share of the cohort that drops out, and share that colludes.
LOSSES = ((0.0, 0.0), (0.1, 0.0), (0.2, 0.1), (0.4, 0.1))


@dataclass(frozen=True, kw_only=True)
class Price(Filled):
    """What a plan costs, in the view of a reader of every published model and of the server."""

    release: View
    server: View


def price(filled: Filled, *, cross_check: bool = False) -> Price:
    """Prices all rounds of a plan; with `cross_check` also by Opacus, which takes seconds.

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

    Raises:
      ValueError: if it joined no round, or more than it may.
    """
    most = plan.participations
    rule = f"joined must be from 1 to the rounds that a phone may join ({most})"
    require(1 <= joined <= most, rule, joined=joined)
    cost = dataclasses.replace(plan.cost, max_participations=joined)
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


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What noise that was sized for the expected cohort would cost if some of it never came.

    Attributes:
      dropout: share of the expected cohort that never answers.
      colluding: share that tells its noise.
      noise_multiplier: that is left.
      epsilon_release: by Renyi divergences, bad events left out.
    """

    dropout: float
    colluding: float
    noise_multiplier: float
    epsilon_release: float


def curve(found: Price) -> list[Price]:
    """Prices the same plan at other numbers of rounds; nothing else changes."""
    plan = found.plan
    counts = {max(1, plan.rounds * part // 8) for part in (1, 2, 4)} | {2 * plan.rounds}
    others = [
        price(Filled(plan=_at(plan, rounds), assumed=found.assumed))
        for rounds in sorted(counts - {plan.rounds})
    ]
    return sorted([*others, found], key=lambda each: each.plan.rounds)


def losses(plan: PrivacyPlan) -> list[Loss]:
    """Prices noise sized for those expected, for mechanisms where phones add it.

    This is what `min_reporting` is for: sized for the fewest honest reporting phones, the noise of
    a sum that is opened is never below the one that was priced.
    """
    given, rows = plan.cost.given, []
    release = plan.cost.release
    count = plan.participations if plan.participation == "round_robin" else plan.rounds
    if not isinstance(given, (DiscreteGaussianSum, SkellamSum)):
        return []
    expected = plan.expected_in_sum
    for dropout, colluding in LOSSES:
        left = int(expected * (1 - dropout - colluding) + 1e-9)
        if left < 1:
            continue
        # Shares sized for `expected` where `honest` were certain.
        stddev = given.stddev * math.sqrt(plan.honest / expected)
        reduced = dataclasses.replace(given, stddev=stddev, shares=left)
        event: Event = reduced
        if isinstance(reduced, DiscreteGaussianSum):
            if isinstance(release, PoissonSampled):
                event = dataclasses.replace(release, event=reduced)
            elif isinstance(release, Presence):
                event = Presence(event=reduced)
        if isinstance(release, WithoutReplacement):
            event = dataclasses.replace(release, event=reduced)
        rows.append(
            Loss(
                dropout=dropout,
                colluding=colluding,
                noise_multiplier=_multiplier(plan) * math.sqrt(left / expected),
                epsilon_release=accountant.epsilon(count * accountant.rdp(event), plan.delta),
            )
        )
    return rows


def account(plan: PrivacyPlan) -> list[tuple[int, View]]:
    """What one phone has spent after it joined 1, 2, 5, 10, ... rounds, up to all it may join."""
    steps = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, plan.participations}
    return [(k, spent(plan, k)) for k in sorted(steps) if k <= plan.participations]


def missing_noise(plan: PrivacyPlan) -> tuple[float, float] | None:
    """The d / (2 m^2) that an absent phone's noise adds beside the 1 / z^2 of what it says.

    Returns:
      Both terms, as squared ratios of signal to noise in one round; nothing where the noise does
      not depend on who comes.
    """
    if not isinstance(plan.cost.release, (PoissonSampled, Presence)) or not plan.on_phones:
        return None
    return plan.padded_dimension / (2 * plan.honest**2), 1 / _multiplier(plan) ** 2


def _multiplier(plan: PrivacyPlan) -> float:
    """Stddev of the fewest honest shares together, over the clip norm."""
    if plan.mechanism == "local":
        return plan.noise_multiplier * math.sqrt(plan.honest)
    return plan.noise_multiplier


def _at(plan: PrivacyPlan, rounds: int) -> PrivacyPlan:
    """The same plan for another number of rounds; turns come as often as before."""
    counts = plan.participations < plan.rounds
    return dataclasses.replace(
        plan,
        rounds=rounds,
        max_participations=plan.max_participations if counts else rounds,
        participation_window=plan.window
        if counts and plan.participation == "round_robin"
        else None,
    )

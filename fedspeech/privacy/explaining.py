"""What stands around a price: other rounds, fewer noise shares, one phone's account."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fedspeech.privacy import accountant
from fedspeech.privacy.adversary_views import View
from fedspeech.privacy.events import (
    DiscreteGaussianSum,
    Event,
    PoissonSampled,
    Presence,
    SkellamSum,
    WithoutReplacement,
)
from fedspeech.privacy.filling import Filled
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.pricing import Price, price, spent

# Share of the cohort that drops out, and share that colludes.
LOSSES = ((0.0, 0.0), (0.1, 0.0), (0.2, 0.1), (0.4, 0.1))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What noise that was sized for the expected cohort would cost if some of it never came.

    Attributes:
      dropout: share of the expected cohort that never answers.
      colluding: share that tells its noise.
      noise_multiplier: that is left.
      epsilon: by Renyi divergences, bad events left out; against readers of the models.
    """

    dropout: float
    colluding: float
    noise_multiplier: float
    epsilon: float


def curve(found: Price) -> list[Price]:
    """Prices the same plan at other numbers of rounds, floor and quota as they are."""
    plan = found.plan
    counts = {max(1, plan.rounds * part // 8) for part in (1, 2, 4)} | {2 * plan.rounds}
    others = [
        price(Filled(plan=_at(plan, rounds), assumed=found.assumed))
        for rounds in sorted(counts - {plan.rounds})
    ]
    return sorted([*others, found], key=lambda each: each.plan.rounds)


def losses(plan: PrivacyPlan) -> list[Loss]:
    """Prices noise sized for those expected, for mechanisms where phones add it.

    This is what `min_survivors` is for: sized for the fewest honest survivors, the noise of a sum
    that is opened is never below the one that was priced.
    """
    given, rows = plan.cost.given, []
    release = plan.cost.release
    count = plan.participations if plan.participation == "limited" else plan.rounds
    if not isinstance(given, (DiscreteGaussianSum, SkellamSum)):
        return []
    expected = plan.expected_cohort
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
                epsilon=accountant.epsilon(count * accountant.rdp(event), plan.delta),
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
        quota=plan.quota if counts else rounds,
        quota_window=plan.window if counts and plan.participation == "limited" else None,
    )

"""What stands around a price: other rounds, fewer noise shares, one phone's account."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fedspeech.privacy import accountant
from fedspeech.privacy.events import (
    DiscreteGaussianSum,
    Event,
    PoissonSampled,
    Presence,
    SkellamSum,
    WithoutReplacement,
)
from fedspeech.privacy.pricing import Price, price, spent
from fedspeech.privacy.terms import Terms
from fedspeech.privacy.views import View

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
    """Prices the same terms at other numbers of rounds, floor and quota as they are."""
    terms = found.terms
    counts = {max(1, terms.rounds * part // 8) for part in (1, 2, 4)} | {2 * terms.rounds}
    others = [price(_at(terms, rounds)) for rounds in sorted(counts - {terms.rounds})]
    return sorted([*others, found], key=lambda each: each.terms.rounds)


def losses(terms: Terms) -> list[Loss]:
    """Prices noise sized for those expected, for mechanisms where phones add it.

    This is what `min_survivors` is for: sized for the fewest honest survivors, the noise of a sum
    that is opened is never below the one that was priced.
    """
    given, rows = terms.given, []
    release = terms.cost.release
    count = terms.participations if terms.participation == "limited" else terms.rounds
    if not isinstance(given, (DiscreteGaussianSum, SkellamSum)):
        return []
    expected = terms.expected_cohort
    for dropout, colluding in LOSSES:
        left = int(expected * (1 - dropout - colluding) + 1e-9)
        if left < 1:
            continue
        # Shares sized for `expected` where `honest` were certain.
        stddev = given.stddev * math.sqrt(terms.honest / expected)
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
                noise_multiplier=_multiplier(terms) * math.sqrt(left / expected),
                epsilon=accountant.epsilon(count * accountant.rdp(event), terms.target_delta),
            )
        )
    return rows


def account(terms: Terms) -> list[tuple[int, View]]:
    """What one phone has spent after it joined 1, 2, 5, 10, ... rounds, up to all it may join."""
    steps = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, terms.participations}
    return [(k, spent(terms, k)) for k in sorted(steps) if k <= terms.participations]


def missing_noise(terms: Terms) -> tuple[float, float] | None:
    """The d / (2 m^2) that an absent phone's noise adds beside the 1 / z^2 of what it says.

    Returns:
      Both terms, as squared ratios of signal to noise in one round; nothing where the noise does
      not depend on who comes.
    """
    if not isinstance(terms.cost.release, (PoissonSampled, Presence)) or not terms.on_phones:
        return None
    return terms.coordinates / (2 * terms.honest**2), 1 / _multiplier(terms) ** 2


def _multiplier(terms: Terms) -> float:
    """Stddev of the fewest honest shares together, over the clip norm."""
    if terms.mechanism == "local":
        return terms.noise_multiplier * math.sqrt(terms.honest)
    return terms.noise_multiplier


def _at(terms: Terms, rounds: int) -> Terms:
    """The same terms for another number of rounds."""
    capped = terms.participations < terms.rounds or terms.max_participations is not None
    return dataclasses.replace(
        terms,
        rounds=rounds,
        min_survivors=terms.floor,
        max_participations=terms.participations if capped else None,
        delta=terms.target_delta,
    )

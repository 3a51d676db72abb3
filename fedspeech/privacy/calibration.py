"""The noise that a budget asks for: a search over plans, with no formula of its own."""

from __future__ import annotations

import dataclasses
import math

from fedspeech.privacy.plan import PrivacyPlan

_MAX_NOISE_MULTIPLIER = 1e4


def noise_for_epsilon(
    plan: PrivacyPlan, epsilon: float, *, relative_tolerance: float = 1e-4
) -> float:
    """Returns the smallest noise multiplier whose planned rounds cost at most `epsilon`.

    Everything else of the plan stays; its own noise multiplier is ignored. The answer has been
    priced by the plan that it belongs to, so it meets epsilon whatever the search assumed.

    Args:
      plan: mechanism "distributed".
      epsilon: bound on epsilon_release after `plan.rounds` rounds.
      relative_tolerance: how far above the smallest the answer may be.

    Raises:
      ValueError: if epsilon is not positive, the plan adds no noise, or no noise is enough, since
        the noise that absent phones withhold tells of them however large it is.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got epsilon={epsilon}")
    if plan.mechanism == "none":
        raise ValueError('mechanism "none" adds no noise, so none can be calibrated')

    def meets(noise_multiplier: float) -> bool:
        try:
            candidate = dataclasses.replace(plan, noise_multiplier=noise_multiplier)
        except ValueError:
            return False  # so little noise per phone that the plan itself refuses
        return candidate.guarantee(plan.rounds).epsilon_release <= epsilon

    high = 1.0
    while not meets(high):
        high *= 2
        if high > _MAX_NOISE_MULTIPLIER:
            floor = dataclasses.replace(plan, noise_multiplier=high / 2).guarantee(plan.rounds)
            raise ValueError(
                f"no noise_multiplier reaches epsilon={epsilon} in rounds={plan.rounds}: even at "
                f"{high / 2:g} epsilon_release is {floor.epsilon_release:.3g} "
                f"({floor.relation_release}); raise min_survivors={plan.min_survivors} or lower "
                f"dimension={plan.dimension}"
            )
    low = high / 2 if high > 1 else 0.0
    while high - low > relative_tolerance * high:
        middle = math.sqrt(low * high) if low else high / 2
        if meets(middle):
            high = middle
        else:
            low = middle
    return high

"""The rules that a `PrivacyPlan` must keep, each with a message that names rule and value."""

from __future__ import annotations

import dataclasses
import math
import re

from fedspeech.errors import is_integer, require
from fedspeech.limits import check_limits
from fedspeech.privacy.config import PlanConfig
from fedspeech.privacy.events import NO_SKELLAM_COIN
from fedspeech.privacy.sizing import MAX_MINIMUM, MIN_STDDEV, RING_BITS, PlanSizing
from fedspeech.secagg.dropouts import share_answering, share_gone
from fedspeech.secagg.protocol import Stage

MOST_GROUPS = 50
_MOST_STDDEVS = 40  # no draw goes further: probability under 2^-1150
_NAMES = frozenset(field.name for field in dataclasses.fields(PlanConfig))


def check(plan: PlanSizing) -> None:
    """Checks each value, then what depends on several.

    Raises:
      ValueError: naming the first rule that is broken, and the value.
    """
    _check_values(plan)
    _check_participation(plan)
    _check_turns_and_caps(plan)
    _check_noise(plan)
    _check_factorization(plan)
    _check_whole(plan)
    assert plan.bits  # raises by itself if no ring is wide enough
    _check_stddev(plan)
    if plan.secure_aggregation == "masked":
        _check_protocol(plan)


def _require(plan: PlanSizing, holds: bool, rule: str) -> None:
    """Refuses a plan, with the values of all fields that the rule names."""
    named = [name for name in re.findall(r"[a-z_]+", rule) if name in _NAMES]
    require(holds, rule, **{name: getattr(plan, name) for name in named})


def _check_values(plan: PlanSizing) -> None:
    """Checks one value at a time, and the order of the minimums."""
    for name in (
        "dimension",
        "population",
        "rounds",
        "max_participations",
        "min_cohort",
        "min_reporting",
    ):
        value = getattr(plan, name)
        require(
            is_integer(value) and value >= 1, f"{name} must be a positive integer", **{name: value}
        )
    check_limits(plan)
    _check_groups(plan)
    known = plan.ring_bits is None or plan.ring_bits in RING_BITS
    _require(plan, known, f"ring_bits must be one of {RING_BITS}")
    ordered = plan.min_reporting <= plan.min_cohort <= plan.candidates
    rule = "expected min_reporting <= min_cohort <= population"
    _require(plan, ordered, rule + (" / groups" if plan.groups > 1 else ""))
    few = is_integer(plan.colluders) and 0 <= plan.colluders < plan.min_reporting
    _require(plan, few, "colluders must be an integer in [0, min_reporting)")
    # Publishing everything of one phone at random has a delta of 1 / population. The tolerance is
    # for a delta that was computed as this very quotient.
    small = plan.delta > 0 and plan.delta * 10 * plan.population <= 1 + 1e-9
    _require(plan, small, "delta must be positive and at most 1 / (10 * population)")
    _require(plan, plan.epsilon_budget > 0, "epsilon_budget must be positive")


def _check_groups(plan: PlanSizing) -> None:
    """Checks that a round is divided only where the price of a divided one is argued."""
    fits = is_integer(plan.groups) and (plan.groups == 1 or 3 <= plan.groups <= MOST_GROUPS)
    rule = f"groups must be 1 (one sum) or from 3 to {MOST_GROUPS}: of two, none is in the middle"
    _require(plan, fits, rule)
    if plan.groups == 1:
        return
    for holds, rule in (
        (
            plan.mechanism not in ("local", "matrix_factorization"),
            'groups must be 1 for mechanism "local", whose server sees each vector, and for '
            '"matrix_factorization", whose noise of rounds belongs to one sum',
        ),
        (
            plan.adaptive_clipping is None,
            "groups must be 1 with adaptive_clipping: the noise of its bits is sized for one sum",
        ),
        (
            plan.cohort_cap is None,
            "groups must be 1 with a cohort_cap: who is let in would decide over every group",
        ),
        (
            plan.availability == 1,
            "groups must be 1 with availability below 1: fewer may be there of one group than of "
            "all",
        ),
    ):
        _require(plan, holds, rule)


def _check_participation(plan: PlanSizing) -> None:
    """Checks that the way phones come fits the noise and the minimums."""
    if plan.mechanism == "skellam" and plan.participation == "poisson":
        raise ValueError(NO_SKELLAM_COIN)
    check_availability(plan.availability, plan.participation)
    for name, stage in (("min_cohort", Stage.ADVERTISE), ("min_reporting", Stage.MASK)):
        _check_minimum(plan, name, plan.expected_cohort * share_answering(plan.dropout_rate, stage))
    whole = abs(plan.expected_cohort - round(plan.expected_cohort)) < 1e-6
    _require(
        plan,
        plan.participation == "poisson" or (whole and plan.expected_cohort > 0.5),
        f"{plan.participation} participation needs a whole number of phones per round, "
        "population * participation_probability",
    )
    dealt = plan.participation == "poisson" or round(plan.expected_cohort) % plan.groups == 0
    rule = "groups must divide the phones of a round, all of whom are called"
    _require(plan, dealt, rule)
    rule = "min_cohort must be at most the cohort"
    if plan.participation == "poisson":
        rule = (
            f"min_cohort must be at most {MAX_MINIMUM:.0%} of the expected cohort, or single "
            "phones decide whether a round takes place"
        )
    fits = plan.mechanism == "none" or plan.min_cohort <= plan.largest_minimum + 1e-9
    sizes: dict[str, object] = {} if plan.groups == 1 else {"groups": plan.groups}
    expected = plan.expected_in_sum
    require(fits, rule, min_cohort=plan.min_cohort, expected_cohort=expected, **sizes)


def _check_minimum(plan: PlanSizing, name: str, standing: float) -> None:
    """Checks that more phones than the fewest bring a round no nearer to its minimum.

    Args:
      plan: with a share of phones that may be away.
      name: of the minimum.
      standing: phones that are expected there, of the fewest that are there when a round begins.
    """
    minimum = getattr(plan, name)
    require(
        plan.availability == 1 or minimum <= standing - plan.colluders - 1,
        f"{name} must be below the honest phones that are expected to stand there",
        **{name: minimum},
        expected=float(f"{standing:.6g}"),
    )


def _check_turns_and_caps(plan: PlanSizing) -> None:
    """Checks what belongs to one kind of participation only."""
    if plan.participation == "round_robin":
        turns = math.ceil(plan.window * plan.participation_probability - 1e-9)
        _require(
            plan,
            plan.max_participations >= min(turns, plan.window),
            f"a phone's turn comes {turns} times in {plan.window} rounds: participation limit "
            "must allow it",
        )
    if plan.participation_window is not None:
        _require(
            plan,
            plan.participation == "round_robin",
            "participation_window belongs to round-robin participation: others count a phone's "
            "rounds over "
            "the whole run",
        )
        whole = is_integer(plan.participation_window) and plan.participation_window >= 1
        _require(plan, whole, "participation_window must be a positive integer")
    if plan.cohort_cap is not None:
        _require(
            plan,
            plan.participation == "poisson",
            "cohort_cap belongs to poisson participation, where nobody knows how many will come",
        )
        _require(
            plan,
            is_integer(plan.cohort_cap) and plan.min_cohort <= plan.cohort_cap <= plan.population,
            "cohort_cap must be an integer from min_cohort to population",
        )


def _check_noise(plan: PlanSizing) -> None:
    if plan.mechanism == "none":
        rule = 'noise_multiplier must be 0 for mechanism "none"'
        _require(plan, plan.noise_multiplier == 0, rule)
        rule = 'epsilon_budget must be infinite for mechanism "none": it promises nothing'
        _require(plan, math.isinf(plan.epsilon_budget), rule)
    else:
        fits = math.isfinite(plan.noise_multiplier) and plan.noise_multiplier > 0
        rule = "noise_multiplier must be positive and finite"
        _require(plan, fits, rule)
    if plan.adaptive_clipping is not None:
        _require(
            plan,
            plan.mechanism != "local",
            'adaptive_clipping is refused for mechanism "local": noise enough for one phone alone '
            "would drown its bit",
        )
        low, high = plan.adaptive_clipping.min_clip_norm, plan.adaptive_clipping.max_clip_norm
        rule = f"clip_norm must be from min_clip_norm={low} to max_clip_norm={high}"
        _require(plan, low <= plan.clip_norm <= high, rule)


def _check_factorization(plan: PlanSizing) -> None:
    """Checks that noise is correlated over rounds only where its price is known."""
    if plan.factorization is None:
        rule = "mechanism matrix_factorization needs a factorization"
        _require(plan, plan.mechanism != "matrix_factorization", rule)
        return
    rule = "factorization belongs to mechanism matrix_factorization"
    if plan.on_phones:
        rule += (
            ": noise that phones add cannot be taken back by later rounds, since nobody holds the "
            "noise of earlier ones (Bienstock et al. 2024, arXiv:2410.16161, passes it from cohort "
            "to cohort in shares, by a protocol that is not this one)"
        )
    require(plan.mechanism == "matrix_factorization", rule, mechanism=plan.mechanism)
    require(
        plan.participation == "round_robin",
        "matrix_factorization needs round_robin participation: its price counts on rounds of a "
        "phone that are min_separation apart, which no coin and no random draw keeps; "
        "amplification by sampling is known for draws within fixed groups only (Choquette-Choo et "
        "al. 2023, arXiv:2306.08153)",
        participation=plan.participation,
    )
    require(
        plan.adaptive_clipping is None,
        "matrix_factorization needs a clip norm that stays: rounds of different scales do not take "
        "back one another's noise, so leave adaptive_clipping out",
    )
    apart = plan.population // round(plan.expected_cohort)
    require(
        plan.factorization.min_separation <= apart,
        f"a phone's turn comes every {apart} rounds: min_separation must be at most that",
        min_separation=plan.factorization.min_separation,
    )
    largest = _MOST_STDDEVS * plan.server_stddev * plan.noise_gain
    require(
        largest * sum(plan.factorization.coefficients) < 2.0**63,
        "sums of noise do not fit whole numbers of 64 bits: lower bands or momentum",
        bands=plan.factorization.bands,
        momentum=plan.factorization.momentum,
    )


def _check_whole(plan: PlanSizing) -> None:
    """Checks that nothing asks of whole numbers what only real ones have."""
    if not plan.whole:
        return
    stays = plan.adaptive_clipping is None and plan.factorization is None
    require(
        stays,
        "whole numbers need a clip norm that stays and noise that is independent over rounds: "
        "leave adaptive_clipping and matrix_factorization out",
        mechanism=plan.mechanism,
    )
    fits = plan.clip_norm >= 1
    _require(plan, fits, "clip_norm must be at least 1 where contributions are whole numbers")


def _check_stddev(plan: PlanSizing) -> None:
    """Checks that shares are wide enough to add up to one, and that clip bits fit the ring."""
    if plan.mechanism in ("distributed", "local"):
        require(
            plan.stddev >= MIN_STDDEV,
            f"noise of one phone must have stddev >= {MIN_STDDEV:g} in integer units (raise "
            "noise_multiplier or lower min_reporting)",
            stddev=float(f"{plan.stddev:.3g}"),
            noise_multiplier=plan.noise_multiplier,
            min_reporting=plan.min_reporting,
        )
    if plan.adaptive_clipping is not None:
        noise = 7 * plan.bit_stddev * math.sqrt(plan.max_cohort)
        require(
            plan.bit_scale / 2 * plan.max_cohort + noise < plan.modulus / 2,
            f"clip bits of {plan.max_cohort} phones do not fit a ring of {plan.bits} bits: lower "
            "bit_noise",
            bit_noise=plan.adaptive_clipping.bit_noise,
        )


def _check_protocol(plan: PlanSizing) -> None:
    """Checks that the masked protocol can work with the fewest phones that may come."""
    _require(
        plan,
        plan.mechanism != "local",
        'secure_aggregation must be "ideal" for mechanism "local": each vector is noisy by itself '
        "and needs no mask",
    )
    _require(
        plan,
        plan.min_reporting >= 2,
        "min_reporting must be at least 2 for a masked sum: a sum of one hides nothing",
    )
    gone = share_gone(plan.dropout_rate)
    _require(
        plan,
        2 * (1 - gone) * plan.min_cohort > plan.min_cohort + plan.colluders,
        "of the smallest cohort, more than half and colluders must be there at the end "
        f"(dropout_rate leaves {max(0.0, 1 - gone):.0%} of a cohort list): lower dropout_rate or "
        "colluders, or raise min_cohort",
    )
    # The ends suffice: more phones never need a denser graph than fits.
    for cohort in (plan.min_cohort, plan.max_cohort):
        try:
            plan.terms(bytes(16), 0).parameters(cohort)
        except ValueError as error:
            raise ValueError(f"no masked sum of {cohort} phones: {error}") from None


def check_availability(availability: float, participation: str) -> None:
    """Checks that a share of phones may be away.

    Raises:
      ValueError: if the share is out of range, or somebody draws whom it cannot reach.
    """
    require(
        0 < availability <= 1 and (availability == 1 or participation == "poisson"),
        "availability must be in (0, 1], and 1 unless participation is poisson: who draws a cohort "
        "cannot draw who is away",
        availability=availability,
        participation=participation,
    )

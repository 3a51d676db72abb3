"""The rules that a `PrivacyPlan` must keep, each with a message that names rule and value."""

from __future__ import annotations

import math

from fedspeech.errors import is_integer, require
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.config import MECHANISMS, PARTICIPATIONS
from fedspeech.privacy.events import NO_SKELLAM_COIN
from fedspeech.privacy.sizing import MAX_FLOOR, MIN_STDDEV, RING_BITS, PlanSizing
from fedspeech.secagg.dropouts import share_answering, share_gone
from fedspeech.secagg.protocol import Stage


def check(plan: PlanSizing) -> None:
    """Checks each value, then what depends on several.

    Raises:
      ValueError: naming the first rule that is broken, and the value.
    """
    _check_values(plan)
    _check_participation(plan)
    _check_noise(plan)
    assert plan.bits  # raises by itself if no ring is wide enough
    _check_stddev(plan)
    _check_protocol(plan)


def _check_values(plan: PlanSizing) -> None:
    """Checks one value at a time, and the order of the floors."""
    for name in ("dimension", "population", "rounds", "quota", "min_cohort", "min_survivors"):
        require(
            is_integer(getattr(plan, name)) and getattr(plan, name) >= 1,
            f"{name} must be a positive integer",
            **{name: getattr(plan, name)},
        )
    for name, choices in (
        ("mechanism", MECHANISMS),
        ("participation", PARTICIPATIONS),
        ("unit", ("user", "phone")),
        ("secure_aggregation", ("masked", "ideal")),
        ("server", ("lying", "curious")),
    ):
        require(
            getattr(plan, name) in choices,
            f"{name} must be one of {', '.join(choices)}",
            **{name: getattr(plan, name)},
        )
    require(
        plan.ring_bits is None or plan.ring_bits in RING_BITS,
        f"ring_bits must be one of {RING_BITS}",
        ring_bits=plan.ring_bits,
    )
    L2Clip(clip_norm=plan.clip_norm)
    require(
        0 < plan.participation_probability <= 1,
        "participation_probability must be in (0, 1]",
        participation_probability=plan.participation_probability,
    )
    require(
        0 <= plan.dropout_rate < 1, "dropout_rate must be in [0, 1)", dropout_rate=plan.dropout_rate
    )
    require(
        plan.min_survivors <= plan.min_cohort <= plan.population,
        "expected min_survivors <= min_cohort <= population",
        min_survivors=plan.min_survivors,
        min_cohort=plan.min_cohort,
        population=plan.population,
    )
    require(
        is_integer(plan.colluders) and 0 <= plan.colluders < plan.min_survivors,
        "colluders must be an integer in [0, min_survivors)",
        colluders=plan.colluders,
        min_survivors=plan.min_survivors,
    )
    require(
        plan.delta > 0 and plan.delta * 10 * plan.population <= 1 + 1e-9,
        "delta must be positive and at most 1 / (10 * population)",
        delta=plan.delta,
        population=plan.population,
    )
    require(
        plan.epsilon_budget > 0,
        "epsilon_budget must be positive",
        epsilon_budget=plan.epsilon_budget,
    )


def _check_participation(plan: PlanSizing) -> None:
    """Checks that the way phones come fits the noise, the quota and the cap."""
    if plan.mechanism == "skellam" and plan.participation == "poisson":
        raise ValueError(NO_SKELLAM_COIN)
    check_availability(plan.availability, plan.participation)
    for name, stage in (("min_cohort", Stage.ADVERTISE), ("min_survivors", Stage.MASK)):
        check_floor(
            name,
            getattr(plan, name),
            standing=plan.expected_cohort * share_answering(plan.dropout_rate, stage),
            colluders=plan.colluders,
            availability=plan.availability,
        )
    whole = abs(plan.expected_cohort - round(plan.expected_cohort)) < 1e-6
    require(
        plan.participation == "poisson" or (whole and plan.expected_cohort > 0.5),
        f"{plan.participation} participation needs a whole number of phones per round",
        participation_probability=plan.participation_probability,
        population=plan.population,
    )
    if plan.participation == "limited":
        turns = math.ceil(plan.window * plan.participation_probability - 1e-9)
        require(
            plan.quota >= min(turns, plan.window),
            f"a phone's turn comes {turns} times in {plan.window} rounds: quota must allow it",
            quota=plan.quota,
        )
    if plan.quota_window is not None:
        require(
            plan.participation == "limited",
            "quota_window belongs to limited participation: others count a phone's rounds over "
            "the whole run",
            quota_window=plan.quota_window,
            participation=plan.participation,
        )
        require(
            is_integer(plan.quota_window) and plan.quota_window >= 1,
            "quota_window must be a positive integer",
            quota_window=plan.quota_window,
        )
    if plan.cohort_cap is not None:
        require(
            plan.participation == "poisson",
            "cohort_cap belongs to poisson participation, where nobody knows how many will come",
            cohort_cap=plan.cohort_cap,
            participation=plan.participation,
        )
        require(
            is_integer(plan.cohort_cap) and plan.min_cohort <= plan.cohort_cap <= plan.population,
            "cohort_cap must be an integer from min_cohort to population",
            cohort_cap=plan.cohort_cap,
            min_cohort=plan.min_cohort,
        )
    require(
        plan.mechanism == "none" or plan.min_cohort <= plan.largest_floor + 1e-9,
        f"min_cohort must be at most {MAX_FLOOR:.0%} of the expected cohort, or single "
        "phones decide whether a round takes place"
        if plan.participation == "poisson"
        else "min_cohort must be at most the cohort",
        min_cohort=plan.min_cohort,
        expected_cohort=plan.expected_cohort,
    )


def _check_noise(plan: PlanSizing) -> None:
    """Checks that mechanism, noise and budget fit together."""
    if plan.mechanism == "none":
        require(
            plan.noise_multiplier == 0,
            'noise_multiplier must be 0 for mechanism "none"',
            noise_multiplier=plan.noise_multiplier,
        )
        require(
            math.isinf(plan.epsilon_budget),
            'epsilon_budget must be infinite for mechanism "none": it promises nothing',
            epsilon_budget=plan.epsilon_budget,
        )
    else:
        require(
            math.isfinite(plan.noise_multiplier) and plan.noise_multiplier > 0,
            "noise_multiplier must be positive and finite",
            noise_multiplier=plan.noise_multiplier,
        )
    if plan.adaptive_clipping is not None:
        require(
            plan.mechanism != "local",
            'adaptive_clipping is refused for mechanism "local": noise enough for one phone alone '
            "would drown its bit",
            mechanism=plan.mechanism,
        )
        low, high = plan.adaptive_clipping.min_clip_norm, plan.adaptive_clipping.max_clip_norm
        require(
            low <= plan.clip_norm <= high,
            f"clip_norm must be from min_clip_norm={low} to max_clip_norm={high}",
            clip_norm=plan.clip_norm,
        )


def _check_stddev(plan: PlanSizing) -> None:
    """Checks that shares are wide enough to add up to one, and that clip bits fit the ring."""
    if plan.mechanism in ("distributed", "local"):
        require(
            plan.stddev >= MIN_STDDEV,
            f"noise of one phone must have stddev >= {MIN_STDDEV:g} in integer units (raise "
            "noise_multiplier or lower min_survivors)",
            stddev=float(f"{plan.stddev:.3g}"),
            noise_multiplier=plan.noise_multiplier,
            min_survivors=plan.min_survivors,
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
    if plan.secure_aggregation != "masked":
        return
    require(
        plan.mechanism != "local",
        'secure_aggregation must be "ideal" for mechanism "local": each vector is noisy by itself '
        "and needs no mask",
        secure_aggregation=plan.secure_aggregation,
    )
    require(
        plan.min_survivors >= 2,
        "min_survivors must be at least 2 for a masked sum: a sum of one hides nothing",
        min_survivors=plan.min_survivors,
    )
    gone = share_gone(plan.dropout_rate)
    require(
        2 * (1 - gone) * plan.min_cohort > plan.min_cohort + plan.colluders,
        "of the smallest cohort, more than half and colluders must be there at the end "
        f"(dropout_rate leaves {max(0.0, 1 - gone):.0%} of a roster): lower dropout_rate or "
        "colluders, or raise min_cohort",
        min_cohort=plan.min_cohort,
        dropout_rate=plan.dropout_rate,
        colluders=plan.colluders,
    )
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


def check_floor(
    name: str, floor: int, *, standing: float, colluders: int, availability: float
) -> None:
    """Checks that more phones than the fewest bring a round no nearer to its floor.

    Args:
      name: of the floor.
      floor: phones.
      standing: phones that are expected there, of the fewest that are there when a round begins.
      colluders: among them.
      availability: smallest share of the population that is there; 1: nobody is ever away.

    Raises:
      ValueError: if the floor is not below the honest phones that are expected.
    """
    require(
        availability == 1 or floor <= standing - colluders - 1,
        f"{name} must be below the honest phones that are expected to stand there",
        **{name: floor},
        expected=float(f"{standing:.6g}"),
    )

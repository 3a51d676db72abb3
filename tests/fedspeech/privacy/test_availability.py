"""Phones that are away thin a round out and buy no epsilon; minimums hold when few are there."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from fedspeech.privacy.plan import PrivacyPlan

ALL_THERE = PrivacyPlan(secure_aggregation="ideal",
    dimension=772, clip_norm=0.1, noise_multiplier=3.0, population=12_000,
    participation_probability=0.1, rounds=40, max_participations=20, min_cohort=390,
    min_reporting=370,
    colluders=5, dropout_rate=0.06, delta=1 / 120_000, epsilon_budget=5.0,
)  # fmt: skip
HALF = dataclasses.replace(ALL_THERE, availability=0.5)


def test_being_away_amplifies_nothing():
    """The same noise, minimums and coin: no epsilon is smaller because half are away."""
    assert HALF.cost.given == ALL_THERE.cost.given
    there, away = ALL_THERE.guarantee(40), HALF.guarantee(40)
    assert away.epsilon_server == pytest.approx(there.epsilon_server, rel=1e-9)
    assert away.epsilon_release >= there.epsilon_release
    assert away.relation_release == "add/remove"


def test_divisor_and_minimums_count_those_who_are_there_and_the_ring_holds_everybody():
    assert HALF.expected_cohort == ALL_THERE.expected_cohort / 2
    assert HALF.largest_minimum == ALL_THERE.largest_minimum / 2
    assert HALF.max_cohort == ALL_THERE.max_cohort
    with pytest.raises(ValueError, match="min_cohort must be at most 75%"):
        dataclasses.replace(HALF, min_cohort=460)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_the_mass_of_a_minimum_covers_phones_that_are_there_more_or_less_often(spread):
    """Exact laws of sums of unequal coins: half of the phones likelier, half less likely."""
    others = HALF.population - 1 - HALF.colluders
    for at_stage in (1 - 0.02, 1 - 0.06):
        coin = HALF.participation_probability * HALF.availability * at_stage
        counts = np.arange(others + 1)
        laws = [
            binom.pmf(counts, others // 2 + part, coin * (1 + sign * spread))
            for part, sign in ((0, 1), (others % 2, -1))
        ]
        law = np.convolve(*(part[: HALF.min_cohort] for part in laws))
        minimum = HALF.min_cohort if at_stage == 0.98 else HALF.min_reporting
        decided = HALF.participation_probability * law[minimum - 1 - HALF.colluders : minimum].max()
        assert 0 < decided < HALF.cost.minimum_failure


def test_the_mass_of_a_minimum_covers_a_phone_and_colluders_that_are_always_there():
    """Then the others are there less often than everybody is: 38 of 78 where 40 of 80 are."""
    plan = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
        dimension=64, clip_norm=0.1, noise_multiplier=5.0, population=80,
        participation_probability=1.0, rounds=1, max_participations=1, min_cohort=2,
        min_reporting=2,
        colluders=1, availability=0.5, delta=1 / 800, epsilon_budget=100.0,
    )  # fmt: skip
    decided = binom.pmf([0, 1], 78, 38 / 78).max()  # a colluder joins, or keeps away
    assert 0 < decided < plan.cost.minimum_failure


def test_more_phones_than_the_fewest_are_further_from_every_minimum():
    masses = [
        dataclasses.replace(HALF, availability=share).cost.minimum_failure
        for share in (0.45, 0.5, 0.7, 0.9)
    ]
    assert masses == sorted(masses, reverse=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"availability": 0.0}, r"availability must be in \(0, 1\], .* got availability=0.0"),
        ({"availability": 1.5}, r"availability must be in \(0, 1\]"),
        ({"availability": float("nan")}, r"availability must be in \(0, 1\]"),
        (
            {"participation": "fixed_size", "availability": 0.5},
            "1 unless participation is poisson.*participation='fixed_size'",
        ),
        (
            {"dropout_rate": 0.4},
            "min_reporting must be below the honest phones that are expected to stand there, got "
            "min_reporting=370, expected=360",
        ),
    ],
)
def test_what_minimums_cannot_count_on_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(HALF, **changes)


def test_whoever_reads_an_epsilon_reads_who_must_be_there():
    assert "at least 50.0% of the population is there whenever a round begins" in HALF.trust
    assert "is there" not in ALL_THERE.trust

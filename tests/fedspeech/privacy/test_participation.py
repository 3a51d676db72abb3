import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from fedspeech.privacy.filling import fill
from fedspeech.privacy.participation import (
    PoissonParticipation,
    _binomial,
    fixed_size_cohort,
    turns,
)
from fedspeech.seeds import Keystream, NoiseEntropy

ENTROPY = NoiseEntropy.seeded(3, "a run")


def coins(population=3000, probability=0.1, cap=None):
    return PoissonParticipation(population=population, probability=probability, cap=cap)


def secret(round_number, entropy=ENTROPY):
    return entropy.keystream("cohort", round_number)


def test_a_cohort_is_sorted_distinct_and_repeatable():
    cohort = coins().cohort(secret(4))
    assert cohort.dtype == np.int64
    assert (np.diff(cohort) > 0).all()
    assert cohort[0] >= 0
    assert cohort[-1] < 3000
    np.testing.assert_array_equal(cohort, coins().cohort(secret(4)))
    assert not np.array_equal(cohort, coins().cohort(secret(5)))
    other = NoiseEntropy.seeded(4, "a run")
    assert not np.array_equal(cohort, coins().cohort(secret(4, other)))


def test_sizes_are_binomial():
    """Mean and variance of 1,000 sizes within 5 standard errors."""
    sizes = np.array([coins().cohort(secret(r)).size for r in range(1000)])
    assert abs(sizes.mean() - 300) < 5 * math.sqrt(270 / 1000)
    assert abs(sizes.var() / 270 - 1) < 5 * math.sqrt(2 / 1000)


def test_the_law_of_the_size_is_exact():
    table = _binomial(50, 0.3)
    draws = table.draw(Keystream(bytes(32)), 200_000)
    counts = np.bincount(draws, minlength=51)[4:28]
    expected = 200_000 * scipy.stats.binom.pmf(np.arange(4, 28), 50, 0.3)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert scipy.stats.chi2.sf(statistic, 23) > 1e-6


def test_the_size_is_binomial_but_for_what_is_counted():
    """Against fractions: 20 phones, p = 1/4, every probability."""
    table = _binomial(20, 0.25)
    thresholds = [
        Fraction((int(high) << 192) + low, 2**256)
        for high, low in zip(table._high, table._low, strict=True)
    ]
    found = [b - a for a, b in itertools.pairwise([Fraction(0), *thresholds, Fraction(1)])]
    exact = [Fraction(math.comb(20, k) * 3 ** (20 - k), 4**20) for k in range(21)]
    distance = sum(abs(a - b) for a, b in zip(found, exact, strict=True)) / 2
    assert 0 < distance <= coins(population=20, probability=0.25).total_variation < 1e-75


def test_the_draw_of_a_cohort_counts_among_the_samplers():
    """Few draws of noise for a billion phones: what is more under coins is theirs."""
    fields = {
        "mechanism": "distributed", "population": 10**9, "cohort": 10, "rounds": 1, "dimension": 1,
        "noise_multiplier": 8.0, "min_cohort": 5, "min_reporting": 5,
    }  # fmt: skip
    coin, drawn = (
        fill(participation=each, **fields).plan.cost.sampler_failure
        for each in ("poisson", "fixed_size")
    )
    assert coin - drawn == pytest.approx(coins(10**9, 1e-8).total_variation, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.3, 0.8])
def test_every_set_is_as_likely_as_its_coins_make_it(probability):
    """All 16 sets of 4 phones, chi-square at 1e-6; counts above and below half the population."""
    participation = coins(population=4, probability=probability)
    seen: dict[tuple[int, ...], int] = {}
    for r in range(2500):
        cohort = tuple(participation.cohort(secret(r)).tolist())
        seen[cohort] = seen.get(cohort, 0) + 1
    statistic = 0.0
    for members in itertools.product([0, 1], repeat=4):
        heads = sum(members)
        expected = 2500 * probability**heads * (1 - probability) ** (4 - heads)
        found = seen.get(tuple(i for i, m in enumerate(members) if m), 0)
        statistic += (found - expected) ** 2 / expected
    assert scipy.stats.chi2.sf(statistic, 15) > 1e-6


def test_everybody_comes_when_the_coin_is_certain():
    np.testing.assert_array_equal(
        coins(population=7, probability=1.0).cohort(secret(0)), np.arange(7)
    )


def test_cost_grows_with_the_cohort_and_not_with_the_population():
    participation = coins(population=10**9, probability=1e-6)
    participation.cohort(secret(0))
    started = time.process_time()
    cohort = participation.cohort(secret(1))
    assert time.process_time() - started < 0.1
    assert 800 < cohort.size < 1200  # 6 standard deviations


@pytest.mark.parametrize("changes", [{"population": 0}, {"probability": 0.0}, {"probability": 1.1}])
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="expected population >= 1"):
        coins(**changes)


@pytest.mark.slow
def test_a_cap_keeps_a_random_part_of_those_who_came():
    """3,000 rounds: sizes never above the cap, each phone as often, 5 standard errors."""
    capped, seen = coins(population=40, probability=0.5, cap=18), np.zeros(40)
    for r in range(3000):
        cohort = capped.cohort(secret(r))
        assert cohort.size == min(18, coins(population=40, probability=0.5).cohort(secret(r)).size)
        seen[cohort] += 1
    mean = seen.mean()
    assert np.abs(seen - mean).max() < 5 * math.sqrt(mean)
    assert mean < 0.46 * 3000  # of 20 that come, 18 at most take part


def test_a_cohort_of_fixed_size_is_any_set_of_that_size_alike():
    """All 20 sets of 3 of 6 phones, chi-square at 1e-6."""
    seen = {}
    for r in range(4000):
        cohort = tuple(fixed_size_cohort(secret(r), population=6, size=3).tolist())
        seen[cohort] = seen.get(cohort, 0) + 1
    assert set(seen) == set(itertools.combinations(range(6), 3))
    statistic = sum((count - 200) ** 2 / 200 for count in seen.values())
    assert scipy.stats.chi2.sf(statistic, 19) > 1e-6


@pytest.mark.parametrize(("population", "size"), [(10, 3), (12, 4), (7, 7), (1000, 64)])
def test_turns_come_round_alike_and_never_twice_in_a_cohort(population, size):
    rounds, seen = 25, np.zeros(population, dtype=int)
    for r in range(rounds):
        cohort = turns(r, population=population, size=size)
        assert (np.diff(cohort) > 0).all()
        assert cohort.size == size
        seen[cohort] += 1
    assert seen.max() <= math.ceil(rounds * size / population)
    assert seen.max() - seen.min() <= 1

import itertools
import math
import time

import numpy as np
import pytest
import scipy.stats

from fedspeech.privacy.participation import PoissonParticipation, _binomial
from fedspeech.seeds import Keystream, NoiseEntropy

ENTROPY = NoiseEntropy.rehearsal(3, "a run")


def coins(population=3000, probability=0.1, quota=15):
    return PoissonParticipation(population=population, probability=probability, quota=quota)


def test_a_cohort_is_sorted_distinct_and_repeatable():
    cohort = coins().cohort(4, ENTROPY)
    assert cohort.dtype == np.int64
    assert (np.diff(cohort) > 0).all()
    assert cohort[0] >= 0
    assert cohort[-1] < 3000
    np.testing.assert_array_equal(cohort, coins().cohort(4, ENTROPY))
    assert not np.array_equal(cohort, coins().cohort(5, ENTROPY))
    other = NoiseEntropy.rehearsal(4, "a run")
    assert not np.array_equal(cohort, coins().cohort(4, other))


def test_sizes_are_binomial():
    """Mean and variance of 1,000 sizes within 5 standard errors."""
    sizes = np.array([coins().cohort(r, ENTROPY).size for r in range(1000)])
    assert abs(sizes.mean() - 300) < 5 * math.sqrt(270 / 1000)
    assert abs(sizes.var() / 270 - 1) < 5 * math.sqrt(2 / 1000)


def test_the_law_of_the_size_is_exact():
    table = _binomial(50, 0.3)
    draws = table.draw(Keystream(bytes(32)), 200_000)
    counts = np.bincount(draws, minlength=51)[4:28]
    expected = 200_000 * scipy.stats.binom.pmf(np.arange(4, 28), 50, 0.3)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert scipy.stats.chi2.sf(statistic, 23) > 1e-6


@pytest.mark.parametrize("probability", [0.3, 0.8])
def test_every_set_is_as_likely_as_its_coins_make_it(probability):
    """All 16 sets of 4 phones, chi-square at 1e-6; counts above and below half the population."""
    participation = coins(population=4, probability=probability)
    seen: dict[tuple[int, ...], int] = {}
    for r in range(2500):
        cohort = tuple(participation.cohort(r, ENTROPY).tolist())
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
        coins(population=7, probability=1.0).cohort(0, ENTROPY), np.arange(7)
    )


def test_cost_grows_with_the_cohort_and_not_with_the_population():
    participation = coins(population=10**9, probability=1e-6)
    participation.cohort(0, ENTROPY)
    started = time.process_time()
    cohort = participation.cohort(1, ENTROPY)
    assert time.process_time() - started < 0.1
    assert 800 < cohort.size < 1200  # 6 standard deviations


def test_a_phone_stops_at_its_quota():
    participation = coins(quota=3)
    assert [participation.admits(sent) for sent in range(5)] == [True, True, True, False, False]


@pytest.mark.parametrize(
    "changes", [{"population": 0}, {"probability": 0.0}, {"probability": 1.1}, {"quota": 0}]
)
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="expected population >= 1"):
        coins(**changes)

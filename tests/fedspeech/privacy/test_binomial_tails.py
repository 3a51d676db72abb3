import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from fedspeech.privacy.binomial_tails import max_participations_failure, minimum_failure, shortfall


def binomial(n: int, p: Fraction, k: int) -> Fraction:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def minimums(*, min_cohort=225, min_reporting=225, dropout_rate=0.0, **changes):
    settings = {"population": 3000, "probability": 0.1, "colluders": 0}
    both = [(min_cohort, 1.0), (min_reporting, 1 - dropout_rate)]
    return minimum_failure(**{**settings, **changes}, minimums=both)


def test_participation_limit_mass_is_the_exact_tail():
    exact = sum(binomial(40, Fraction(1, 10), k) for k in range(16, 41))
    assert max_participations_failure(40, 0.1, 15) == pytest.approx(float(exact), rel=1e-9)
    assert max_participations_failure(40, 0.1, 15) == pytest.approx(5.9e-7, rel=0.01)


def test_a_participation_limit_that_cannot_be_reached_costs_nothing():
    assert max_participations_failure(15, 0.1, 15) == 0.0
    assert max_participations_failure(15, 1.0, 15) == 0.0
    assert max_participations_failure(16, 1.0, 15) == 1.0


def test_minimum_at_three_quarters_passes_and_at_four_fifths_does_not():
    """N = 3000, q = .1, 40 rounds: 1e-6 and 7e-5, against delta / 10 = 3.3e-6."""
    assert 40 * minimums() == pytest.approx(1.0e-6, rel=0.05)
    assert 40 * minimums(min_cohort=240, min_reporting=240) == pytest.approx(7e-5, rel=0.05)


def test_minimum_mass_is_that_of_an_exact_count():
    exact = Fraction(1, 4) * binomial(19, Fraction(1, 4), 2)
    found = minimums(population=20, probability=0.25, min_cohort=3, min_reporting=3)
    assert found == pytest.approx(float(exact), rel=1e-12)


def test_minimum_mass_is_what_a_simulation_counts():
    """One phone decides whether 8 of Bin(100, .1) reporting phones stand; 5 standard errors."""
    rng = np.random.default_rng(0)
    cohort_list = rng.binomial(99, 0.1, size=400_000)
    reporting = rng.binomial(cohort_list, 0.8)
    pivotal = ((cohort_list == 7) | (reporting == 5)).mean() * 0.1
    bound = minimums(
        population=100, probability=0.1, dropout_rate=0.2, min_cohort=8, min_reporting=6
    )
    assert pivotal <= bound + 5 * math.sqrt(0.01 / 400_000) * 0.3
    assert bound <= 1.6 * pivotal  # minimums are added although they overlap


@pytest.mark.slow
def test_colluders_choose_how_many_of_them_join():
    # Above the mean, the fewer honest phones are needed the likelier it gets.
    alone = minimums(min_cohort=320, min_reporting=320)
    with_help = minimums(min_cohort=320, min_reporting=320, colluders=20)
    assert with_help > alone
    honest = 3000 - 1 - 20
    best = max(float(binomial(honest, Fraction(0.1), 319 - j)) for j in range(21))
    assert with_help == pytest.approx(0.1 * 2 * best, rel=1e-9)  # at either minimum


@pytest.mark.slow
def test_colluders_may_join_and_then_keep_silent():
    """Five join and none of them answers: the cohort turns at 219 honest others, the sum at 224."""
    found = minimums(min_cohort=225, min_reporting=225, colluders=5)
    honest = 3000 - 1 - 5
    for joined in range(6):
        for answered in range(joined + 1):
            turning = {224 - joined, 224 - answered}
            mass = 0.1 * sum(float(binomial(honest, Fraction(0.1), count)) for count in turning)
            assert mass <= found


def test_dropouts_make_the_minimum_on_reporting_count():
    assert minimums(dropout_rate=0.1) > 10 * minimums()
    assert minimums(dropout_rate=0.1, min_reporting=150) == pytest.approx(minimums(), rel=1e-3)


def test_certain_participation_meets_a_minimum_only_if_everybody_is_needed():
    assert minimums(probability=1.0) == 0.0
    assert minimums(probability=1.0, min_cohort=3000, min_reporting=3000) == 1.0


def test_a_shortfall_is_the_exact_tail():
    exact = sum(binomial(40, Fraction(1, 10), k) for k in range(3))
    assert shortfall(40, 0.1, 3) == pytest.approx(float(exact), rel=1e-12)
    assert [shortfall(40, 0.1, needed) for needed in (0, 41)] == [0.0, 1.0]
    assert [shortfall(40, coin, 3) for coin in (0.0, 1.0)] == [1.0, 0.0]


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_a_shortfall_of_phones_that_differ_is_never_above_its_bound(spread):
    """Half of 200 phones come likelier than half the time, half less likely: the exact law."""
    counts = np.arange(101)
    law = np.convolve(*(binom.pmf(counts, 100, (1 + sign * spread) / 2) for sign in (1, -1)))
    for needed in range(1, 201):
        assert law[:needed].sum() <= shortfall(200, 0.5, needed, alike=False) + 1e-12
    beyond = 115  # where a binomial is no bound: phones that differ spread less
    assert law[:beyond].sum() > shortfall(200, 0.5, beyond)

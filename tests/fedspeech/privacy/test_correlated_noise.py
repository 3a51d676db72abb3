"""Rows of correlated noise: the covariance that is priced, the same at every call, never twice."""

import dataclasses

import numpy as np
import pytest

from fedspeech.privacy.correlated_noise import CorrelatedNoise
from fedspeech.privacy.factorization import GRID, Factorization, inverse
from fedspeech.privacy.mechanisms import rounded_gaussian
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import Keystream

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    mechanism="matrix_factorization", participation="round_robin", dimension=4096, clip_norm=1.0,
    noise_multiplier=2.0, population=40, participation_probability=0.25, rounds=7,
    max_participations=2, min_cohort=8, min_reporting=8, delta=1e-3, epsilon_budget=10.0,
    factorization=Factorization(min_separation=4, bands=4, momentum=0.5),
)  # fmt: skip
SECRET = bytes(range(32))


def rows(plan=PLAN, secret=SECRET):
    noise = CorrelatedNoise(plan, secret)
    return np.array([noise.row(number) for number in range(plan.rounds)])


def strategy(plan=PLAN):
    found = np.zeros((plan.rounds, plan.rounds))
    for lag, coefficient in enumerate(plan.factorization.coefficients):
        found += np.diag(np.full(plan.rounds - lag, coefficient / GRID), -lag)
    return found


def deviations(whitened):
    """Entries of a sample covariance of white noise, in their standard errors."""
    count, samples = whitened.shape
    errors = np.where(np.eye(count, dtype=bool), np.sqrt(2 / samples), np.sqrt(1 / samples))
    return (whitened @ whitened.T / samples - np.eye(count)) / errors


def test_rows_have_the_covariance_that_is_priced():
    """C N is white of the stddev that the plan draws; 28 entries at 5.5 deviations: 1.1e-6.

    Rounding adds a variance of 1/12 to 1.5e5, far below what 4,096 samples tell.
    """
    found = rows()
    assert np.abs(deviations(strategy() @ found / PLAN.server_stddev)).max() < 5.5
    # And not by chance: as independent noise, and with rows in another order, the same rows fail.
    assert np.abs(deviations(found / PLAN.server_stddev)).max() > 20
    assert (
        np.abs(deviations(strategy() @ found[[1, 0, 2, 3, 4, 5, 6]] / PLAN.server_stddev)).max()
        > 20
    )
    variances = (found**2).mean(axis=1) / PLAN.server_stddev**2
    noise = CorrelatedNoise(PLAN, SECRET)
    wanted = [noise.variance(number) for number in range(PLAN.rounds)]
    assert np.abs(variances / wanted - 1).max() < 5.5 * np.sqrt(2 / 4096)
    assert wanted[-1] ** 0.5 == pytest.approx(PLAN.noise_gain, rel=1e-12)


def test_a_row_is_the_same_at_every_call_and_in_every_order():
    expected, noise = rows(), CorrelatedNoise(PLAN, SECRET)
    for number in (3, 3, 0, 6, 1, 5, 2, 4):
        np.testing.assert_array_equal(noise.row(number), expected[number])
    noise.row(2)[:] = 0  # what is given away is a copy
    np.testing.assert_array_equal(noise.row(3), expected[3])


def test_rows_of_two_rounds_and_of_two_secrets_are_not_the_same():
    one, other = rows(), rows(secret=bytes(32))
    assert np.abs(deviations(strategy() @ (one - other) / PLAN.server_stddev / 2**0.5)).max() < 5.5
    assert len({row.tobytes() for row in one}) == PLAN.rounds


def test_what_is_published_is_computed_from_the_strategy_times_the_sums_and_fresh_noise_alone():
    """y_t = round((C u)_t + z_t - what earlier y say), whatever the sums are: no other noise."""
    rng, found = np.random.default_rng(3), rows()
    sums = rng.integers(-(10**6), 10**6, found.shape)
    published = sums + found
    coefficients, noise = PLAN.factorization.coefficients, CorrelatedNoise(PLAN, SECRET)
    for number in range(PLAN.rounds):
        before = range(1, min(number, len(coefficients) - 1) + 1)
        strategic = GRID * sums[number] + sum(coefficients[i] * sums[number - i] for i in before)
        known = sum(coefficients[i] * published[number - i] for i in before)
        whole, rest = np.divmod(known - strategic, GRID)
        stream = Keystream(noise._derived("server noise", number))
        fresh = rounded_gaussian(stream, PLAN.server_stddev, -rest / GRID)
        np.testing.assert_array_equal(fresh - whole, published[number])


def test_one_band_is_independent_noise():
    plan = dataclasses.replace(PLAN, factorization=Factorization(min_separation=4, bands=1))
    assert np.abs(deviations(rows(plan) / plan.server_stddev)).max() < 5.5


def test_noise_in_a_sum_of_rows_is_what_its_weights_say():
    """Rounds 1 and 4 were abandoned: the variance of the sum of the others, 6 deviations: 2e-9."""
    noise, weights, total = CorrelatedNoise(PLAN, SECRET), np.empty(0), 0
    for number in (0, 2, 3, 5, 6):
        weights, total = noise.added(weights, number), total + noise.row(number)
    expected = np.zeros(PLAN.rounds)
    for number in (0, 2, 3, 5, 6):
        expected[: number + 1] += inverse(PLAN.factorization.coefficients, 7)[: number + 1][::-1]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    found = (total.astype(float) ** 2).mean() / PLAN.server_stddev**2
    assert abs(found / (weights @ weights) - 1) < 6 * np.sqrt(2 / 4096)


def test_a_commitment_names_a_secret_and_a_print_tells_nothing():
    one, same, other = (CorrelatedNoise(PLAN, s) for s in (SECRET, SECRET, bytes(32)))
    assert one.commitment == same.commitment != other.commitment
    one.row(2)
    assert repr(one) == "CorrelatedNoise(<3 rounds>)"
    assert CorrelatedNoise.fresh(PLAN).commitment != CorrelatedNoise.fresh(PLAN).commitment


def test_rounds_beyond_the_plan_and_plans_without_correlation_are_refused():
    for number in (-1, 7):
        with pytest.raises(ValueError, match="the plan has 7 rounds"):
            CorrelatedNoise(PLAN, SECRET).row(number)
    with pytest.raises(ValueError, match="a secret must have 32 bytes"):
        CorrelatedNoise(PLAN, b"short")
    plain = dataclasses.replace(PLAN, mechanism="central", factorization=None)
    with pytest.raises(ValueError, match="mechanism 'central' has no noise of other rounds"):
        CorrelatedNoise(plain, SECRET)

"""The strategy behind correlated noise: its sensitivity against every pattern, and references."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.privacy.factorization import (
    GRID,
    Factorization,
    advantage,
    check_strategy,
    inverse,
    most_participations,
    prefix_error,
    sensitivity,
)


def matrix(coefficients, rounds):
    """C, shape (rounds, rounds)."""
    found = np.zeros((rounds, rounds))
    for lag, coefficient in enumerate(coefficients[:rounds]):
        found += np.diag(np.full(rounds - lag, coefficient / GRID), -lag)
    return found


def patterns(rounds, apart, most):
    """Every set of rounds that a phone may join, none included."""
    for count in range(most + 1):
        for chosen in itertools.combinations(range(rounds), count):
            if all(later - earlier >= apart for earlier, later in itertools.pairwise(chosen)):
                yield list(chosen)


# From jax-privacy 2.0.0 (jax 0.10.2, 64 bits): `toeplitz.minsep_sensitivity_squared`, the root mean
# of `toeplitz.per_query_error`, the norm of `toeplitz.inverse_coef`; of these coefficients.
REFERENCES = [
    # momentum, rounds, bands, min_separation, participations; sensitivity, error, gain
    ((0.0, 40, 10, 10, 4), (2.676821952679029, 1.6549409674204916, 1.141237095759498)),
    ((0.9, 40, 10, 10, 4), (5.193575786388975, 4.660001169978223, 1.757591866192077)),
    ((0.0, 40, 40, 40, 1), (1.4961613056234386, 1.3914605346177675, 1.1283677237683205)),
    ((0.0, 100, 20, 10, 5), (3.8108468002576528, 1.8246998492211042, 1.135150520710712)),
    ((0.9, 64, 16, 7, 6), (10.388410560468472, 4.682934036214451, 1.6005166266265503)),
    ((0.5, 33, 5, 8, 3), (2.6475484250316503, 2.660393732394969, 1.3322895016863887)),
]


@pytest.mark.parametrize(("settings_of", "expected"), REFERENCES)
def test_sensitivity_error_and_gain_are_those_of_another_implementation(settings_of, expected):
    momentum, rounds, bands, apart, joined = settings_of
    own = Factorization(min_separation=apart, bands=bands, momentum=momentum)
    found = (
        sensitivity(own.coefficients, rounds, apart, joined),
        prefix_error(own.coefficients, rounds, momentum),
        own.gain(rounds),
    )
    assert found == pytest.approx(expected, rel=1e-12)


strategies = st.lists(st.integers(0, GRID), max_size=6).map(
    lambda more: (GRID, *sorted(more, reverse=True))
)


@settings(max_examples=25, deadline=None)
@given(strategies, st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
def test_no_pattern_of_participation_moves_more_and_one_moves_as_much(
    coefficients, rounds, apart, most
):
    claimed = sensitivity(coefficients, rounds, apart, most)
    strategy = matrix(coefficients, rounds)
    found = max(
        np.linalg.norm(strategy[:, chosen].sum(axis=1)) for chosen in patterns(rounds, apart, most)
    )
    assert found <= claimed * (1 + 1e-12)
    assert claimed <= found * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(strategies, st.integers(1, 8), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_no_vectors_of_norm_one_move_more_than_equal_ones(coefficients, rounds, apart, most, seed):
    rng = np.random.default_rng(seed)
    strategy = matrix(coefficients, rounds)
    claimed = sensitivity(coefficients, rounds, apart, most)
    for chosen in itertools.islice(patterns(rounds, apart, most), 40):
        vectors = rng.normal(size=(len(chosen), 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        assert np.linalg.norm(strategy[:, chosen] @ vectors) <= claimed * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(strategies, st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_fewer_rounds_fewer_participations_and_more_separation_never_cost_more(
    coefficients, rounds, apart, most
):
    whole = sensitivity(coefficients, rounds, apart, most)
    assert sensitivity(coefficients, max(1, rounds - 1), apart, most) <= whole
    assert sensitivity(coefficients, rounds, apart, max(1, most - 1)) <= whole
    assert sensitivity(coefficients, rounds, apart + 1, most) <= whole


def test_columns_that_do_not_overlap_cost_the_same_by_either_way():
    """The short way, for up to `min_separation` bands, and the sum of columns in its place."""
    own = Factorization(min_separation=7, bands=7, momentum=0.3).coefficients
    column = np.array(own) / GRID
    for rounds in (1, 6, 7, 8, 20, 21, 22):
        joined = most_participations(rounds, 7, 3)
        summed = np.zeros(rounds + 7)
        for start in range(0, 7 * joined, 7):
            summed[start : start + 7] += column
        found = sensitivity(own, rounds, 7, 3)
        assert found == pytest.approx(np.linalg.norm(summed[:rounds]), rel=1e-12)


def test_independent_noise_is_one_band():
    one = Factorization(min_separation=3, bands=1, momentum=0.9)
    assert one.coefficients == (GRID,)
    assert one.gain(100) == 1.0
    assert sensitivity(one.coefficients, 100, 3, 9) == 3.0
    assert advantage((GRID,), 100, 0.9, 3, 9) == 1.0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_the_strategy_is_the_square_root_of_the_sums(momentum):
    """Kalinin and Lampert 2024, Theorem 1: C C = A, but for bands that are cut off and 2^-20."""
    coefficients = Factorization(min_separation=1, bands=50, momentum=momentum).coefficients
    strategy = matrix(coefficients, 50)
    wanted = np.cumsum(momentum ** np.arange(50)) if momentum else np.ones(50)
    np.testing.assert_allclose((strategy @ strategy)[:, 0], wanted, atol=50 / GRID)
    np.testing.assert_allclose(
        matrix(inverse(coefficients, 50) * GRID, 50) @ strategy, np.eye(50), atol=1e-12
    )
    if momentum == 0:
        assert coefficients[:4] == (GRID, GRID // 2, GRID * 3 // 8, GRID * 5 // 16)


def test_the_closed_form_is_near_the_optimum():
    """Against jax-privacy 2.0.0, `toeplitz.optimize_banded_toeplitz`: errors of as many bands."""
    for rounds, apart, optimized in ((40, 10, 4.413237), (100, 10, 9.317657), (400, 20, 17.971379)):
        own = Factorization(min_separation=apart, bands=apart).coefficients
        joined = rounds // apart
        error = prefix_error(own, rounds, 0.0) * sensitivity(own, rounds, apart, joined)
        assert optimized < error < 1.08 * optimized


def test_a_strategy_whose_sensitivity_is_not_known_is_refused():
    for wrong in ((), (GRID - 1,), (GRID, GRID + 1), (GRID, 5, 6), (GRID, -1), (GRID, 0.5)):
        with pytest.raises(ValueError, match="begin with 1048576 and never rise or fall below 0"):
            check_strategy(wrong)
        with pytest.raises(ValueError, match="never rise"):
            sensitivity(wrong, 5, 2, 2)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"min_separation": 0}, "min_separation must be at least 1"),
        ({"bands": 0}, "bands must be at least 1"),
        ({"bands": 2.5}, "bands must be a whole number"),
        ({"bands": 4097}, "bands must be at most 4096"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        dataclasses.replace(Factorization(min_separation=4, bands=4), **changes)


def test_a_sensitivity_is_rounded_up():
    """Squared in fractions it is never below the whole number that it is the root of."""
    for second in (GRID // 2, GRID // 3, GRID // 7):
        found = Fraction(sensitivity((GRID, second), 2, 2, 1)) ** 2
        total = 1 + Fraction(second, GRID) ** 2
        assert total <= found < total * (1 + Fraction(1, 2**50))

"""Looks share one chance of a false alarm, however alike they are and whichever are missing."""

import numpy as np
import pytest
from scipy.stats import norm

from fedspeech.rollout.sequential import bounds, spent

NAN = float("nan")


@pytest.mark.parametrize(("first", "second"), [(2.178, 2.178), (2.796, 1.977)])
def test_two_looks_have_the_bounds_of_the_tables(first, second):
    """Pocock and O'Brien-Fleming at 0.025: Jennison and Turnbull 2000, tables 2.1 and 2.3."""
    found = bounds(np.array([1.0, 2.0]), np.array([norm.sf(first), 0.025]))
    assert found == pytest.approx([first, second], abs=1e-3)


def test_what_is_spent_rises_to_alpha_and_one_look_is_an_ordinary_test():
    assert spent(0.02, 4).tolist() == pytest.approx([0.00125, 0.005, 0.01125, 0.02])
    assert bounds(np.array([3.7]), spent(0.02, 1)) == pytest.approx([norm.isf(0.02)])
    with pytest.raises(ValueError, match="alpha must be above 0"):
        spent(0.5, 3)


@pytest.mark.parametrize("lasting", [0.0, 0.3, 20.0])
def test_a_drift_free_statistic_passes_a_bound_as_often_as_was_spent(lasting):
    """False-alarm rate 1e-4: 4 standard errors of 100,000 draws; one deviation may be common."""
    rng, draws, looks = np.random.default_rng(5), 100_000, 5
    spending, variance = spent(0.1, looks), lasting + 1 / np.arange(1, looks + 1)
    mean = rng.standard_normal((looks, draws)).cumsum(0) / np.arange(1, looks + 1)[:, None]
    mean += np.sqrt(lasting) * rng.standard_normal(draws)
    passed = mean / np.sqrt(variance)[:, None] > bounds(1 / variance, spending)[:, None]
    found = np.logical_or.accumulate(passed, 0).mean(1)
    error = 4 * np.sqrt(spending / draws)
    assert (found <= spending + error).all()
    if lasting < 1:  # looks that are all but one are taken to be less alike: bounds are too large
        assert (found >= spending - error).all()


def test_a_look_that_is_missing_leaves_its_chance_to_the_next():
    spending = spent(0.05, 3)
    with_gap = bounds(np.array([1.0, NAN, 2.0]), spending)
    assert np.isinf(with_gap[1])
    assert with_gap[[0, 2]] == pytest.approx(bounds(np.array([1.0, 2.0]), spending[[0, 2]]))
    late = bounds(np.array([NAN, NAN, 2.0]), spending)
    assert late[2] == pytest.approx(norm.isf(0.05))


def test_tests_side_by_side_do_not_touch_one_another():
    information = np.random.default_rng(1).uniform(1, 2, (4, 3, 7)).cumsum(0)
    information[1, 2, 5] = NAN
    together = bounds(information, spent(0.03, 4))
    for place in np.ndindex(3, 7):
        alone = bounds(information[(slice(None), *place)], spent(0.03, 4))
        assert together[(slice(None), *place)] == pytest.approx(alone)

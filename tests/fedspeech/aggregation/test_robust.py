"""Rules over sums of groups: values, breakdown, noise and refusals."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.aggregation.robust import Defense, reached
from fedspeech.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=8, clip_norm=0.1, noise_multiplier=3.0, population=300, groups=5,
    participation_probability=1.0, rounds=1, max_participations=1, min_cohort=40,
    min_reporting=40, delta=1e-4, epsilon_budget=math.inf,
)  # fmt: skip
MEANS = np.array([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0], [4.0, -6.0], [50.0, 5.0]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("mean", [12, 4.6]), ("median", [3, 7]), ("trimmed_mean", [3, 20 / 3])],
)
def test_a_rule_is_what_its_name_says(rule, expected):
    np.testing.assert_allclose(Defense(rule=rule).combined(MEANS), expected)


def test_of_an_even_number_the_median_is_between_the_two_in_the_middle():
    np.testing.assert_allclose(Defense(rule="median").combined(MEANS[1:]), [3.5, 6.0])


@given(
    groups=st.integers(3, 12),
    lies=st.floats(-1e9, 1e9),
    rule=st.sampled_from(["median", "trimmed_mean"]),
)
def test_lies_in_as_many_groups_as_are_tolerated_leave_the_range_of_the_honest(groups, lies, rule):
    defense = Defense(rule=rule)
    honest = np.random.default_rng(groups).normal(size=(groups, 3))
    few = defense.tolerated(groups)
    attacked = np.concatenate([np.full((few, 3), lies), honest[few:]])
    found = defense.combined(attacked)
    assert (found >= honest[few:].min(axis=0) - 1e-12).all()
    assert (found <= honest[few:].max(axis=0) + 1e-12).all()
    beyond = np.concatenate([np.full((groups // 2 + 1, 3), 1e12), honest[groups // 2 + 1 :]])
    assert (defense.combined(beyond) > 1e9).all()


def test_noise_of_a_median_is_wider_by_what_order_statistics_say():
    """Var of the median of five standard normals .2868, of nine .1661 (Teichroew 1956, Table I)."""
    for groups, variance in ((5, 0.28683), (9, 0.16610)):
        factor = Defense(rule="median").noise_factor(groups)
        assert factor**2 / groups == pytest.approx(variance, rel=0.02)
    assert Defense().noise_factor(5) == 1.0
    assert 1 < Defense(rule="trimmed_mean").noise_factor(8) < Defense(rule="median").noise_factor(8)


@pytest.mark.parametrize(("attackers", "tolerated"), [(3, 2), (4, 2), (4, 1), (7, 3)])
def test_the_chance_of_many_attacked_groups_is_that_of_all_ways_to_deal(attackers, tolerated):
    """12 cards in four groups of three, all ways counted."""
    ways = list(itertools.combinations(range(12), attackers))
    many = sum(len({card % 4 for card in way}) > tolerated for way in ways)
    assert reached(12, 4, attackers, tolerated) == pytest.approx(many / len(ways))


def test_a_large_share_of_attackers_is_beyond_every_rule():
    assert reached(300, 5, 60, 2) == 1.0
    assert reached(300, 5, 2, 2) == 0.0


def test_rules_are_refused_where_there_is_one_sum_or_no_hope():
    whole = dataclasses.replace(PLAN, groups=1)
    with pytest.raises(ValueError, match="median reads several sums: single updates stay under"):
        Defense(rule="median").check(whole)
    with pytest.raises(ValueError, match="it would promise what it cannot keep"):
        Defense(rule="median").check(dataclasses.replace(PLAN, colluders=5))
    Defense(rule="median").check(dataclasses.replace(PLAN, colluders=2))
    Defense(rule="mean").check(dataclasses.replace(PLAN, colluders=30))
    with pytest.raises(ValueError, match="rule"):
        Defense(rule="krum")


def test_a_step_is_accepted_by_its_rise_and_not_if_it_is_no_number():
    assert Defense(max_loss_rise=0.1).accepts(1.0, 1.1)
    assert not Defense(max_loss_rise=0.1).accepts(1.0, 1.2)
    assert not Defense(max_loss_rise=0.1).accepts(1.0, math.nan)
    assert Defense().accepts(1.0, 9.0)

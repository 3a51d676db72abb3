"""Plans with sums of groups: sizes, price and refusals."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import binom

from fedspeech.privacy.failure_probabilities import probabilities
from fedspeech.privacy.filling import fill
from fedspeech.privacy.participation import dealt
from fedspeech.privacy.plan import PrivacyPlan

WHOLE = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=600, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=18, min_cohort=30,
    min_reporting=30, delta=1 / 30_000, epsilon_budget=math.inf,
)  # fmt: skip
GROUPED = dataclasses.replace(WHOLE, groups=5)


def change(**changes):
    return dataclasses.replace(GROUPED, **changes)


@pytest.mark.parametrize("mechanism", ["distributed", "skellam"])
@pytest.mark.parametrize("colluders", [0, 5])
def test_each_group_has_full_noise_from_its_own_fewest_honest_phones(mechanism, colluders):
    """Worked from the definition: m_min - c shares of a sum make z C s (privacy design, 2.4)."""
    plan = change(mechanism=mechanism, colluders=colluders, participation="round_robin",
                  max_participations=4)  # fmt: skip
    shares = plan.min_reporting - colluders
    whole = plan.noise_multiplier * plan.clip_norm * plan.scale
    assert shares * plan.stddev**2 == pytest.approx(whole**2)
    assert plan.cost.given.shares == shares


def test_the_price_is_that_of_one_sum_of_the_smaller_population():
    """A phone is in one of the sums: five times 600 phones cost each phone what 600 alone cost."""
    alone = dataclasses.replace(GROUPED, groups=1, population=600, delta=GROUPED.delta)
    ours, theirs = GROUPED.guarantee(40), alone.guarantee(40)
    for name in ("epsilon_release", "epsilon_server"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-3)
    assert ours.relation_release == theirs.relation_release
    assert GROUPED.ring == alone.ring
    assert GROUPED.expected_in_sum == alone.expected_cohort
    assert GROUPED.norm_bound == alone.norm_bound


def test_groups_of_the_same_minimum_cost_as_much_as_one_sum_of_it():
    """Epsilon does not change where the minimum does not; only who decides over it does."""
    assert GROUPED.guarantee(40).epsilon_server == pytest.approx(
        WHOLE.guarantee(40).epsilon_server, rel=0.01
    )
    fifth = dataclasses.replace(WHOLE, min_cohort=150, min_reporting=150)
    assert fifth.stddev / fifth.scale < GROUPED.stddev / GROUPED.scale


def test_one_phone_decides_over_its_own_group_as_over_a_smaller_population():
    """P[it comes] P[29 of 599 others in its group come], by the definition of the event."""
    found = probabilities(GROUPED)["the cohort list is below min_cohort"]
    assert found == pytest.approx(0.1 * binom.pmf(29, 599, 0.1), rel=1e-6)


def test_the_server_draws_as_many_times_the_noise_as_there_are_groups():
    central = change(mechanism="central")
    one = dataclasses.replace(central, groups=1)
    name = "samplers miss their ideals"
    assert probabilities(central)[name] == pytest.approx(5 * probabilities(one)[name], rel=0.2)
    assert central.noise_norm(300) == pytest.approx(math.sqrt(5) * one.noise_norm(300), rel=0.01)


def test_a_mean_of_groups_has_noise_wider_by_the_root_of_their_number():
    full = dataclasses.replace(WHOLE, min_cohort=150, min_reporting=150)
    ratio = GROUPED.noise_norm(300) / full.noise_norm(300)
    assert ratio == pytest.approx(math.sqrt(5), rel=0.01)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": 0}, "groups must be 1"),
        ({"groups": 2}, "of two, none is in the middle"),
        ({"groups": True}, "groups must be 1"),
        ({"groups": 5, "min_cohort": 301, "min_reporting": 30}, "min_cohort must be at most"),
        ({"min_cohort": 601, "min_reporting": 601}, "population / groups"),
        ({"mechanism": "local"}, "whose server sees each vector"),
        ({"cohort_cap": 400}, "groups must be 1 with a cohort_cap"),
        ({"availability": 0.9}, "groups must be 1 with availability"),
        ({"participation": "fixed_size", "groups": 7}, "groups must divide the phones"),
    ],
)
def test_what_has_no_argument_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        change(**changes)


def test_a_plan_of_one_sum_keeps_its_fingerprint_and_one_of_groups_has_its_own():
    assert "groups" not in WHOLE.identity()
    assert len({dataclasses.replace(WHOLE, groups=g).fingerprint for g in (1, 5, 6)}) == 3


def test_what_is_filled_in_keeps_the_minimums_of_a_group():
    given = {
        "mechanism": "distributed", "participation": "poisson", "population": 100_000,
        "cohort": 2000, "rounds": 40, "noise_multiplier": 2.0,
    }  # fmt: skip
    plan = fill(**given, groups=8).plan
    assert plan.min_reporting <= 0.75 * 250
    assert plan.guarantee(40).relation_release == "add/remove"
    with pytest.raises(ValueError, match="groups must be an integer from 1"):
        fill(**given, groups=0)


def test_dealing_is_even_and_does_not_depend_on_who_comes():
    phones = np.arange(23)
    group = dealt(phones, 5, bytes(32))
    assert sorted(np.bincount(group).tolist()) == [4, 4, 5, 5, 5]
    assert (group != dealt(phones, 5, b"1" * 32)).any()

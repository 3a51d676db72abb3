import dataclasses
import math

import pytest

from fedspeech.privacy.calibration import noise_for_epsilon
from fedspeech.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(
    dimension=600, clip_norm=0.1, noise_multiplier=1.0, population=3000,
    participation_probability=0.1, rounds=40, quota=18, min_cohort=215, min_survivors=215,
    delta=1 / 30_000, epsilon_budget=9.0,
)  # fmt: skip


def spent(noise_multiplier, plan=PLAN):
    plan = dataclasses.replace(plan, noise_multiplier=noise_multiplier)
    return plan.guarantee(plan.rounds).epsilon_release


@pytest.mark.parametrize("epsilon", [0.95, 0.6, 1.5])
def test_the_answer_meets_epsilon_and_a_little_less_does_not(epsilon):
    noise = noise_for_epsilon(PLAN, epsilon)
    assert spent(noise) <= epsilon < spent(noise * 0.998)


def test_the_answer_does_not_depend_on_the_noise_that_the_plan_had():
    other = dataclasses.replace(PLAN, noise_multiplier=7.0)
    assert noise_for_epsilon(other, 1.0) == noise_for_epsilon(PLAN, 1.0)


def test_more_noise_never_costs_more():
    prices = [spent(noise) for noise in (0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)]
    assert prices == sorted(prices, reverse=True)


def test_an_epsilon_below_what_withheld_noise_tells_is_refused():
    wide = dataclasses.replace(PLAN, dimension=16_000)
    with pytest.raises(ValueError, match=r"no noise_multiplier reaches epsilon=0\.5 in rounds=40"):
        noise_for_epsilon(wide, 0.5)


def test_a_plan_without_noise_or_an_epsilon_of_zero_is_refused():
    none = dataclasses.replace(
        PLAN, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf
    )
    with pytest.raises(ValueError, match="adds no noise"):
        noise_for_epsilon(none, 1.0)
    with pytest.raises(ValueError, match="epsilon must be positive"):
        noise_for_epsilon(PLAN, 0.0)

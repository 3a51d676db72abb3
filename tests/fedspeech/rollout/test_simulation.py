"""Simulated roll-outs end as the plan promises."""

import dataclasses

import numpy as np
import pytest

from fedspeech.rollout.plan import Evaluation, RolloutPlan, Stage
from fedspeech.rollout.power import forecast
from fedspeech.rollout.simulation import simulate

ACCENTS = {"accent": {"us": 0.5, "uk": 0.25, "in": 0.15, "scottish": 0.1}}
POPULATION = 600_000
"""At which 5 points in an accent of a tenth of the phones are found by a stage of 1 %."""
PLAN = RolloutPlan(
    phones=POPULATION, segments=ACCENTS, evaluation=Evaluation(epsilon=4.0, phone_stddev=0.1)
)


def check(seeds, chance):
    """Both promises over some seeds; `chance`: binomial slack of a passing product."""
    plan = forecast(PLAN).plan
    assert plan == PLAN  # no accent is merged
    harmless = simulate(plan, seeds=seeds)
    harmful = simulate(plan, losses={"accent=scottish": 0.05}, seeds=seeds)
    stopped = harmful.rolled_back & (harmful.served < 0.1)
    assert harmless.reached.mean() >= 0.95 - chance
    assert stopped.mean() >= 0.9 - chance
    return harmless, harmful


@pytest.mark.slow
def test_the_harmless_is_served_to_all_and_harm_is_stopped_early():
    """40 seeds: a share of 0.97, as over 200, falls below 0.8 with probability 1e-5."""
    check(range(1000, 1040), 0.1)


@pytest.mark.soak
def test_both_promises_over_two_hundred_seeds():
    """No slack: the shares that are promised are those that are seen."""
    harmless, harmful = check(range(200), 0.0)
    assert not harmful.reached.any()
    assert harmless.looks.mean() < 8


@pytest.mark.parametrize(
    ("missing", "seeds"),
    [
        pytest.param(0.4, 200, marks=pytest.mark.slow),
        pytest.param(0.0, 2000, marks=pytest.mark.soak),
        pytest.param(0.4, 2000, marks=pytest.mark.soak),
    ],
)
def test_the_chance_of_a_false_alarm_is_that_of_the_plan(missing, seeds):
    """One stage may spend a third of alpha; false-alarm rate of the test 1e-3."""
    stages = tuple(dataclasses.replace(one, margin=1e-6) for one in PLAN.stages)  # none is cleared
    asked = dataclasses.replace(PLAN.evaluation, participation=0.6)
    plan = dataclasses.replace(PLAN, stages=stages, alpha=0.45, beta=1e-9, evaluation=asked)
    found = simulate(plan, seeds=range(seeds), missing=missing)
    assert found.rolled_back.mean() <= 0.15 + 3 * np.sqrt(0.15 * 0.85 / seeds)
    assert found.rolled_back.mean() >= 0.05  # and it is not empty talk
    assert found.paused.sum() == (~found.rolled_back).sum()


def test_a_large_loss_is_found_at_the_first_look_and_nobody_else_gets_it():
    plan = dataclasses.replace(
        PLAN, stages=(Stage(share=0.1, windows=2), Stage(share=1.0)),
        evaluation=Evaluation(epsilon=float("inf"), phone_stddev=0.1),
    )  # fmt: skip
    found = simulate(plan, losses={"accent=uk": 0.2}, seeds=range(5))
    assert found.rolled_back.all()
    assert (found.looks == 1).all()
    assert (found.served == 0.1).all()
    with pytest.raises(ValueError, match="losses must be of accent=us"):
        simulate(plan, losses={"accent=x": 0.1}, seeds=range(1))

"""What could be found is said before the start, and holds in simulated roll-outs."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm

from fedspeech.errors import ScenarioError
from fedspeech.rollout.plan import Evaluation, RolloutPlan, Stage
from fedspeech.rollout.power import detectable, forecast
from fedspeech.rollout.simulation import simulate

NO_NOISE = Evaluation(epsilon=math.inf, phone_stddev=0.1)
ACCENTS = {"accent": {"us": 0.6, "scottish": 0.3, "welsh": 0.1}}


def test_one_look_without_noise_finds_what_two_shares_would():
    """(z_alpha + z_power) standard errors of a difference, phones and clips added up by hand."""
    stage = Stage(share=0.5, windows=1)
    asked = dataclasses.replace(NO_NOISE, clips=20)
    plan = RolloutPlan(phones=2_000, stages=(stage, Stage(share=1.0)), evaluation=asked)
    (found,) = detectable(plan, stage)
    variance = 2 * (0.01 + (0.09 - 0.01) / 20) / 1_000
    assert found.smallest == pytest.approx(
        (norm.isf(plan.alpha) + norm.isf(0.1)) * math.sqrt(variance), rel=1e-3
    )


@pytest.mark.slow
def test_more_phones_and_more_epsilon_find_less():
    stage = Stage(share=0.01)

    def smallest(phones, epsilon):
        plan = RolloutPlan(phones=phones, evaluation=Evaluation(epsilon=epsilon))
        return detectable(plan, stage)[0].smallest

    found = [smallest(10**6, 1.0), smallest(10**6, 8.0), smallest(10**7, 8.0)]
    assert found == sorted(found, reverse=True)


def test_small_segments_are_merged_until_they_show_the_margin():
    found = forecast(RolloutPlan(phones=80_000, segments=ACCENTS, evaluation=NO_NOISE))
    assert found.merged == {
        "accent=scottish": "accent=scottish+welsh", "accent=welsh": "accent=scottish+welsh"
    }  # fmt: skip
    assert found.plan.cells == pytest.approx({"accent=us": 0.6, "accent=scottish+welsh": 0.4})
    assert not found.refused
    large = forecast(RolloutPlan(phones=10**7, segments=ACCENTS, evaluation=NO_NOISE))
    assert not large.merged


@pytest.mark.slow
def test_a_stage_that_could_find_nothing_is_refused_with_what_would_do():
    plan = RolloutPlan(phones=20_000, segments=ACCENTS)
    found = forecast(plan)
    assert found.refused[0].share == 0.01
    said = found.reason(found.refused[0])
    assert "the stage of 1 % could not find a loss of 5 points in accent=scottish+us+welsh" in said
    phones = int(said.partition("a population of ")[2].split()[0].replace(",", ""))
    assert not forecast(dataclasses.replace(plan, phones=phones)).refused
    assert forecast(dataclasses.replace(plan, phones=int(0.9 * phones))).refused
    share = float(said.partition("or a stage of ")[2].split()[0]) / 100
    larger = (Stage(share=share), Stage(share=1.0))
    assert not forecast(dataclasses.replace(plan, stages=larger)).refused


def test_k_min_withholds_what_is_too_small_to_be_shown():
    asked = dataclasses.replace(NO_NOISE, k_min=10**6)
    plan = RolloutPlan(phones=10**6, evaluation=asked)
    found = forecast(plan)
    assert found.detectable[0].smallest is None
    assert "its cell would be withheld (100000 clips a window" in found.reason(plan.stages[0])


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [2.0, math.inf])
def test_the_smallest_loss_is_found_as_often_as_it_says(epsilon):
    """At least 90 % of 400; false-alarm rate 1e-3: three standard errors."""
    stages = (Stage(share=0.05, windows=4), Stage(share=1.0))
    asked = Evaluation(epsilon=epsilon, phone_stddev=0.1, clips=20, participation=0.7)
    plan = RolloutPlan(phones=10**6, stages=stages, evaluation=asked)
    smallest = detectable(plan, stages[0])[0].smallest
    # Nothing may be cleared: what is asked is the test for harm alone.
    narrow = dataclasses.replace(stages[0], margin=1e-9)
    plan = dataclasses.replace(plan, stages=(narrow, stages[1]))
    found = simulate(plan, losses={"everybody": smallest}, seeds=range(400))
    share = found.rolled_back.mean()
    assert 0.9 - 3 * np.sqrt(0.09 / 400) <= share <= 0.97


def test_a_plan_file_says_what_it_may_hold():
    text = "phones = 1000\n[[stages]]\nshare = 1.0\n[evaluation]\nepsilon = inf\n"
    plan = RolloutPlan.from_toml(text)
    assert plan.evaluation.epsilon == math.inf
    assert plan.noise_stddev == 0
    assert RolloutPlan.from_record(plan.to_record()) == plan
    for text, why in (
        ("phones = 1\nseats = 2", "has the keys .*phones.*, got seats"),
        ("phones = 1\n[evaluation]\nepsilons = 1", "got epsilons"),
        ("phones = ", "is a TOML file"),
        ("alpha = 0.1", "phones"),
    ):
        with pytest.raises(ScenarioError, match=why):
            RolloutPlan.from_toml(text)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stages": (Stage(share=0.5), Stage(share=0.1), Stage(share=1.0))}, "must rise"),
        ({"stages": (Stage(share=0.5),)}, "end with 1"),
        ({"segments": {"accent": {"us": 0.5, "uk": 0.4}}}, "sum to 1"),
        ({"tolerance": 0.02}, "below every margin"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"reset_after_days": 0}, "reset_after_days"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_plan_out_of_range_is_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        RolloutPlan(phones=1000, **changes)


def test_two_answers_in_a_window_share_the_epsilon_of_one():
    """As many releases as in twice the windows, at the same epsilon of the whole."""
    once, twice = (
        RolloutPlan(phones=10**6, evaluation=Evaluation(epsilon=2.0, answers=answers))
        for answers in (1, 2)
    )
    assert twice.noise_stddev == pytest.approx(math.sqrt(2) * once.noise_stddev, rel=0.02)
    stages = tuple(dataclasses.replace(one, windows=2 * one.windows) for one in once.stages)
    longer = dataclasses.replace(once, stages=stages)
    assert twice.noise_stddev == longer.noise_stddev


def test_a_phone_answers_once_or_twice_in_a_window():
    with pytest.raises(ValueError, match="answers must be 1 or 2, got answers=3"):
        Evaluation(answers=3)

"""What is tried is what was asked for, and a clip norm is never a rate in disguise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_experiment import cache, tiny_experiment, tiny_scenario

from fedspeech.errors import ScenarioError
from simulations.scenario.reading import read_scenario
from simulations.setup.experiment import build_experiment
from simulations.tuning.space import Setting, Space, log_spaced, parse_axis


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1:0.8:4", (0.1, 0.2, 0.4, 0.8)),
        ("0.3,0.1,0.3", (0.1, 0.3)),
        ("2", (2.0,)),
    ],
)
def test_an_axis_is_a_range_a_list_or_a_number(text, values):
    assert parse_axis(text, "--clip-norm") == values


@pytest.mark.parametrize(
    "text",
    ["", "a", "0.1:0.2", "0:1:3", "1:1:3", "2:1:3", "1:2:1", "1:2:2.5", "nan", "inf", "-1", "0",
     "1,,2", "1e308:1e309:3", "1:2:3:4"],
)  # fmt: skip
def test_any_other_axis_is_refused_with_the_rule(text):
    with pytest.raises(ScenarioError, match=r"--clip-norm takes LO:HI:STEPS"):
        parse_axis(text, "--clip-norm")


@given(low=st.floats(1e-6, 1e3), factor=st.floats(1.01, 1e4), steps=st.integers(2, 40))
def test_log_spacing_keeps_its_ends_and_rises(low, factor, steps):
    values = log_spaced(low, low * factor, steps)
    assert values[0] == low
    assert values[-1] == low * factor
    assert list(values) == sorted(set(values))


def test_a_clip_norm_is_swept_at_constant_step():
    space = Space.around(
        read_scenario("default"), clip_norm=(0.025, 0.1, 0.4), noise_multiplier=(3.0,)
    )
    products = {setting.clip_norm * setting.server_learning_rate for setting in space.settings()}
    assert max(products) == pytest.approx(min(products), rel=1e-3)
    assert space.at(0.1, 3.0) == Setting.of(read_scenario("default"))
    assert "held at 0.2" in space.rule


def test_a_rate_that_is_searched_is_not_tied_to_the_clip():
    space = Space.around(
        read_scenario("quick"), clip_norm=(0.1, 0.2), noise_multiplier=(1.0,),
        server_learning_rate=(1.0, 3.0),
    )  # fmt: skip
    found = space.settings()
    assert [(one.clip_norm, one.server_learning_rate) for one in found] == [
        (0.1, 1.0), (0.1, 3.0), (0.2, 1.0), (0.2, 3.0)
    ]  # fmt: skip


def test_an_optimizer_that_divides_by_the_step_keeps_its_rate():
    scenario = read_scenario(
        "quick", ["server_optimizer.optimizer=fedadam", "server_optimizer.learning_rate=0.02"]
    )
    space = Space.around(scenario, clip_norm=(0.01, 1.0))
    assert {one.server_learning_rate for one in space.settings()} == {0.02}


def test_a_scenario_without_noise_has_no_noise_to_search():
    space = Space.around(read_scenario("no-privacy"))
    assert space.noise_multiplier == (0.0,)
    with pytest.raises(ScenarioError, match="no noise multiplier to search"):
        Space.around(read_scenario("no-privacy"), noise_multiplier=(1.0,))


def test_a_clip_norm_that_moves_by_itself_is_not_searched():
    scenario = read_scenario("quick", ["privacy.adaptive_clipping={target_quantile=0.5}"])
    assert Space.around(scenario).clip_norm == (0.1,)
    with pytest.raises(ScenarioError, match="moves the clip norm by itself"):
        Space.around(scenario, clip_norm=(0.1, 0.2))


def test_half_an_epoch_is_refused():
    with pytest.raises(ScenarioError, match="whole numbers"):
        Space.around(read_scenario("quick"), local_epochs=(0.5, 1.0))


@pytest.mark.slow
def test_a_setting_makes_of_a_job_what_its_scenario_would_build():
    setting = Setting(
        clip_norm=0.05, noise_multiplier=1.5, server_learning_rate=0.7, local_epochs=1
    )
    scenario = setting.scenario(tiny_scenario())
    assert Setting.of(scenario) == setting
    built = build_experiment(
        scenario, cache=cache(), simulation_only=None, workers=1, progress=lambda done, total: None
    ).job
    assert setting.job(tiny_experiment().job) == built


def test_a_setting_that_the_plan_refuses_is_named():
    setting = Setting.of(tiny_scenario()).model_copy(update={"noise_multiplier": 1e-4})
    with pytest.raises(ScenarioError, match=r"noise multiplier 0\.0001.*stddev"):
        setting.job(tiny_experiment().job)

"""Stages of a company: each allows its parts and refuses the rest by name."""

import typing

import pytest
from tiny_experiment import cache, tiny_scenario

import fedspeech as fs
from fedspeech.errors import ScenarioError
from simulations.scenario.reading import read_scenario
from simulations.scenario.stages import NAMES, PARTS, Stage, require_stage


def test_a_scenario_is_at_the_last_stage_unless_it_says_otherwise():
    assert read_scenario("quick").stage == max(typing.get_args(Stage))
    with pytest.raises(ScenarioError, match="stage"):
        read_scenario("quick", ["stage=5"])


@pytest.mark.parametrize("stage", NAMES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_refused_before_its_stage_and_allowed_from_it(part, stage):
    if stage >= PARTS[part]:
        require_stage("watch", stage, part)
        return
    with pytest.raises(ScenarioError) as refused:
        require_stage("watch", stage, part)
    words = str(refused.value)
    assert words.startswith(f"{part} comes with stage {PARTS[part]} ({NAMES[PARTS[part]]})")
    assert f"stage = {stage}" in words
    later = [other for other, first in PARTS.items() if first > stage]
    assert not any(other in words.partition("which has ")[2].split(". ")[0] for other in later)


def test_training_is_refused_before_anything_is_prepared(tmp_path):
    for call in (
        lambda: fs.tune(tiny_scenario("stage=3"), out=tmp_path / "tune"),
        lambda: fs.prepare(tiny_scenario("stage=3"), tmp_path / "job"),
    ):
        with pytest.raises(ScenarioError, match="comes with stage 4"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "models"), [(1, {"base"}), (3, {"base", "personalized", "control"})]
)
def test_a_run_of_an_earlier_stage_asks_nobody_and_evaluates_what_there_is(stage, models, tmp_path):
    run = fs.simulate(
        tiny_scenario(f"stage={stage}"), out=tmp_path / "run", workers=1, cache=cache(),
        progress=False,
    )  # fmt: skip
    assert run.complete
    assert len(run.rounds) == run.summary.rounds == run.summary.rounds_planned == 0
    assert run.guarantee.epsilon_release == 0
    assert run.summary.status == "complete"
    for section in run.summary.sections:
        assert {metric.model for metric in section.metrics if metric.model} <= models
    assert set(run.summary.section("accuracy").by_model()) == models
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Training together" not in page
    if stage < 3:
        with pytest.raises(ScenarioError, match="personalize comes with stage 3"):
            fs.personalize(run, progress=False)
        with pytest.raises(ScenarioError, match="personalize comes with stage 3"):
            run.export(adapter="phone-1", progress=False)
    else:
        assert len(fs.personalize(run, progress=False, cache=cache()).phones) == 3

"""A server rule and a local trainer of another package, in whole rounds of the grid."""

import dataclasses

import numpy as np
import own_rules
import pytest
from tiny_experiment import cache, tiny_scenario
from tiny_job import TRAINING, make_job
from whole_runs import run_in_grid, run_reference

from fedspeech.aggregation.own_optimizer import OwnOptimizer
from fedspeech.errors import ExportRefused, ScenarioError
from fedspeech.training.own_trainer import OwnTrainer
from simulations.artifacts.on_device_round import run_on_device
from simulations.results.run_folder import read
from simulations.run.runner import simulate

RULE = OwnOptimizer(rule="own_rules:HeavyBall")
TRAINER = OwnTrainer(trainer="own_rules:OneByOne", settings={"longer": 1e3})


def whole_run(folder, query, **settings):
    folder.mkdir()
    path, job, arrays = make_job(folder, query=query)
    job = dataclasses.replace(job, **settings)
    job.save(path)
    records, state = run_in_grid(path, job, arrays, folder / "grid.jsonl")
    return job, records, state


@pytest.mark.slow
def test_an_own_rule_gives_the_bits_of_the_shipped_one(tmp_path):
    """Heavy ball is TRAINING's optimizer; the second run draws the first one's coins and noise."""
    job, _, shipped = whole_run(tmp_path / "shipped", TRAINING)
    own = dataclasses.replace(TRAINING, optimizer=RULE)
    other, _, state = whole_run(tmp_path / "own", own, repeats=job.run_id)
    assert job.fingerprint != other.fingerprint
    np.testing.assert_array_equal(state.query.parameters, shipped.query.parameters)


@pytest.mark.slow
def test_epsilon_and_the_length_of_a_delta_do_not_depend_on_the_trainer(tmp_path):
    """Deltas a thousand times as long leave their phones clipped to the same norm."""
    job, records, _ = whole_run(tmp_path / "ours", TRAINING)
    longer = dataclasses.replace(TRAINING, trainer=TRAINER)
    other, again, _ = whole_run(tmp_path / "own", longer, repeats=job.run_id)
    assert [r.guarantee for r in records] == [r.guarantee for r in again]
    # The plan refuses a sum that honest phones cannot make; these are honest.
    assert [record.status for record in again] == ["completed"] * 3
    assert other.plan == job.plan


@pytest.mark.slow
def test_round_and_grid_agree_on_both(tmp_path):
    query = dataclasses.replace(TRAINING, optimizer=RULE, trainer=TRAINER)
    path, job, arrays = make_job(tmp_path, query=query)
    totals, _ = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, _ = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl")
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)


def test_a_round_in_a_file_is_not_a_round_of_an_own_trainer(tmp_path):
    _, job, arrays = make_job(tmp_path, query=dataclasses.replace(TRAINING, trainer=TRAINER))
    with pytest.raises(ExportRefused, match="train by own_rules:OneByOne, and the file by this"):
        run_on_device(b"", job, arrays.initial)


@pytest.mark.slow
def test_a_scenario_names_both(tmp_path):
    scenario = tiny_scenario(
        'server_optimizer.rule="own_rules:HeavyBall"', "server_optimizer.settings={rate=0.25}",
        'training.trainer="own_rules:OneByOne"',
    )  # fmt: skip
    run = simulate(scenario, out=tmp_path / "run", workers=1, cache=cache())
    assert read(run).summary.status == "complete"
    assert own_rules.__name__ in (run / "job.json").read_text()


def test_a_scenario_names_no_code_that_nobody_declared(tmp_path):
    scenario = tiny_scenario('server_optimizer.rule="os:system"')
    with pytest.raises(ScenarioError, match="declared as an entry point of the group"):
        simulate(scenario, out=tmp_path / "run", workers=1, cache=cache())
    assert not (tmp_path / "run").exists()

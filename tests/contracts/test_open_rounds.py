"""Rounds that overlap: phones train on a model that is some steps old, at the price of the plan."""

import dataclasses

import numpy as np
import pytest
from tiny_job import TRAINING, make_job, with_plan
from whole_runs import run_in_grid, run_reference

from fedspeech.aggregation.early_stopping import EarlyStopping
from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.device.virtual_time import CHECK_IN_S, RoundTimes, TimeAxis
from fedspeech.job import Job
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from fedspeech.training.virtual_phones import VirtualPhones
from server.rounds import run_rounds
from server.state import Checkpoint, load_checkpoint, save_checkpoint
from simulations.engines.in_process import InProcessGrid

ROUNDS = 4
QUERY = dataclasses.replace(TRAINING, optimizer=FedOpt(learning_rate=0.5))


def job_of(folder, open_rounds, **plan):
    """A job of 2,000 phones that share 60 voices, a few of them away at every hour."""
    folder.mkdir(exist_ok=True)
    path, job, _ = make_job(folder, query=QUERY)
    settings = {
        "population": 2000, "participation_probability": 0.1, "availability": 0.39,
        "rounds": ROUNDS, "max_participations": ROUNDS, "min_cohort": 40, "min_reporting": 30,
        "dropout_rate": 0.3, "delta": 1 / 20_000,
    }  # fmt: skip
    job = dataclasses.replace(
        with_plan(job, **settings | plan),
        virtual_phones=VirtualPhones(seed=5, share=0.5),
        time=TimeAxis(seed=5, every_h=24.0, deadline_s=4.0, open_rounds=open_rounds),
    )
    job.save(path)
    return path, job, job.load_arrays()


def test_a_round_is_sent_the_model_of_some_steps_ago(tmp_path):
    """By hand: of three open rounds, the first three train on the model before all of them."""
    _, job, arrays = job_of(tmp_path, open_rounds=3)
    state, sent, models = ServerState.initial(job, arrays), [], []
    for step in range(ROUNDS):
        sent.append(state.sent)
        models.append(state.model)
        mean = np.full(job.plan.dimension, float(step + 1))
        state = dataclasses.replace(
            state,
            query=job.query.update(state.query, mean),
            earlier=(state.model, *state.earlier)[: job.staleness],
        )
    for number, expected in enumerate([0, 0, 0, 1]):
        np.testing.assert_array_equal(sent[number], models[expected])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ideal", "masked"])
def test_round_and_grid_agree_on_stale_models(tmp_path, way):
    path, job, arrays = job_of(tmp_path, open_rounds=2, secure_aggregation=way)
    totals, reference = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, state = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl")
    assert [record.status for record in records] == ["completed"] * ROUNDS
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    np.testing.assert_array_equal(state.query.parameters, reference.query.parameters)
    np.testing.assert_array_equal(state.sent, reference.earlier[0])


@pytest.mark.slow
def test_the_price_is_that_of_rounds_one_after_the_other(tmp_path):
    (_, apart, arrays), (_, open_, _) = (
        job_of(tmp_path / f"{count}", open_rounds=count) for count in (1, 3)
    )
    assert apart.plan == open_.plan
    ledgers = []
    for name, job in (("apart", apart), ("open", open_)):
        run_reference(job, arrays, tmp_path / f"{name}.jsonl")
        ledgers.append(Ledger.inspect(tmp_path / f"{name}.jsonl", job.run_id).guarantee())
    assert ledgers[0] == ledgers[1]


@pytest.mark.slow
def test_a_resumed_run_sends_the_same_models(tmp_path):
    path, job, arrays = job_of(tmp_path, open_rounds=3)
    states = []
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        run_rounds(
            grid, job, ledger, ServerState.initial(job, arrays), lambda _, s: states.append(s)
        )
    for number, state in enumerate(states):
        place = tmp_path / "kept.safetensors"
        save_checkpoint(place, Checkpoint(state=state, next_round=number + 1, opened=0))
        restored = load_checkpoint(place).state
        np.testing.assert_array_equal(restored.sent, state.sent)
        assert len(restored.earlier) == len(state.earlier) == min(number + 1, 2)


def test_one_round_at_a_time_is_the_run_that_it_always_was(tmp_path):
    path, job, _ = job_of(tmp_path, open_rounds=1)
    assert job.staleness == 0
    assert "open_rounds" not in job._settings()["time"]
    overlapping = dataclasses.replace(job.time, open_rounds=2)
    assert dataclasses.replace(job, time=overlapping).run_id != job.run_id
    assert Job.load(path) == job


def test_rounds_may_follow_one_another_as_fast_as_that_many_are_open():
    with pytest.raises(ValueError, match=r"1 may be open at a time: every_h must be at least"):
        RoundTimes(every_h=0.01)
    longest = (CHECK_IN_S + 20.0) / 3600
    RoundTimes(every_h=longest * 0.51, deadline_s=20.0, open_rounds=2)
    with pytest.raises(ValueError, match="2 may be open"):
        RoundTimes(every_h=longest * 0.49, deadline_s=20.0, open_rounds=2)


def test_what_a_round_would_have_to_know_of_open_ones_is_refused(tmp_path):
    _, job, _ = job_of(tmp_path, open_rounds=2)
    with pytest.raises(ValueError, match="open_rounds must be 1 where a run stops early"):
        dataclasses.replace(job, early_stopping=EarlyStopping())
    adaptive = AdaptiveClipping(
        target_quantile=0.5, learning_rate=0.2, bit_noise=0.2, min_clip_norm=0.01, max_clip_norm=1.0
    )
    with pytest.raises(ValueError, match="open_rounds must be 1 where the clip norm adapts"):
        dataclasses.replace(job, plan=dataclasses.replace(job.plan, adaptive_clipping=adaptive))

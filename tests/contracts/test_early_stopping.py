"""A run that stops early: by public clips alone, and at the same round when it is resumed."""

import dataclasses

import numpy as np
import pytest
from bounded_mean import BoundedMean
from tiny_experiment import cache, tiny_scenario
from tiny_job import TRAINING, make_job
from whole_runs import run_in_grid

from fedspeech.aggregation.early_stopping import EarlyStopping
from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from server.rounds import run_rounds
from server.state import Checkpoint, load_checkpoint, save_checkpoint
from simulations.engines.in_process import InProcessGrid
from simulations.results.run_folder import read
from simulations.results.spent import stated
from simulations.run.runner import simulate

# Steps far too long: every round after the first makes the public loss worse.
WORSENING = dataclasses.replace(TRAINING, optimizer=FedOpt(learning_rate=200.0))
RULE = EarlyStopping(patience=2)


def job_of(folder, rule=RULE, query=WORSENING, **plan):
    path, job, arrays = make_job(folder, query=query, rounds=8, max_participations=8, **plan)
    job = dataclasses.replace(job, early_stopping=rule)
    job.save(path)
    return path, job, arrays


def test_a_job_file_keeps_the_rule_and_the_noise_does_not_depend_on_it(tmp_path):
    path, job, _ = job_of(tmp_path)
    assert Job.load(path) == job
    without = dataclasses.replace(job, early_stopping=None)
    assert job.run_id == without.run_id, "its rounds are those of a run that goes on"
    assert job.fingerprint != without.fingerprint, "phones and server must agree on it"


def test_no_further_round_begins_and_none_is_charged(tmp_path):
    path, job, arrays = job_of(tmp_path)
    records, state = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")
    losses = state.public_losses
    assert len(losses) == state.completed + 1 == len(records) + 1 < 9
    assert RULE.stops(losses)
    assert not RULE.stops(losses[:-1])
    ledger = Ledger.inspect(tmp_path / "ledger.jsonl", job.run_id)
    assert ledger.own_rounds_charged == len(records)
    planned = job.plan.guarantee(8).epsilon_release
    assert ledger.guarantee().epsilon_release < planned
    # What cards and published reports state: the number of rounds was chosen by looking.
    assert stated(ledger, (), job).epsilon_release == planned


@pytest.mark.slow
def test_only_public_clips_and_released_models_decide(tmp_path):
    """Whatever phones hold beyond what the models show: the losses follow from the models."""
    path, job, arrays = job_of(tmp_path)
    models = []
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        state = run_rounds(
            grid, job, ledger, ServerState.initial(job, arrays), lambda _, s: models.append(s.model)
        )
    released = [arrays.initial, *models]
    public = arrays.validation
    expected = []
    for model in released:  # cross-entropy by hand, of a head on one window
        named = TRAINING.built.spec.unflatten(model)
        weight, bias = named["head_weight"], named["head_bias"]
        logits = public.embeddings.astype(np.float64) @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(public)), public.labels]
        expected.append(float((np.log(np.exp(logits).sum(axis=1)) - chosen).mean()))
    np.testing.assert_allclose(state.public_losses, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_stops_at_the_same_round(tmp_path):
    """From the checkpoint of any round: the losses so far are in it."""
    path, job, arrays = job_of(tmp_path)
    kept = []

    def keep(record, state):
        place = tmp_path / f"{record.round}.safetensors"
        save_checkpoint(place, Checkpoint(state=state, next_round=record.round + 1, opened=0))
        kept.append(place)

    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        whole = run_rounds(grid, job, ledger, ServerState.initial(job, arrays), keep)
    begun = load_checkpoint(kept[-1])
    again = []
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        state = run_rounds(
            grid, job, ledger, begun.state, lambda r, s: again.append(r), begun.next_round
        )
    assert again == [], "the last checkpoint says that it is over"
    assert state.public_losses == whole.public_losses


def test_a_query_without_a_public_loss_cannot_stop_by_it(tmp_path):
    _, job, arrays = job_of(tmp_path, query=BoundedMean(), clip_norm=1.0)
    with pytest.raises(ScenarioError, match="this query has no loss to decide by"):
        ServerState.initial(job, arrays)


def test_without_public_validation_speakers_it_is_refused(tmp_path):
    _, job, arrays = job_of(tmp_path)
    empty = dataclasses.replace(arrays, validation=arrays.validation.first(0))
    empty.save(tmp_path / "empty")
    job = dataclasses.replace(job, arrays=str(tmp_path / "empty"), arrays_sha256=empty.sha256())
    with pytest.raises(ScenarioError, match="early_stopping needs public validation speakers"):
        job.load_arrays()


@pytest.mark.slow
def test_the_summary_says_why_and_the_published_price_is_the_plans(tmp_path):
    scenario = tiny_scenario(
        "early_stopping={patience=1, min_delta=100.0}", "privacy.rounds=4",
        "privacy.max_participations=4",
    )  # fmt: skip
    run = simulate(scenario, out=tmp_path / "run", workers=1, cache=cache())
    results = read(run)
    summary = results.summary
    assert (summary.status, summary.rounds, summary.rounds_planned) == ("complete", 1, 4)
    assert "fell no more in 1 rounds" in summary.stopped
    assert "what is promised whatever number came out is the plan's price" in summary.stopped
    job = Job.load(run / "job.json")
    ledger = Ledger.inspect(run / "ledger.jsonl", job.run_id)
    planned = job.plan.guarantee(4).epsilon_release
    assert summary.guarantee.epsilon_release < planned
    assert stated(ledger, results.rows, job).epsilon_release == planned
    assert f"{planned:.2g}"[:3] in (run / "adapter" / "README.md").read_text()

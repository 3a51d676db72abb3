"""A query that no product folder knows passes wherever training does, bit for bit."""

import json
from pathlib import Path

import bounded_mean
import numpy as np
import pytest
from bounded_mean import BoundedMean
from flwr.app import Context, RecordDict
from tiny_job import PHONES, make_job
from whole_runs import run_in_grid, run_reference

import server.app
from clients.durable_state import go_back
from fedspeech.job import Job
from server.state import load_checkpoint
from simulations.engines.flower import SuperLink
from simulations.engines.in_process import InProcessGrid

PLAN = {"clip_norm": 1.0, "min_cohort": 10, "dropout_rate": 0.1, "query": BoundedMean()}


def job_of(folder, **settings):
    folder.mkdir()
    return make_job(folder, **{**PLAN, **settings})


def same_in_the_grid(folder, workers=1, **settings):
    """Runs the reference and the grid; returns the last state."""
    path, job, arrays = job_of(folder / "job", **settings)
    assert Job.load(path) == job
    totals, state = run_reference(job, arrays, folder / "reference.jsonl")
    records, grid_state = run_in_grid(path, job, arrays, folder / "grid.jsonl", workers)
    assert [record.reason for record in records] == [""] * 3
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    for name, array in state.query.to_arrays().items():
        np.testing.assert_array_equal(grid_state.query.to_arrays()[name], array)
    assert (folder / "reference.jsonl").read_bytes() == (folder / "grid.jsonl").read_bytes()
    return job.plan, arrays, state


@pytest.mark.parametrize(
    ("way", "workers"),
    [
        ("ideal", 1),
        pytest.param("ideal", 2, marks=pytest.mark.slow),
        pytest.param("masked", 1, marks=pytest.mark.slow),
    ],
)
def test_round_and_grid_agree(tmp_path, way, workers):
    *_, state = same_in_the_grid(tmp_path, workers, secure_aggregation=way)
    assert state.query.moments["means"].shape == (3,)


def test_without_noise_it_finds_the_mean(tmp_path):
    exact = {"mechanism": "none", "noise_multiplier": 0.0, "epsilon_budget": float("inf")}
    plan, arrays, state = same_in_the_grid(
        tmp_path, participation_probability=1.0, **{**exact, "dropout_rate": 0.0}
    )
    true = np.mean([min(len(arrays.phone(phone)) / 16, 1) for phone in range(PHONES)])
    # Each phone's number is rounded to a step of the ring: six deviations, one test in 5e8.
    rounding = 6 * 0.5 / plan.scale / np.sqrt(PHONES)
    assert rounding < 0.05
    assert state.query.parameters[0] == pytest.approx(true, abs=rounding)


class Killed(Exception):
    """Stands for a process that ends."""


def serve(path, monkeypatch, resume="", kill_after=None):
    """One life of the server, ended after a round if asked for."""
    save = server.app.save_checkpoint

    def saving(place, checkpoint):
        save(place, checkpoint)
        if place.name == "last.safetensors" and checkpoint.next_round == kill_after:
            raise Killed

    monkeypatch.setattr(server.app, "save_checkpoint", saving)
    job = Job.load(path)
    if resume:
        go_back(Path(job.durable_state), load_checkpoint(last(path)).next_round, job.noise_entropy)
    config = {"job": str(path), "resume": resume}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with InProcessGrid("clients.app:app", job.num_shards, config) as grid:
        server.app.app(grid, context)
    monkeypatch.undo()


def last(path):
    return path.parent / "checkpoints" / "last.safetensors"


def remembering(folder):
    """A job whose phones have a memory."""
    path, _, _ = job_of(folder)
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"durable_state": "phones"}))
    return path


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole, killed = remembering(tmp_path / "whole"), remembering(tmp_path / "killed")
    serve(whole, monkeypatch)
    with pytest.raises(Killed):
        serve(killed, monkeypatch, kill_after=2)
    monkeypatch.undo()
    assert load_checkpoint(last(killed)).next_round == 2
    serve(killed, monkeypatch, resume="replay")
    assert last(killed).read_bytes() == last(whole).read_bytes()
    ledgers = [path.with_name("ledger.jsonl").read_bytes() for path in (whole, killed)]
    assert ledgers[0] == ledgers[1]


@pytest.mark.flower
def test_flowers_engine_agrees(tmp_path):
    path = remembering(tmp_path / "job")
    job = Job.load(path)
    _, state = run_reference(job, job.load_arrays(), tmp_path / "reference.jsonl")
    seen = []
    federation = f"num-supernodes={job.num_shards} client-resources-num-cpus=1"
    link = SuperLink(tmp_path / "flower", federation=federation)
    # The package that brings the query is installed on every node.
    link.environment["PYTHONPATH"] = str(Path(bounded_mean.__file__).parent)
    with link:
        link.run(path, lambda *round_: seen.append(round_), print, resume="", known=0)
    assert [record.status for record, _ in seen] == ["completed"] * 3
    np.testing.assert_array_equal(seen[-1][1].query.moments["means"], state.query.moments["means"])
    assert (
        path.with_name("ledger.jsonl").read_bytes() == (tmp_path / "reference.jsonl").read_bytes()
    )

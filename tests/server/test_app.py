"""The server's side as Flower starts it: one ledger for a population, a reason for every end."""

import pytest
from flwr.app import Context, RecordDict
from tiny_job import make_job

from fedspeech.errors import FedspeechError, ScenarioError
from fedspeech.privacy.ledger import Ledger
from server import app
from server.app import FAILED, LEDGER
from simulations.grid import InProcessGrid
from simulations.run_folder import share_ledger


def serve(path, job, named=""):
    """Runs the app on a job as Flower does; `named` is how the run names it, if otherwise."""
    given = {"job": named or str(path), "resume": ""}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=given)
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        app.main(grid, context)


def prepared(folder, ledger, **settings):
    """A job whose server charges a ledger that others charge too."""
    folder.mkdir()
    path, job, _ = make_job(folder, rounds=1, quota=1, **settings)
    share_ledger(folder / LEDGER, ledger)
    return path, job


def test_servers_of_one_population_charge_one_ledger_and_are_priced_together(tmp_path):
    """Where noise is real too: the second run costs what both do."""
    ledger, spent = tmp_path / "population.jsonl", []
    for name in ("first", "second"):
        path, job = prepared(tmp_path / name, ledger, noise="os", secure_aggregation="masked")
        serve(path, job)
        state = Ledger.resume(path.with_name(LEDGER), job.plan, job.run_id, "os", None)
        spent.append(state.guarantee().epsilon_release)
        assert state.rounds_charged == len(spent)
        assert state.runs_charged == len(spent)
    assert spent[1] > 1.2 * spent[0] > 0
    assert not ledger.is_symlink()


def test_a_rehearsal_is_charged_to_a_ledger_once(tmp_path):
    """Two sums with the same noise give away their difference."""
    ledger = tmp_path / "population.jsonl"
    path, job = prepared(tmp_path / "first", ledger)
    serve(path, job)
    path, job = prepared(tmp_path / "second", ledger)
    with pytest.raises(ScenarioError, match="charged for this very rehearsal before"):
        serve(path, job)
    assert "this very rehearsal" in path.with_name(FAILED).read_text()


def test_a_job_that_came_without_its_ledger_charges_no_other(tmp_path):
    """Its folder was copied to a machine on which the population's ledger is not."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path, job = prepared(tmp_path / "job", elsewhere / "population.jsonl")
    elsewhere.rmdir()
    with pytest.raises(FedspeechError, match="prepare the job where its server runs"):
        serve(path, job)


def test_a_job_is_named_by_an_absolute_path(tmp_path, monkeypatch):
    path, job, _ = make_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FedspeechError, match=r"must be an absolute path, got 'job\.json'"):
        serve(path, job, named="job.json")


def test_whatever_ends_a_run_is_left_beside_its_job(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("a mistake of ours")

    path, job, _ = make_job(tmp_path)
    monkeypatch.setattr(app, "run_rounds", broken)
    with pytest.raises(KeyError):
        serve(path, job)
    words = path.with_name(FAILED).read_text()
    assert words == "an error of fedspeech itself: KeyError: 'a mistake of ours'"

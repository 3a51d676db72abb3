"""The server's side as Flower starts it: one ledger for a population, a reason for every end."""

import json
import time

import pytest
from flwr.app import Context, Message, RecordDict
from httpx import ConnectError
from tiny_job import make_job

from fedspeech.errors import FedspeechError, ScenarioError
from fedspeech.privacy.ledger import Ledger
from server import app
from server.app import FAILED
from server.grids import OneByOneGrid
from server.rows import LEDGER
from simulations.engines.in_process import InProcessGrid
from simulations.results.run_folder import share_ledger


def serve(path, job, named="", make_grid=InProcessGrid, resume=""):
    """Runs the app on a job as Flower does; `named` is how the run names it, if otherwise."""
    given = {"job": named or str(path), "resume": resume}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=given)
    with make_grid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        app.main(grid, context)


def prepared(folder, ledger, **settings):
    """A job whose server charges a ledger that others charge too."""
    folder.mkdir()
    path, job, _ = make_job(folder, rounds=1, max_participations=1, **settings)
    share_ledger(folder / LEDGER, ledger)
    return path, job


@pytest.mark.slow
def test_servers_of_one_population_charge_one_ledger_and_are_priced_together(tmp_path):
    """Where noise is real too: the second run costs what both do."""
    ledger, spent = tmp_path / "population.jsonl", []
    for name in ("first", "second"):
        path, job = prepared(
            tmp_path / name, ledger, noise_entropy="os", secure_aggregation="masked"
        )
        serve(path, job)
        state = Ledger.resume(path.with_name(LEDGER), job.plan, job.run_id, "os", None)
        spent.append(state.guarantee().epsilon_release)
        assert state.rounds_charged == len(spent)
        assert state.runs_charged == len(spent)
    assert spent[1] > 1.2 * spent[0] > 0
    assert not ledger.is_symlink()


def test_a_seeded_is_charged_to_a_ledger_once(tmp_path):
    """Two sums with the same noise give away their difference."""
    ledger = tmp_path / "population.jsonl"
    path, job = prepared(tmp_path / "first", ledger)
    serve(path, job)
    path, job = prepared(tmp_path / "second", ledger)
    with pytest.raises(ScenarioError, match="charged for this very seeded noise before"):
        serve(path, job)
    assert "this very seeded noise" in path.with_name(FAILED).read_text()


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


class Undecodable(InProcessGrid):
    """Flower's own grid decodes what nodes encoded: here what the second node says cannot be."""

    def pull_messages(self, message_ids):
        (message_id,) = message_ids  # alone, or the others' answers are lost with it
        replies = list(super().pull_messages([message_id]))
        for reply in replies:
            known = reply.metadata
            if (known.message_type, known.src_node_id) == ("train", self._node_ids[1]):
                raise ValueError("Unexpected set of `children`")
        return replies

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("all answers at once")


def test_an_answer_that_flower_cannot_decode_fails_its_shard_alone(tmp_path):
    path, job, _ = make_job(tmp_path, rounds=2, max_participations=2)
    serve(path, job, make_grid=Undecodable)
    rows = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["abandoned"] * 2
    assert rows[0]["reason"] == (
        "train: shard 1: an answer that cannot be put together: ValueError: Unexpected set of "
        "`children`"
    )


@pytest.mark.slow
@pytest.mark.parametrize("answers", [0, 2])
def test_who_does_not_answer_is_waited_for_until_the_deadline_and_no_longer(answers, tmp_path):
    grid = SlowGrid(answers)
    sent = [Message(RecordDict(), node, "query.x") for node in (2, 3, 4)]
    started = time.monotonic()
    heard = OneByOneGrid(grid, tmp_path / "w").send_and_receive(sent, timeout=0.5)
    assert len(list(heard)) == answers
    assert 0.4 < time.monotonic() - started < 5


@pytest.mark.parametrize(("timeout", "until"), [(None, "for ever: simul"), (60.0, "60 s")])
def test_who_waits_is_told_for_whom(tmp_path, monkeypatch, caplog, timeout, until):
    """In the log and, for other processes, in a file that goes once everybody has answered."""
    monkeypatch.setattr("server.grids.TELL_EVERY_S", 0.1)
    monkeypatch.setattr("server.grids.PAUSE_S", 0.02)
    waiting, told = tmp_path / "waiting.txt", []
    grid = SlowGrid(2)
    one_by_one = OneByOneGrid(grid, waiting)
    pull = grid.pull_messages

    def watched(ids):
        if waiting.exists():
            told.append(waiting.read_text())
            grid.answers = 3
        return pull(ids)

    monkeypatch.setattr(grid, "pull_messages", watched)
    sent = [Message(RecordDict(), node, "query.x", group_id="4") for node in (2, 3, 4)]
    assert len(list(one_by_one.send_and_receive(sent, timeout=timeout))) == 3
    assert told[0].startswith("round 5: no answer to query.x for 0 s from node 4 (waits " + until)
    assert told[0] in caplog.text
    assert not waiting.exists()


def test_where_the_superlink_is_gone_nobody_is_blamed(tmp_path):
    grid = SlowGrid(0)
    grid.pull_messages = lambda ids: (_ for _ in ()).throw(ConnectError("refused"))
    with pytest.raises(ConnectError):
        OneByOneGrid(grid, tmp_path / "w").send_and_receive([Message(RecordDict(), 2, "query.x")])


class SlowGrid:
    """Three nodes, of which some answer."""

    def __init__(self, answers):
        self.answers = answers

    def push_messages(self, messages):
        return ["0", "1", "2"]

    def pull_messages(self, ids):
        return [object()] if int(ids[0]) < self.answers else []


def test_whatever_ends_a_run_is_left_beside_its_job(tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("a mistake of ours")

    path, job, _ = make_job(tmp_path)
    monkeypatch.setattr(app, "run_rounds", broken)
    with pytest.raises(KeyError):
        serve(path, job)
    words = path.with_name(FAILED).read_text()
    assert words == "an error of fedspeech itself: KeyError: 'a mistake of ours'"
    monkeypatch.undo()
    serve(path, job, resume="next")
    assert not path.with_name(FAILED).exists()

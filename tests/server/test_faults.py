"""Whatever nodes do wrong, a sum is right or is not opened, and nothing that was sent is unpaid."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_job import make_job

import clients.client_shard
from fedspeech.faults import Faults
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, run_round
from server.faults import FaultyGrid
from server.rounds import run_rounds
from server.shards import NobodyAnswers
from simulations.engines.in_process import InProcessGrid

KINDS = [field.name for field in dataclasses.fields(Faults)]


@pytest.fixture
def asked(monkeypatch):
    """(round, shard) of every time that phones computed what they send."""
    seen, real = [], clients.client_shard.ClientShard.blocks

    def blocks(self, request, phones):
        seen.append((request.key.round, self.shard))
        return real(self, request, phones)

    monkeypatch.setattr(clients.client_shard.ClientShard, "blocks", blocks)
    return seen


def run(folder, faults, *, workers=1, ledger="ledger.jsonl", **settings):
    """Rounds with faults: job, arrays, (record, state before), ledger rows."""
    path, job, arrays = make_job(folder, max_participations=10, **{"rounds": 10, **settings})
    job = dataclasses.replace(job, faults=faults)
    job.save(path)
    account = Ledger.open(folder / ledger, job.plan, job.run_id, job.noise_entropy)
    state, seen = ServerState.initial(job, arrays), []
    before = [state]

    def on_round(record, after):
        seen.append((record, before[0]))
        before[0] = after

    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}, workers) as grid:
        run_rounds(grid, job, account, state, on_round)
    rows = [json.loads(line) for line in (folder / ledger).read_text().splitlines()]
    return job, arrays, seen, rows


def right_or_not_opened(folder, job, arrays, seen, rows, asked):
    """Every sum is the reference round's; every round in which phones computed is charged."""
    reference = Ledger.open(folder / "reference.jsonl", job.plan, job.run_id, job.noise_entropy)
    for record, before in seen:
        if record.status == "completed":
            _, total = run_round(job.query, before, job, arrays, reference, record.round)
            np.testing.assert_array_equal(record.total, total)
        else:
            assert record.total is None
    charged = [row["round"] for row in rows if row["kind"] == "charge"]
    assert {number for number, _ in asked} <= set(charged)
    assert len(charged) == len(set(charged))


@pytest.mark.slow
@pytest.mark.parametrize(("way", "share"), [("ideal", 0.02), ("masked", 0.005)])
def test_all_faults_together(tmp_path, asked, way, share):
    faults = Faults(**dict.fromkeys(KINDS, share))
    job, arrays, seen, rows = run(tmp_path, faults, secure_aggregation=way, dropout_rate=0.1)
    statuses = {record.status for record, _ in seen}
    assert statuses == {"completed", "abandoned"}
    assert len(seen) == 10
    right_or_not_opened(tmp_path, job, arrays, seen, rows, list(asked))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_abandons_its_round_and_the_run_goes_on(tmp_path, asked, kind):
    faults = Faults(**{kind: 0.12})
    job, arrays, seen, rows = run(tmp_path, faults)
    words = {
        "silent": "silence", "late": "silence", "twice": "a second answer to one request",
        "fails": "on fire", "wrong_round": "an answer to round", "wrong_shapes": "must be",
        "nan": "must be", "stale_source": "plan or source code is not this phone's",
    }[kind]  # fmt: skip
    reasons = [record.reason for record, _ in seen if record.status == "abandoned"]
    assert reasons
    assert all(words in reason for reason in reasons), reasons
    assert any(record.status == "completed" for record, _ in seen)
    right_or_not_opened(tmp_path, job, arrays, seen, rows, list(asked))


def test_where_nobody_answers_the_run_stops_and_says_so(tmp_path):
    with pytest.raises(NobodyAnswers, match=r"round 1: no shard answered query\.cohort_list"):
        run(tmp_path, Faults(silent=1.0))


def test_a_schedule_is_the_same_wherever_it_is_played(tmp_path):
    """It follows the shard, never the node, whose number Flower draws anew in every run."""
    _, job, _ = make_job(tmp_path)
    job = dataclasses.replace(job, faults=Faults(silent=0.3, twice=0.3))
    with InProcessGrid("clients.app:app", job.num_shards, {}) as grid:
        drawn = [FaultyGrid(grid, job).fault("train", n, s) for n in range(50) for s in range(3)]
        again = [FaultyGrid(grid, job).fault("train", n, s) for n in range(50) for s in range(3)]
    assert drawn == again
    shares = [drawn.count(name) / len(drawn) for name in ("silent", "twice", "")]
    # 150 draws: five standard deviations are 0.2; a false alarm in less than 1 of 10^5 tests.
    np.testing.assert_allclose(shares, [0.3, 0.3, 0.4], atol=0.2)


def test_faults_change_neither_noise_nor_what_completed_rounds_sum(tmp_path):
    _, job, _ = make_job(tmp_path)
    assert dataclasses.replace(job, faults=Faults(late=0.5)).run_id == job.run_id


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"silent": 1.1}, r"silent must be in \[0, 1\], got silent=1.1"),
        ({"silent": -0.1}, r"silent must be in \[0, 1\], got silent=-0.1"),
        (
            {"nan": 0.6, "late": 0.6},
            "faults must be shares that add up to at most 1, got .*late=0.6.*nan=0.6",
        ),
    ],
)
def test_shares_beyond_one_are_refused(shares, words):
    with pytest.raises(ValueError, match=words):
        Faults(**shares)

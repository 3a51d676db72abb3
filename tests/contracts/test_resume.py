"""A run killed before any step on disk goes on: to the same bits, or past a failed round."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from killed import in_child
from tiny_job import make_job

import clients.client_shard
import server.app
from clients.durable_state import go_back
from fedspeech.errors import FedspeechError
from fedspeech.job import Job
from fedspeech.privacy.correlated_noise import CorrelatedNoise
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.source import source_sha256
from server.resuming import SECRET
from server.state import load_checkpoint
from simulations.engines.in_process import InProcessGrid


def serve(path, resume=""):
    """One life of server and phones, in this process; what phones compute is written down."""
    job, asked = Job.load(path), path.with_name("asked.txt")
    real = clients.client_shard.ClientShard.blocks

    def blocks(self, request, phones):
        encoded = list(real(self, request, phones))
        digest = hash(tuple(vector.tobytes() for _, block in encoded for vector in block))
        with asked.open("a") as file:
            file.write(f"{request.key.round} {self.shard} {digest}\n")
        return iter(encoded)

    clients.client_shard.ClientShard.blocks = blocks
    config = {"job": str(path), "resume": resume}
    if resume == "replay":
        go_back(path.with_name("phones"), last(path).next_round, job.noise_entropy)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    try:
        with InProcessGrid("clients.app:app", job.num_shards, config) as grid:
            server.app.app(grid, context)
    finally:
        clients.client_shard.ClientShard.blocks = real


def last(path):
    return load_checkpoint(path.parent / "checkpoints" / "last.safetensors")


def left(path):
    """What must be the same however often a run was interrupted."""
    rows = [json.loads(line) for line in path.with_name("rounds.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    checkpoint = (path.parent / "checkpoints" / "last.safetensors").read_bytes()
    return path.with_name("ledger.jsonl").read_bytes(), checkpoint, rows


def tiny(folder, **settings):
    """A job whose phones have a memory."""
    settings = {"num_shards": 2, "dropout_rate": 0.1, "phones": 40, "min_cohort": 10, **settings}
    folder.mkdir(exist_ok=True)
    path, job, _ = make_job(folder, **settings)
    dataclasses.replace(job, durable_state=str(folder / "phones")).save(path)
    job.plan.guarantee(1), source_sha256()  # imported and read once, not in every child
    return path


def asked(path):
    """(round, shard, digest) of every time that phones computed what they send."""
    lines = path.with_name("asked.txt").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def charged(path):
    rows = [json.loads(line) for line in path.with_name("ledger.jsonl").read_text().splitlines()]
    return [row["round"] for row in rows if row["kind"] == "charge"]


def copies(original, folder):
    """The same job in another folder, with memory of its own."""
    shutil.copytree(original.parent, folder)
    path = folder / original.name
    dataclasses.replace(Job.load(path), durable_state=str(folder / "phones")).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ideal", "masked"])
@pytest.mark.parametrize("stride", [37, pytest.param(1, marks=pytest.mark.soak)])
def test_a_seeded_killed_before_any_step_ends_with_the_bits_of_one_that_was_not(
    tmp_path, way, stride
):
    path = tiny(tmp_path / "job", secure_aggregation=way)
    whole = copies(path, tmp_path / "whole")
    assert in_child(serve, whole) == 0
    expected, vectors = left(whole), set(asked(whole))
    assert len(charged(whole)) == 3
    assert all("so not for release" in row["noise_notice"] for row in expected[2])
    step = 0
    while True:
        killed = copies(path, tmp_path / f"killed-{step}")
        status = in_child(serve, killed, kill_at=step)
        if status == 0:
            break
        assert status == -9
        if (killed.parent / "checkpoints" / "last.safetensors").exists():
            # Killed again in its second life, in the same place or near it.
            in_child(serve, killed, "replay", kill_at=step % 7)
            assert in_child(serve, killed, "replay") == 0
            assert left(killed) == expected
            assert set(asked(killed)) == vectors  # the same integers, however often
        shutil.rmtree(killed.parent)
        step += stride
    assert step > 50


@pytest.mark.slow
@pytest.mark.parametrize("stride", [41, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("way", ["ideal", pytest.param("masked", marks=pytest.mark.slow)])
def test_under_noise_of_the_operating_system_an_interrupted_round_has_failed_and_stays_charged(
    tmp_path, way, stride
):
    path = tiny(
        tmp_path / "job", secure_aggregation=way, noise_entropy="os", rounds=4, max_participations=4
    )
    step = 0
    while True:
        killed = copies(path, tmp_path / f"killed-{step}")
        status = in_child(serve, killed, kill_at=step)
        if status == 0:
            break
        if (killed.parent / "checkpoints" / "last.safetensors").exists():
            before = charged(killed) if killed.with_name("ledger.jsonl").exists() else []
            over = last(killed).next_round
            assert in_child(serve, killed, "next") == 0
            times = [(number, shard) for number, shard, _ in asked(killed)]
            assert len(times) == len(set(times))  # nobody answers a round twice
            assert {number for number, _ in times} <= set(charged(killed))
            assert len(charged(killed)) == len(set(charged(killed)))
            assert set(before) <= set(charged(killed))
            rows = left(killed)[2]
            assert [row["round"] for row in rows] == [1, 2, 3, 4]
            if over < 4:
                assert rows[over]["status"] == "abandoned"
                assert "killed" in rows[over]["reason"]
                assert ("stays charged" in rows[over]["reason"]) == (over in before)
            unsettled = killed.with_name("ledger.jsonl").read_text()
            assert unsettled.count('"kind": "outcome"') == len(charged(killed))
        shutil.rmtree(killed.parent)
        step += stride


def test_phones_under_noise_of_the_operating_system_cannot_be_set_back(tmp_path):
    path = tiny(tmp_path / "job", noise_entropy="os", rounds=1, max_participations=1)
    assert in_child(serve, path) == 0
    with pytest.raises(FedspeechError, match="forget a round under seeded noise only"):
        go_back(path.with_name("phones"), 0, "os")
    assert in_child(serve, path, "replay") == 70


def test_phones_that_were_not_set_back_refuse_the_round_that_they_answered(tmp_path):
    path = tiny(tmp_path / "job", rounds=1, max_participations=1)
    assert in_child(serve, path) == 0
    checkpoint = last(path)
    assert checkpoint.next_round == 1
    for name in ("ledger.jsonl", "rounds.jsonl", "checkpoints"):
        place = path.with_name(name)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert in_child(serve, path) == 70  # every shard: a replayed request
    assert charged(path) == []


def test_a_second_run_of_a_job_is_refused_where_the_first_one_stands(tmp_path):
    path = tiny(tmp_path / "job", rounds=1, max_participations=1)
    assert in_child(serve, path) == 0
    with pytest.raises(FedspeechError, match="a run of this job stands in"):
        serve(path)


@pytest.mark.slow
def test_a_participation_limit_survives_the_end_of_every_process(tmp_path):
    """Everybody joins every round, twice at most, though each life begins with new nodes."""
    path = tiny(
        tmp_path / "job", rounds=4, max_participations=2, participation_probability=1.0,
        min_cohort=20,
        dropout_rate=0.0,
    )  # fmt: skip
    in_child(serve, path, kill_at=45)
    assert 1 <= last(path).next_round < 4
    assert in_child(serve, path, "replay") == 0
    assert [row["cohort"] for row in left(path)[2]] == [40, 40, 0, 0]


CORRELATED = {
    "mechanism": "matrix_factorization", "participation": "round_robin", "rounds": 4,
    "max_participations": 2, "min_reporting": 8, "noise_entropy": "os",
    "factorization": Factorization(min_separation=2, bands=2), "dropout_rate": 0.0,
}  # fmt: skip


def halfway(folder, monkeypatch):
    """A run with correlated noise of the operating system that dies after its second round."""
    path, real = tiny(folder, **CORRELATED), server.app.save_checkpoint

    def dying(file, checkpoint):
        real(file, checkpoint)
        if checkpoint.next_round == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(server.app, "save_checkpoint", dying)
        with pytest.raises(KeyboardInterrupt):
            serve(path)
    return path


def drawn(path):
    """The noise that a run's secret stands for."""
    return CorrelatedNoise(Job.load(path).plan, path.with_name(SECRET).read_bytes())


@pytest.mark.slow
def test_a_resumed_run_takes_back_the_noise_that_was_published_and_no_other(tmp_path, monkeypatch):
    path, seen = halfway(tmp_path / "job", monkeypatch), {}
    noise, secret = drawn(path), path.with_name(SECRET)
    assert secret.stat().st_mode & 0o77 == 0
    real = PrivacyPlan.decode

    def decode(plan, total, **of_the_round):
        seen[len(seen)] = of_the_round["noise"]
        return real(plan, total, **of_the_round)

    monkeypatch.setattr(PrivacyPlan, "decode", decode)
    begun = last(path).next_round
    serve(path, "next")
    rounds = [row["round"] - 1 for row in left(path)[2] if row["status"] == "completed"]
    later = [number for number in rounds if number >= begun]
    assert len(later) == len(seen) >= 1
    for place, number in enumerate(later):
        np.testing.assert_array_equal(seen[place], noise.row(number))
    assert not secret.exists()  # after the last round nothing is drawn, and nobody needs it
    rows = [json.loads(line) for line in path.with_name("ledger.jsonl").read_text().splitlines()]
    kept = {row["noise_commitment"] for row in rows if row["kind"] == "charge"}
    assert kept == {noise.commitment}
    checkpoint = (path.parent / "checkpoints" / "last.safetensors").read_bytes()
    assert noise.row(3).tobytes()[:64] not in checkpoint


@pytest.mark.slow
def test_a_run_that_lost_the_secret_of_its_noise_does_not_go_on(tmp_path, monkeypatch):
    path = halfway(tmp_path / "job", monkeypatch)
    secret = path.with_name(SECRET)
    kept = secret.read_bytes()
    secret.write_bytes(bytes(32))
    with pytest.raises(FedspeechError, match="is not the secret that this run drew its noise from"):
        serve(path, "next")
    secret.unlink()
    with pytest.raises(FedspeechError, match="is gone, from which this run drew its noise"):
        serve(path, "next")
    secret.write_bytes(kept)
    serve(path, "next")
    assert last(path).next_round == 4

"""One app, every way to run it: the same scenario and seed, the same ledger, bit for bit."""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from tiny_job import TRAINING, make_job
from whole_runs import run_in_grid, run_reference

from fedspeech.errors import FedspeechError
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.population import PopulationArrays
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from fedspeech.training.dataset import LocalDataset
from server.state import Checkpoint, load_checkpoint, save_checkpoint
from simulations.engines.certificates import Authority
from simulations.engines.deployment import Deployment
from simulations.engines.flower import SuperLink, app_folder, ray_folder
from simulations.engines.watchdog import marked

SHARDS = 2
FEDERATION = f"num-supernodes={SHARDS} client-resources-num-cpus=1"


def job_of(folder, **settings):
    """Three rounds of 40 phones, whose memory is on disk as in every run."""
    folder.mkdir()
    settings = {
        "phones": 40, "num_shards": SHARDS, "min_cohort": 10, "dropout_rate": 0.1, **settings,
    }  # fmt: skip
    path, job, arrays = make_job(folder, **settings)
    job = dataclasses.replace(job, durable_state=str(folder / "phones"))
    job.save(path)
    return path, job, arrays


@pytest.fixture(params=["ideal"])
def expected(tmp_path, request):
    """Ledger and parameters of the reference round."""
    _, job, arrays = job_of(tmp_path / "reference", secure_aggregation=request.param)
    _, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    return (tmp_path / "reference.jsonl").read_bytes(), state.query.parameters


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_in_process_with_any_number_of_workers(tmp_path, expected, workers):
    path, job, arrays = job_of(tmp_path / "job", num_shards=SHARDS)
    _, state = run_in_grid(path, job, arrays, path.with_name("ledger.jsonl"), workers)
    assert path.with_name("ledger.jsonl").read_bytes() == expected[0]
    np.testing.assert_array_equal(state.query.parameters, expected[1])


def follow(link, path, job, arrays):
    """Runs a job behind Flower as a run folder does; returns ledger and parameters."""
    ledger = Ledger.open(path.with_name("ledger.jsonl"), job.plan, job.run_id, job.noise_entropy)
    last, seen = path.parent / "checkpoints" / "last.safetensors", []
    last.parent.mkdir()
    state = ServerState.initial(job, arrays)
    save_checkpoint(last, Checkpoint(state=state, next_round=0, opened=ledger.opened))
    link.run(
        path, lambda record, state: seen.append((record, state)), print, resume="replay", known=0
    )
    assert [record.status for record, _ in seen] == ["completed"] * job.plan.rounds
    final = load_checkpoint(last).state
    np.testing.assert_array_equal(seen[-1][1].query.parameters, final.query.parameters)
    return path.with_name("ledger.jsonl").read_bytes(), final.query.parameters


def nothing_is_left_of(link):
    assert not link.folder.exists()
    assert not marked(link.mark)
    assert all(process.poll() is not None for process in link._started)


@pytest.mark.flower
def test_flowers_simulation_engine(tmp_path, expected, monkeypatch):
    """Also below a temporary folder whose name no socket's path has room for."""
    path, job, arrays = job_of(tmp_path / "job")
    long = tmp_path / ("x" * 110)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with SuperLink(tmp_path / "flower", federation=FEDERATION) as link:
        found = follow(link, path, job, arrays)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    nothing_is_left_of(link)


def lora_job(folder):
    """A job of phones that train factors inside the shipped encoder, under a mask and noise."""
    base, rng = Base.load(default_base_path()), np.random.default_rng(1)
    settings = LoraSettings(rank=2, layers=("output.conv",))
    shape = AdapterShape.of(base, "lora", len(base.vocabulary.labels), settings)
    adapter = shape.build(shape.frozen(base))

    def clips(count):
        frames = rng.standard_normal((count, *adapter.embedding_shape), dtype=np.float32)
        return LocalDataset(frames, rng.integers(0, shape.num_labels, count))

    sizes = rng.integers(1, 6, 40)
    own, start = clips(int(sizes.sum())), adapter.initial(base.head_weight, base.head_bias)
    arrays = PopulationArrays(
        embeddings=own.embeddings, labels=own.labels,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        background=clips(2), validation=clips(4), initial=adapter.spec.flatten(start),
        frozen=shape.frozen(base),
    )  # fmt: skip
    query = dataclasses.replace(TRAINING, adapter=shape)
    settings = {"secure_aggregation": "masked", "dropout_rate": 0.0, "rounds": 2}
    return job_of(folder, query=query, arrays=arrays, **settings)


@pytest.fixture
def lora_expected(tmp_path):
    """Ledger and parameters of the reference round."""
    _, job, arrays = lora_job(tmp_path / "reference")
    assert job.plan.noise_multiplier > 0
    _, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    assert (state.query.parameters != arrays.initial).all()
    return (tmp_path / "reference.jsonl").read_bytes(), state.query.parameters


@pytest.mark.slow
def test_masked_and_noised_factors_have_the_same_bits_in_worker_processes(tmp_path, lora_expected):
    path, job, arrays = lora_job(tmp_path / "job")
    _, state = run_in_grid(path, job, arrays, path.with_name("ledger.jsonl"), 2)
    assert path.with_name("ledger.jsonl").read_bytes() == lora_expected[0]
    np.testing.assert_array_equal(state.query.parameters, lora_expected[1])


@pytest.mark.flower
@pytest.mark.soak
def test_masked_and_noised_factors_have_the_same_bits_behind_flowers_engine(
    tmp_path, lora_expected
):
    path, job, arrays = lora_job(tmp_path / "job")
    with SuperLink(tmp_path / "flower", federation=FEDERATION) as link:
        found = follow(link, path, job, arrays)
    assert found[0] == lora_expected[0]
    np.testing.assert_array_equal(found[1], lora_expected[1])


CORRELATED = {
    "mechanism": "matrix_factorization", "participation": "round_robin", "rounds": 4,
    "max_participations": 2, "dropout_rate": 0.0, "min_cohort": 8, "min_reporting": 8,
    "factorization": Factorization(min_separation=2, bands=2),
}  # fmt: skip


@pytest.mark.flower
@pytest.mark.parametrize(
    "engine", [pytest.param("simulation", marks=pytest.mark.soak), "deployment"]
)
def test_noise_that_is_correlated_over_rounds_is_the_same_behind_flower(tmp_path, engine):
    _, job, arrays = job_of(tmp_path / "reference", **CORRELATED)
    _, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    path, job, arrays = job_of(tmp_path / "job", **CORRELATED)
    if engine == "deployment":
        link = Deployment(tmp_path / "flower", path)
    else:
        link = SuperLink(tmp_path / "flower", federation=FEDERATION)
    with link:
        ledger, parameters = follow(link, path, job, arrays)
    assert ledger == (tmp_path / "reference.jsonl").read_bytes()
    np.testing.assert_array_equal(parameters, state.query.parameters)


@pytest.mark.flower
def test_correlated_noise_of_the_operating_system_is_one_secret_for_all_rounds(tmp_path):
    path, job, arrays = job_of(tmp_path / "job", **CORRELATED, noise_entropy="os")
    with SuperLink(tmp_path / "flower", federation=FEDERATION) as link:
        ledger, parameters = follow(link, path, job, arrays)
    charges = [row for row in map(json.loads, ledger.splitlines()) if "noise_commitment" in row]
    assert len(charges) == job.plan.rounds
    (commitment,) = {row["noise_commitment"] for row in charges}
    assert commitment
    _, job, arrays = job_of(tmp_path / "seeded", **CORRELATED)
    _, state = run_reference(job, arrays, tmp_path / "seeded.jsonl")
    assert not np.array_equal(parameters, state.query.parameters)


@pytest.mark.parametrize(("named", "expected"), [(None, "local"), ("10.0.0.5:6379", None)])
def test_ray_is_ones_own_unless_a_cluster_is_named(tmp_path, monkeypatch, named, expected):
    """Ray itself would look for the cluster last started on this machine, dead or alive."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named:
        monkeypatch.setenv("RAY_ADDRESS", named)
    link = SuperLink(tmp_path / "flower")
    assert link.environment["RAY_ADDRESS"] == (expected or named)


LONG = "/".join(["", "tmp", *["a-folder-with-a-long-name"] * 4])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "/tmp"),
        ({"TMPDIR": "TMP"}, "TMP"),
        ({"TMPDIR": LONG}, "/tmp"),
        ({"TMPDIR": "/no/such/folder"}, "/tmp"),
        ({"TMPDIR": LONG, "RAY_TMPDIR": "TMP"}, "TMP"),
    ],
)
def test_rays_sockets_are_placed_where_their_paths_fit(environment, expected):
    """A socket's path has at most 107 bytes; Ray says so late, and not whose fault it is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        given = {name: value.replace("TMP", short) for name, value in environment.items()}
        assert ray_folder(given) == expected.replace("TMP", short)


@pytest.mark.parametrize("place", [LONG, "/no/such/folder"])
def test_a_folder_that_was_asked_for_and_does_not_fit_is_named(place):
    with pytest.raises(FedspeechError, match=rf"RAY_TMPDIR={place} has {len(place)}\. Set RAY_TM"):
        ray_folder({"RAY_TMPDIR": place})


@pytest.mark.flower
def test_a_run_that_fails_behind_flower_says_why(tmp_path):
    path, _, _ = job_of(tmp_path / "job")
    (tmp_path / "job" / "arrays" / "labels.npy").unlink()
    with (
        SuperLink(tmp_path / "flower", federation=FEDERATION) as link,
        pytest.raises(FedspeechError, match=r"stopped .*labels\.npy"),
    ):
        link.run(path, lambda *_: None, print, resume="", known=0)
    nothing_is_left_of(link)


@pytest.mark.flower
def test_a_deployment_and_whom_it_turns_away(tmp_path, expected):
    """TLS, a key per node; an unregistered node and one that trusts another authority stay out."""
    path, job, arrays = job_of(tmp_path / "job")
    with Deployment(tmp_path / "flower", path) as link:
        stranger, _ = link.authority.node("stranger")  # a key that nobody registered
        unregistered = link.start_node("unregistered", 0, stranger)
        other = Authority(tmp_path / "other")  # not who signed the server's certificate
        private, public = link.authority.node("deceived")
        link.register(public)
        deceived = link.start_node("deceived", 0, private, other.certificate)
        found = follow(link, path, job, arrays)
        assert link.nodes_online() == SHARDS
        assert unregistered.poll() not in (None, 0)
        log = link.log("supernode-unregistered").read_text()
        assert "Failed to activate SuperNode" in log, log
        log = link.log("supernode-deceived").read_text()
        assert "CERTIFICATE_VERIFY_FAILED" in log, log
        assert deceived.poll() != 0
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    nothing_is_left_of(link)


@pytest.mark.flower
def test_a_server_that_ships_other_code_to_the_phones_runs_none_of_it(tmp_path):
    """The attack: a bundle whose phones read the key of all identities, over TLS, registered."""
    path, job, _ = job_of(tmp_path / "job")
    bundle, read = tmp_path / "changed", tmp_path / "what-was-read"
    app_folder(bundle)
    phones = bundle / "clients" / "app.py"
    theft = (
        f"\nimport pathlib\npathlib.Path({str(read)!r}).write_bytes(\n"
        f"    pathlib.Path({job.identities!r}).read_bytes()\n)\n"
    )
    phones.write_text(phones.read_text() + theft)
    with Deployment(tmp_path / "flower", path) as link:
        with pytest.raises(FedspeechError, match="not the code that is installed on this node"):
            link.run(path, lambda *_: None, print, resume="", known=0, app=bundle)
        apps = link.folder / "home" / "apps"
        # Server and nodes share a folder here: what the server installed is its own bundle.
        assert not read.exists(), list(apps.glob("*"))
    assert '"charge"' not in path.with_name("ledger.jsonl").read_text()
    nothing_is_left_of(link)


@pytest.mark.flower
def test_nothing_of_an_engine_outlives_a_process_that_was_killed(tmp_path):
    code = (
        "import time\nfrom simulations.engines.flower import SuperLink\n"
        f"from pathlib import Path\nwith SuperLink(Path({str(tmp_path / 'flower')!r})) as link:\n"
        "    print(link.mark, flush=True)\n    time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    mark = child.stdout.readline().strip()
    assert marked(mark)
    child.kill()
    child.wait()
    deadline = time.monotonic() + 40
    while (marked(mark) or (tmp_path / "flower").exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not marked(mark)
    assert not (tmp_path / "flower").exists()

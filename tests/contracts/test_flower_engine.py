"""The same app under Flower's own simulation engine gives the same ledger and adapter."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sources import copy_sources
from tiny_job import make_job
from whole_runs import run_reference

from fedspeech.source import source_files
from server.state import load_checkpoint

FLWR = Path(sys.executable).with_name("flwr")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(home):
    """A Flower of our own: folder, ports, no telemetry, nothing installed at run time."""
    return {
        **os.environ,
        "PATH": f"{FLWR.parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def checkout(tmp_path):
    """The tracked files alone, as a clean clone has them."""
    folder = tmp_path / "checkout"
    copy_sources(folder)
    return folder


@pytest.mark.flower
def test_the_app_bundle_holds_both_sides_and_stays_small(checkout, tmp_path):
    import zipfile

    subprocess.run(
        [FLWR, "build", "--app", checkout], cwd=tmp_path, check=True, capture_output=True,
        env=environment(tmp_path / "home"),
    )  # fmt: skip
    (bundle,) = tmp_path.glob("*.fab")
    names = zipfile.ZipFile(bundle).namelist()
    # The source that both sides compare, and a license: no weights, no sound.
    assert bundle.stat().st_size < 1.1 * sum(map(len, source_files().values()))
    assert {"clients/app.py", "server/app.py", "fedspeech/round.py"} <= set(names)
    strays = [n for n in names if n.startswith(("tests/", "benchmarks/", "runs/", ".venv/"))]
    assert not strays
    assert not [n for n in names if n.endswith((".safetensors", ".wav", ".flac"))]


@pytest.mark.flower
def test_flower_simulation_gives_the_same_bits_as_the_reference_round(checkout, tmp_path):
    """Masked, with plain `flwr run`; `test_engines` has the ideal sum and fedspeech's own start."""
    job_folder = tmp_path / "job"
    job_folder.mkdir()
    path, job, arrays = make_job(
        job_folder, num_shards=2, secure_aggregation="masked", dropout_rate=0.1
    )
    job = dataclasses.replace(job, durable_state=str(job_folder / "phones"))
    job.save(path)
    env = environment(tmp_path / "home")
    command = [
        FLWR, "run", ".", "--stream",
        "--federation-config", "num-supernodes=2 client-resources-num-cpus=1",
        "-c", f'job="{path}"',
    ]  # fmt: skip
    try:
        run = subprocess.run(
            command, cwd=checkout, env=env, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
    finally:
        subprocess.run(["pkill", "-f", str(tmp_path / "home")], check=False)
    rows = job_folder / "rounds.jsonl"
    assert rows.exists(), run.stdout[-3000:] + run.stderr[-3000:]
    statuses = [json.loads(line)["status"] for line in rows.read_text().splitlines()]
    assert statuses == ["completed"] * 3, run.stdout[-3000:]

    _, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    flower = load_checkpoint(job_folder / "checkpoints" / "last.safetensors").state
    np.testing.assert_array_equal(flower.query.parameters, state.query.parameters)
    assert (job_folder / "ledger.jsonl").read_bytes() == (tmp_path / "reference.jsonl").read_bytes()

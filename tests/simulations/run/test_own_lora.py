"""Factors inside a brought network: a run to its end, its report, its files, a second life."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_experiment import cache, tiny_scenario
from torch import nn

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")
pytest.importorskip("torch.export.pt2_archive", reason="torch before 2.8 has no such archives")

from fedspeech.models.adapters.files import load_adapter
from fedspeech.models.base import Base, default_base_path
from simulations.artifacts.benchmarking import benchmark_file
from simulations.artifacts.exporting import export_run, verify_file
from simulations.results.run_folder import RunFolder, read
from simulations.run import runner
from simulations.run.resume import resume
from simulations.run.runner import simulate

pytestmark = pytest.mark.slow

LAYERS = ("network.blocks.2.second.conv", "network.output.conv")


class Network(nn.Module):
    """The shipped network as somebody's own: log-mel (n, frames, 40) to frames (n, 13, 64)."""

    def __init__(self, own):
        super().__init__()
        self.network, self.windows = own.network, own.num_windows
        for name in ("feature_mean", "feature_std"):
            self.register_buffer(name, torch.from_numpy(getattr(own, name)))

    def forward(self, log_mel):
        features = (log_mel - self.feature_mean) / self.feature_std
        return torch.relu(self.network(features)[:, -self.windows :])


def changes(folder):
    layers = json.dumps(LAYERS)
    return (
        f"base.source={json.dumps(str(folder))}", "adapter=lora", "lora.rank=2",
        f"lora.layers={layers}", "training.learning_rate=0.1", "privacy.clip_norm=1",
        # So little noise that two rounds beat a head of zeros, and the adapter ships.
        "privacy.noise_multiplier=0.1", "privacy.epsilon_budget=inf",
        "server_optimizer.learning_rate=2",
    )  # fmt: skip


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """The folder of a base with a head of zeros."""
    shipped = Base.load(default_base_path())
    own = shipped.built_in
    base = Base.from_module(
        Network(own),
        example=torch.zeros(1, own.context_frames + own.frontend.frames_per_clip, 40),
        log_mel=own.frontend, context_samples=own.context_samples, pooling="mean",
        words=shipped.vocabulary.targets, license="Apache-2.0",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("brought") / "base"
    base.save(folder)
    return folder


@pytest.fixture(scope="module")
def run(brought, tmp_path_factory):
    """A run on it, whose folder of the base is gone."""
    copied = shutil.copytree(brought, tmp_path_factory.mktemp("copied") / "base")
    out = tmp_path_factory.mktemp("runs") / "whole"
    made = simulate(
        tiny_scenario(*changes(copied), "export.at_end=true"), out=out, workers=1, cache=cache()
    )
    shutil.rmtree(copied)
    return made


def adapter_bytes(run):
    return (RunFolder(run).adapter / "adapter_model.safetensors").read_bytes()


def test_a_run_ends_with_factors_that_learned_and_says_so(run, brought):
    summary, base = read(run).summary, Base.load(brought)
    assert summary.status == "complete"
    assert summary.adapter_rounds == 2
    accuracy = summary.section("accuracy").by_model()
    assert {"base", "federated", "personalized", "control"} <= set(accuracy)
    adapter, parameters = load_adapter(RunFolder(run).adapter, base)
    assert adapter.spec.size == 2 * (64 * 5 + 64 + 64 + 64) + 64 * 12 + 12
    assert [layer.name for layer in adapter.graph.layers] == list(LAYERS)
    start = adapter.initial(base.head_weight, base.head_bias)
    assert all((parameters[f"{layer}.lora_B"] != 0).any() for layer in LAYERS)
    assert all((parameters[name] != start[name]).any() for name in start)
    report = (run / "report.html").read_text()
    for said in ("lora", "1,804 parameters", "export/model_float.tflite"):
        assert said in report


def test_its_file_holds_the_merged_weights_and_equals_the_model(run, tmp_path):
    summary = read(run).summary
    assert summary.export_refused is None
    assert {entry.kind for entry in summary.export_family} >= {"float", "adapter"}
    verified = verify_file(run / summary.export.file, None)
    assert all(check.passed for check in verified.checks)
    assert 0 < summary.export.parity_max_abs <= summary.export.parity_limit
    assert benchmark_file(run / summary.export.file, None).found.timings[0].p50_ms > 0
    exported = export_run(run, tmp_path / "files")
    assert not exported.refused
    sizes = {kind: file.stat().st_size for kind, file in exported.files.items()}
    assert sizes["int8-weights"] < sizes["float"] - 250_000  # 115 thousand weights, a byte each


def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(
    run, brought, tmp_path, monkeypatch
):
    real = runner.Run._on_round
    monkeypatch.setattr(
        runner, "export_files", lambda *_: {"export": None, "export_refused": "left out"}
    )

    def stop(self, record, state):
        if record.round == 1:
            raise KeyboardInterrupt
        real(self, record, state)

    monkeypatch.setattr(runner.Run, "_on_round", stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(tiny_scenario(*changes(brought)), out=tmp_path / "run", workers=1, cache=cache())
    monkeypatch.setattr(runner.Run, "_on_round", real)
    resume(tmp_path / "run", workers=1, cache=cache())
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(run)
    one, other = (RunFolder(folder) for folder in (tmp_path / "run", run))
    assert one.ledger.read_bytes() == other.ledger.read_bytes()
    assert one.checkpoint.read_bytes() == other.checkpoint.read_bytes()


def test_exporting_a_brought_torch_program_asks_for_no_tensorflow(run, tmp_path):
    """Of the extras, LiteRT alone is there."""
    root = Path(__file__).parents[3]
    script = root / "tests" / "support" / "without_extras.py"
    named = {"FEDSPEECH_CACHE": str(cache()), "PYTHONPATH": str(root), "COLUMNS": "300"}

    def command(*arguments):
        return subprocess.run(
            [sys.executable, script, "--but", "tflite", *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, **named}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = command("export", run, "--out", "files")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "files" / "model_float.tflite"
    assert file.read_bytes()[4:8] == b"TFL3"
    done = command("export", run, "--verify", file)
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout

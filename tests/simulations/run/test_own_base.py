"""A base that somebody brings goes the whole way, and its run needs the brought folder no more."""

import json
import shutil

import numpy as np
import pytest
import tflite_files
from safetensors.numpy import save_file
from tiny_experiment import cache, tiny_scenario

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")

from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base, default_base_path
from simulations.artifacts.exporting import export_run
from simulations.artifacts.loaded_run import FinishedRun
from simulations.results.run_folder import read
from simulations.run.runner import simulate
from simulations.setup.bases import layout_of

FEATURES = 12


def brought(folder, samples=16_000):
    """A base's folder: random projections of the waveform, and a random head."""
    rng = np.random.default_rng(0)
    words = Base.load(default_base_path()).vocabulary.targets
    weight = rng.normal(size=(FEATURES, samples)).astype(np.float32) / 10
    folder.mkdir()
    file = tflite_files.dense(weight, np.zeros(FEATURES, np.float32))
    (folder / "encoder.tflite").write_bytes(file)
    head = rng.normal(size=(len(words) + 2, FEATURES)).astype(np.float32)
    save_file(
        {"head_weight": head, "head_bias": np.zeros(len(head), np.float32)},
        folder / "head.safetensors",
    )
    (folder / "base.toml").write_text(
        f'license = "MIT"\nspeakers = []\nwords = {json.dumps(words)}\n[encoder]\n'
        f'file = "encoder.tflite"\nclip_samples = {samples}\n'
    )
    return folder


def scenario(folder):
    return tiny_scenario(f"base.source={json.dumps(str(folder))}", "export.at_end=true")


def test_a_base_of_other_clips_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ScenarioError, match="clips of 16000 samples, and this base hears 8000"):
        layout_of(scenario(brought(tmp_path / "short", 8_000)))


@pytest.mark.slow
def test_a_run_goes_to_its_end_and_keeps_the_base(tmp_path):
    folder = brought(tmp_path / "mine")
    base = Base.load(folder)
    made = simulate(scenario(folder), out=tmp_path / "run", workers=1, cache=cache())
    shutil.rmtree(folder)
    summary = read(made).summary
    assert summary.status == "complete"
    finished = FinishedRun.open(made)
    assert finished.base.sha256 == base.sha256
    assert (made / summary.export.file).read_bytes()[4:8] == b"TFL3"
    export_run(made, tmp_path / "files")
    assert (tmp_path / "files" / "model_float.tflite").exists()

"""Tokens of recordings: written, read, decoded, refused by name, and let out by no gate."""

import json

import numpy as np
import pytest
import shared_artifacts
import soundfile
import torch
from safetensors import numpy as safetensors_numpy
from typer.testing import CliRunner

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, CorpusError, ScenarioError
from fedspeech.models.codec import Codec, CodecNetwork, CodecSpec
from fedspeech.sharing import gate
from simulations.cli import app

NO_CLAIM = "no guarantee of privacy holds for them"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A codec that learned nothing, and two recordings at 8 kHz."""
    folder = tmp_path_factory.mktemp("tokens")
    for number in (1, 2):
        torch.manual_seed(number)
        Codec(network=CodecNetwork(CodecSpec()), feature_mean=np.zeros(40, np.float32),
              feature_std=np.ones(40, np.float32), provenance={}).save(
                  folder / f"codec{number}.safetensors")  # fmt: skip
    rng = np.random.default_rng(0)
    for name, seconds in (("yes", 1.0), ("long", 2.5)):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.normal(size=int(8000 * seconds)), 8000)
    soundfile.write(folder / "short.wav", 0.1 * rng.normal(size=100), 8000)
    (folder / "text.wav").write_text("no sound")
    return folder


def encode(folder):
    sounds = [folder / "yes.wav", folder / "long.wav"]
    return fs.tokens_encode(folder / "codec1.safetensors", sounds, folder / "tokens.safetensors")


def test_recordings_become_tokens_and_tokens_frames(folder):
    made = encode(folder)
    assert made.recordings == {"yes.wav": 25, "long.wav": 62}
    record = made.record()
    assert record["bits_per_second"] == [150, 300, 450, 600]
    assert NO_CLAIM in record["notice"]
    json.dumps(record, allow_nan=False)
    found = fs.tokens_decode(folder / "codec1.safetensors", folder / "tokens.safetensors",
                             folder / "mel.safetensors", codebooks=1)  # fmt: skip
    frames = safetensors_numpy.load_file(folder / "mel.safetensors")
    assert {name: rows.shape for name, rows in frames.items()} == {
        "yes.wav": (50, 40), "long.wav": (124, 40),
    }  # fmt: skip
    assert found.codebooks == 1


def test_what_cannot_be_used_is_refused_by_name(folder, tmp_path):
    codec, out = folder / "codec1.safetensors", tmp_path / "out.safetensors"
    encode(folder)
    with pytest.raises(CorpusError, match=r"short\.wav: too short"):
        fs.tokens_encode(codec, [folder / "short.wav"], out)
    with pytest.raises(CorpusError, match=r"text\.wav: not a readable sound file"):
        fs.tokens_encode(codec, [folder / "text.wav"], out)
    with pytest.raises(ArgumentRefused, match="different names"):
        fs.tokens_encode(codec, [folder / "yes.wav"] * 2, out)
    with pytest.raises(ScenarioError, match="not a fedspeech codec"):
        fs.tokens_encode(folder / "yes.wav", [folder / "yes.wav"], out)
    with pytest.raises(ArgumentRefused, match="`codebooks` 1 to 4"):
        fs.tokens_decode(codec, folder / "tokens.safetensors", out, codebooks=5)
    with pytest.raises(ScenarioError, match="is of another codec"):
        fs.tokens_decode(folder / "codec2.safetensors", folder / "tokens.safetensors", out)
    with pytest.raises(ScenarioError, match="is no file of `fedspeech tokens encode`"):
        fs.tokens_decode(codec, codec, out)
    with pytest.raises(ArgumentRefused, match="`speakers` must be at least 2"):
        fs.tokens_train(out, speakers=1)
    with pytest.raises(ArgumentRefused, match="`out` must be"):
        fs.tokens_train(tmp_path / "codec.bin")
    assert not out.exists()


def test_a_code_that_does_not_exist_is_refused(folder, tmp_path):
    encode(folder)
    content = (folder / "tokens.safetensors").read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(content[:-4] + b"\xff" * 4)
    with pytest.raises(ScenarioError, match=r"codes must be whole numbers in \[0, 64\)"):
        fs.tokens_decode(folder / "codec1.safetensors", bad, tmp_path / "out.safetensors")


def test_no_audience_gets_a_file_of_tokens(folder):
    encode(folder)
    content = (folder / "tokens.safetensors").read_bytes()
    case = shared_artifacts.adapter(content)
    verdict = gate.check_content(case.name, case.content, case.manifest_bytes(), case.policy)
    assert {"adapter-tensors"} <= {finding.rule for finding in verdict.findings}


@pytest.mark.slow
def test_a_codec_is_trained_with_and_without_noise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["tokens", "train", "--out", "codec.safetensors", "--speakers", "2", "--epochs", "1"]
    done = CliRunner().invoke(app, [*command, "--noise", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["provenance"]["noise_in_training"] == 1
    assert found["provenance"]["speakers"] == 2
    assert "epsilon" not in done.stdout.lower()

"""A base's folder is read back as it was written; what is wrong in it is named, key and value."""

from pathlib import Path

import numpy as np
import pytest
import tflite_files
import torch
from safetensors.numpy import save_file

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")

from fedspeech.files import remove_made
from fedspeech.models.base import Base
from fedspeech.models.exported import folder as folder_of_a_base

TOML = """
license = "MIT"
speakers = ["anna"]
words = ["yes", "no"]

[encoder]
file = "encoder.tflite"
input = "waveform"
clip_samples = 1600
"""


@pytest.fixture
def folder(tmp_path):
    content, _ = tflite_files.small()
    path = tmp_path / "mine"
    path.mkdir()
    (path / "encoder.tflite").write_bytes(content)
    (path / "base.toml").write_text(TOML)
    return path


@pytest.fixture
def head(folder):
    rng = np.random.default_rng(1)
    arrays = {
        "head_weight": rng.normal(size=(4, 5)).astype(np.float32),
        "head_bias": rng.normal(size=4).astype(np.float32),
        "pooling_mean": rng.normal(size=6).astype(np.float32),
        "pooling_matrix": rng.normal(size=(6, 5)).astype(np.float32),
    }
    save_file(arrays, folder / "head.safetensors")
    return arrays


def test_a_folder_is_a_base(folder):
    base = Base.load(folder)
    _, weight = tflite_files.small()
    heard = np.random.default_rng(2).normal(size=(3, 1_600)).astype(np.float32)
    # Without a head, mean and maximum over the one frame: a head will be fit on both.
    expected = np.concatenate([heard @ weight.T + np.arange(1, 4)] * 2, axis=1)
    assert base.vocabulary.targets == ("yes", "no")
    assert base.speakers == ("anna",)
    assert base.provenance["license"] == "MIT"
    np.testing.assert_allclose(base.encoder_output(heard)[:, 0].numpy(), expected, atol=1e-5)
    assert not base.logits(base.encoder_output(heard)).any()  # there is no head yet


def test_a_head_and_its_projection_are_used(folder, head):
    base = Base.load(folder)
    heard = np.random.default_rng(2).normal(size=(3, 1_600)).astype(np.float32)
    frames = base.encoder(heard)
    pooled = np.concatenate([frames.mean(1).numpy(), frames.amax(1).numpy()], axis=1)
    whitened = (pooled - head["pooling_mean"]) @ head["pooling_matrix"]
    expected = whitened @ head["head_weight"].T + head["head_bias"]
    np.testing.assert_allclose(base.logits(base.encoder_output(heard)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("place", ["copy", "copy.safetensors"])
def test_what_is_written_is_the_same_base(folder, head, tmp_path, place):
    base = Base.load(folder)
    base.save(tmp_path / place)
    again = Base.load(tmp_path / place, sha256=base.sha256)
    heard = np.random.default_rng(2).normal(size=(3, 1_600)).astype(np.float32)
    assert torch.equal(again.encoder_output(heard), base.encoder_output(heard))
    assert again.encoder.sha256 == base.encoder.sha256
    assert again.provenance == base.provenance
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"mine", place})


def test_a_new_head_is_another_base_with_the_same_encoder(folder, head):
    base = Base.load(folder)
    (folder / "head.safetensors").unlink()
    other = Base.load(folder)
    assert other.sha256 != base.sha256
    assert other.encoder.sha256 == base.encoder.sha256  # cached outputs are found by this one


def test_a_base_of_another_hash_is_refused(folder):
    with pytest.raises(ValueError, match="must have SHA-256 abc, got"):
        Base.load(folder, sha256="abc")


def test_something_else_is_not_overwritten(folder, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="nothing was written"):
        Base.load(folder).save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine"


def test_a_base_is_replaced_and_what_lies_beside_it_is_not_removed(folder):
    base = Base.load(folder)
    base.save(folder)
    assert Base.load(folder).sha256 == base.sha256
    (folder / "training.log").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'training.log', which is no part of a base"):
        base.save(folder)
    assert Base.load(folder).sha256 == base.sha256
    assert (folder / "training.log").read_text() == "mine"


class Killed(BaseException):
    """Ends a process between two system calls, as far as the process can tell."""


@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("linked", [False, True])
def test_a_kill_between_any_two_steps_leaves_the_old_base_or_the_new_one(
    folder, head, tmp_path, monkeypatch, renames, linked
):
    new = Base.load(folder)
    (folder / "head.safetensors").unlink()
    old, place = Base.load(folder), folder
    if linked:
        place = tmp_path / "link"
        place.symlink_to(folder)
    right, done = Path.rename, []

    def rename(source, target):
        if len(done) == renames:
            raise Killed
        done.append(target)
        return right(source, target)

    def remove(*made):
        if len(done) == 2:
            raise Killed
        remove_made(*made)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        patch.setattr(folder_of_a_base, "remove_made", remove)
        with pytest.raises(Killed):
            new.save(place)
    assert Base.load(place).sha256 == (old, old, new)[renames].sha256
    new.save(place)
    assert Base.load(place).sha256 == new.sha256
    kept = {"mine", "link"} if linked else {"mine"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_disk_that_fails_leaves_the_old_base(folder, head, tmp_path, monkeypatch):
    new = Base.load(folder)
    (folder / "head.safetensors").unlink()
    old, right = Base.load(folder), Path.rename

    def rename(source, target):
        if source.name == "base":
            raise OSError("no space left on device")
        return right(source, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="no space"):
        new.save(folder)
    assert Base.load(folder).sha256 == old.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('license = "MIT"\n', "", "the key license is missing"),
        ('license = "MIT"', "license = 3", "license must be a string, got 3"),
        ('speakers = ["anna"]', 'speakers = "anna"', "speakers must be a list of strings"),
        ("[encoder]", "lisense = 1\n[encoder]", "unknown key lisense; there are license"),
        ("clip_samples", "clip_length", "unknown key encoder.clip_length"),
        ("clip_samples = 1600", "clip_samples = 10", "clip_samples must be at least 1600, got"),
        ("clip_samples = 1600", "rate_hz = 8000", "rate_hz must be 16000; .*, got rate_hz=8000"),
        ('input = "waveform"', 'input = "mfcc"', "input must be waveform or log_mel or"),
        ('input = "waveform"', 'input = "log_mel"', "log_mel describes the features"),
        ('"encoder.tflite"', '"encoder.onnx"', "encoder.file must be one of encoder.pt2"),
        ('"encoder.tflite"', '"encoder.pt2"', "encoder.pt2, which is not in the folder"),
        ('["yes", "no"]', '["yes", "Yes"]', "plain lower case, got 'Yes'"),
        ('["yes", "no"]', "[]", "1 to 40 distinct target words"),
        (
            "[encoder]",
            'pooling = "sum"\n[encoder]',
            "pooling must be one of mean_max, network, mean, got",
        ),
        ("clip_samples = 1600", "clip_samples = 3200", "network takes"),
        ('license = "MIT"', "license", "not TOML"),
    ],
)
def test_a_mistake_is_named_by_key_and_value(folder, old, new, said):
    text = (folder / "base.toml").read_text()
    assert old in text
    (folder / "base.toml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=said) as told:
        Base.load(folder)
    assert str(folder) in str(told.value)


def test_a_head_of_another_shape_or_name_is_refused(folder, head):
    save_file(head | {"head_bias": head["head_bias"][1:]}, folder / "head.safetensors")
    with pytest.raises(ValueError, match=r"head_bias must be float32 of shape \(4,\)"):
        Base.load(folder)
    save_file(head | {"bias": head["head_bias"]}, folder / "head.safetensors")
    with pytest.raises(ValueError, match="may hold head_weight, head_bias"):
        Base.load(folder)
    (folder / "head.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"head\.safetensors"):
        Base.load(folder)


def test_a_folder_without_a_base_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no base: it has no base\.toml"):
        Base.load(tmp_path)


def test_a_stream_is_heard_utterance_by_utterance(folder):
    base = Base.load(folder)
    stream = np.random.default_rng(3).normal(size=5_000).astype(np.float32)
    heard = base.encoder.listening(stream)
    assert heard.shape == (3, 1, 3)
    last = base.encoder(stream[np.newaxis, 3 * 1_280 - 1_600 : 3 * 1_280])
    np.testing.assert_allclose(heard[2], last[0], atol=1e-6)
    padded = np.concatenate([np.zeros(320, np.float32), stream[:1_280]])
    np.testing.assert_allclose(heard[0], base.encoder(padded[np.newaxis])[0], atol=1e-6)

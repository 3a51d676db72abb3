"""Files of bases that are wrong or do not fit on the disk: named, refused, and nothing is lost."""

import os
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sources import ROOT

from fedspeech.models.base import Base, default_base_path
from simulations.cli import main
from simulations.progress import RunProgress

tflite_files = pytest.importorskip("tflite_files", reason="LiteRT is the extra tflite")

HUGE = 10 * 2**30  # bytes; a file that claims as many occupies none


def sparse(path):
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


@pytest.fixture
def folder(tmp_path):
    """A base of a small network with a head."""
    path = tmp_path / "mine"
    path.mkdir()
    (path / "encoder.tflite").write_bytes(tflite_files.small()[0])
    (path / "base.toml").write_text(
        'license = "MIT"\nspeakers = []\nwords = ["yes"]\n'
        '[encoder]\nfile = "encoder.tflite"\nclip_samples = 1600\n'
    )
    head = {"head_weight": np.ones((3, 3), np.float32), "head_bias": np.zeros(3, np.float32)}
    save_file(head, path / "head.safetensors")
    return path


@pytest.mark.parametrize("name", ["head_weight", "head_bias"])
def test_a_head_that_is_no_number_is_named_with_its_folder(folder, name):
    head = load_file(folder / "head.safetensors")
    head[name][0] = np.nan
    save_file(head, folder / "head.safetensors")
    with pytest.raises(ValueError, match=rf"mine: .*must be finite, {name}"):
        Base.load(folder)


def test_another_sample_rate_is_refused_with_a_way_out(folder):
    text = (folder / "base.toml").read_text()
    (folder / "base.toml").write_text(text + "rate_hz = 8000\n")
    with pytest.raises(ValueError, match=r"must be 16000; .*resamples in its first.*rate_hz=8000"):
        Base.load(folder)


@pytest.mark.parametrize("name", ["encoder.tflite", "head.safetensors"])
def test_a_huge_file_in_a_folder_is_refused_unread(folder, name):
    sparse(folder / name)
    with pytest.raises(ValueError, match=rf"{name} may have at most 536870912 bytes, got {HUGE}"):
        Base.load(folder)


@pytest.mark.parametrize("name", ["base.safetensors", "encoder.pt2", "encoder.tflite"])
def test_a_huge_file_is_refused_unread(tmp_path, name):
    path = sparse(tmp_path / name)
    read = Base.load if path.suffix == ".safetensors" else Base.from_file
    given = {} if read == Base.load else {"words": ["yes"], "license": "MIT"}
    with pytest.raises(ValueError, match=rf"{name} may have at most \d+ bytes, got {HUGE}"):
        read(path, **given)


def test_a_header_that_claims_more_than_there_is_is_refused(folder, tmp_path):
    (folder / "head.safetensors").write_bytes(struct.pack("<Q", HUGE) + b"{}")
    with pytest.raises(ValueError, match=r"mine: head\.safetensors: .*header too large"):
        Base.load(folder)
    base = bytearray(default_base_path().read_bytes())
    base[:8] = struct.pack("<Q", HUGE)
    (tmp_path / "base.safetensors").write_bytes(base)
    with pytest.raises(ValueError, match=r"base\.safetensors: not a fedspeech base"):
        Base.load(tmp_path / "base.safetensors")


FULL = """
import resource, sys
from pathlib import Path
from fedspeech.models.base import Base
base = Base.load(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    base.save(Path(sys.argv[2]))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_disk_that_is_full_leaves_the_base_that_was_there(folder, tmp_path, form):
    """A limit on the size of files fails as a full disk does, in the middle of writing."""
    place = tmp_path / ("kept.safetensors" if form == "file" else "kept")
    Base.load(folder).save(place)
    before = Base.load(place).sha256
    beside = sorted(os.listdir(tmp_path))
    head = load_file(folder / "head.safetensors")
    head["head_bias"] += 1
    save_file(head, folder / "head.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", FULL, folder, place, "700"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == os.strerror(27), done.stderr
    assert Base.load(place).sha256 == before
    assert sorted(os.listdir(tmp_path)) == beside


@pytest.mark.slow
def test_interrupting_pretrain_leaves_the_base_that_was_there(tmp_path, monkeypatch, capfd):
    """In the middle of the work; how a signal gets there, tests of runs show."""
    out, told = tmp_path / "base.safetensors", []
    out.write_bytes(default_base_path().read_bytes())

    def interrupted(_, done, total, part=""):
        told.append((done, total))
        if 0 < done < total:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunProgress, "advance", interrupted)
    monkeypatch.setattr(
        sys, "argv",
        ["fedspeech", "pretrain", "--words", "yes no", "--out", str(out), "--cache",
         str(tmp_path / "cache")],
    )  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert told
    assert "Traceback" not in capfd.readouterr().err
    assert Base.load(out).sha256 == Base.load(default_base_path()).sha256
    assert set(os.listdir(tmp_path)) <= {"base.safetensors", "cache"}
    assert not list(tmp_path.rglob("*.partial"))

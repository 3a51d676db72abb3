"""A checkpoint is whole or it is refused."""

import numpy as np
import pytest
from tiny_job import make_job

from fedspeech.errors import FedspeechError
from fedspeech.round import ServerState
from server.state import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def state(tmp_path):
    _, job, arrays = make_job(tmp_path)
    fresh = ServerState.initial(job, arrays)
    mean = np.linspace(-1, 1, len(arrays.initial)).astype(np.float32)
    return ServerState(job.query.update(fresh.query, mean), 0.25, 3, mean, 0.5)


def at(state):
    return Checkpoint(state=state, next_round=5, opened=2)


def test_a_checkpoint_survives_a_round_trip_memory_of_the_optimizer_included(tmp_path, state):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, at(state))
    read = load_checkpoint(path)
    assert read.state.clip_norm == 0.25
    assert (read.state.completed, read.next_round, read.opened) == (3, 5, 2)
    written = state.query.to_arrays()
    assert len(written) > 1
    for name, array in read.state.query.to_arrays().items():
        np.testing.assert_array_equal(array, written[name])
    assert [file.name for file in tmp_path.glob("*last*")] == ["last.safetensors"]


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, state, monkeypatch):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, at(state))
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, at(ServerState(state.query, 0.25, 4, state.summed_means, 0.5)))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"text", "cut"])
def test_a_missing_or_damaged_checkpoint_is_named(tmp_path, state, content):
    path = tmp_path / "last.safetensors"
    if content == "cut":
        save_checkpoint(path, at(state))
        content = path.read_bytes()[:-1]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FedspeechError, match=r"no usable checkpoint at .*last\.safetensors"):
        load_checkpoint(path)

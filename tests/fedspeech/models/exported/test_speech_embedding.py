import numpy as np
import pytest
import torch

from fedspeech import extras
from fedspeech.errors import FedspeechError
from fedspeech.models.exported import speech_embedding as wheel


def test_a_missing_wheel_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        FedspeechError, match=r"pip install 'fedspeech\[speech-embedding\]'"
    ) as told:
        wheel.speech_embedding()
    assert "\n" not in str(told.value)


def test_another_model_in_the_wheel_is_refused(monkeypatch, tmp_path):
    (tmp_path / wheel.FILE).write_bytes(b"another")
    monkeypatch.setattr(wheel, "wheel_file", lambda name: tmp_path / name)
    with pytest.raises(FedspeechError, match="must have SHA-256"):
        wheel.speech_embedding()


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("pyopen_wakeword", reason="the wheel is the extra speech-embedding")
    pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")
    return wheel.speech_embedding()


def test_the_embedding_answers_eleven_windows_of_96(encoder):
    assert (encoder.num_windows, encoder.num_features) == (11, 96)
    assert encoder.findings.batch_difference == 0
    assert encoder.findings.streams


def test_a_window_depends_on_its_own_775_ms_and_on_no_other(encoder):
    rng = np.random.default_rng(0)
    heard = (0.1 * rng.normal(size=(1, 21_440))).astype(np.float32)
    whole = encoder.inputs(heard)
    windows = [encoder.network(whole[:, start : start + 76]) for start in range(0, 88, 8)]
    np.testing.assert_allclose(torch.cat(windows, 1)[:, :, 0], encoder(heard), atol=1e-5)

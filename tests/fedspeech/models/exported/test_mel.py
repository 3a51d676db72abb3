"""Google's front end with one floor: pieces of a stream give what the whole gives."""

import numpy as np
import pytest
import torch

from fedspeech.models.exported.mel import FLOOR_DB, SpeechEmbeddingMel, slaney_filters


@pytest.fixture(scope="module")
def sound():
    """Noise that swells and ebbs, between digital silence, shape (1, 25312)."""
    rng = np.random.default_rng(0)
    samples = np.zeros(25_312)
    samples[8_000:16_000] = rng.normal(size=8_000) * np.sin(np.arange(8_000) / 3_000) ** 2
    return torch.from_numpy((0.05 * samples).astype(np.float32))[None]


def test_pieces_of_a_stream_are_the_frames_of_the_whole(sound):
    front_end = SpeechEmbeddingMel()
    whole = front_end(sound)
    assert whole.shape == (1, 156, 32)
    pieces = [front_end(sound[:, start : start + 1_632]) for start in range(0, 23_680, 1_280)]
    assert torch.equal(torch.cat(pieces, 1), whole[:, : 8 * len(pieces)])


def test_digital_silence_lies_at_the_floor():
    assert SpeechEmbeddingMel()(torch.zeros(1, 512)).unique().tolist() == [FLOOR_DB / 10 + 2]


def test_filters_have_area_one_and_stand_between_60_and_3800_hz():
    filters = slaney_filters()
    hertz = np.arange(257) * 16_000 / 512
    assert filters.shape == (257, 32)
    inside = filters[(hertz > 60) & (hertz < 3_800)].sum()
    assert inside == pytest.approx(filters.sum())
    # Sampled every 31.25 Hz, so triangles a few bins wide are only nearly of area one.
    np.testing.assert_allclose(filters[:, 12:].sum(axis=0) * 31.25, 1, atol=0.1)


def test_the_published_file_computes_the_same_above_its_floor(sound):
    """`melspectrogram.tflite`, whose floor follows the loudest frame of what it is given."""
    pytest.importorskip("pyopen_wakeword", reason="the wheel is the extra speech-embedding")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    from fedspeech.models.exported.speech_embedding import wheel_file

    content = wheel_file("melspectrogram.tflite").read_bytes()
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, list(sound.shape))
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, sound.numpy() * 32_768)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = output.reshape(-1, 32) / 10 + 2
    ours = SpeechEmbeddingMel()(sound)[0].numpy()
    # In decibels over ten; below either floor they differ by design.
    above = (expected > expected.max() - 7.9) & (ours > FLOOR_DB / 10 + 2.1)
    assert above.mean() > 0.2
    np.testing.assert_allclose(ours[above], expected[above], atol=1e-4)

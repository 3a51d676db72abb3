"""A recording of any length is read in blocks, and what is wrong with it is said."""

import numpy as np
import pytest
import soundfile

from fedspeech.corpora.files import UnusableError, decode
from fedspeech.corpora.long_recordings import BLOCK_SECONDS, blocks_of, recordings_in
from fedspeech.seeds import stream

RATE = 16_000


def write(path, seconds, rate=RATE, channels=1):
    sound = stream(0, "long").uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, sound, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return sound.mean(axis=1).astype(np.float32)


def test_blocks_are_the_recording_and_short(tmp_path):
    sound = write(tmp_path / "a.wav", 2.3 * BLOCK_SECONDS, channels=2)
    blocks = list(blocks_of(tmp_path / "a.wav", RATE))
    assert [len(block) for block in blocks[:2]] == [BLOCK_SECONDS * RATE] * 2
    np.testing.assert_allclose(np.concatenate(blocks), sound, atol=1e-6)


def test_another_rate_is_resampled_without_seams(tmp_path):
    t = np.arange(25 * 8_000) / 8_000
    soundfile.write(tmp_path / "a.flac", 0.5 * np.sin(2 * np.pi * 440 * t), 8_000)
    sound = np.concatenate(list(blocks_of(tmp_path / "a.flac", RATE)))
    assert len(sound) == pytest.approx(25 * RATE, abs=2)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / RATE)
    middle = slice(RATE, 24 * RATE)
    np.testing.assert_allclose(sound[middle], expected[middle], atol=2e-3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"text", "not a readable sound file"), (b"", "not a readable sound file")],
)
def test_what_is_no_sound_is_refused(tmp_path, content, problem):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UnusableError, match=problem):
        list(blocks_of(tmp_path / "a.wav", RATE))


@pytest.mark.parametrize("form", ["WAV", "RF64", "W64"])
def test_a_wav_of_another_length_than_its_header_says_is_refused_as_by_a_corpus(tmp_path, form):
    file = tmp_path / "night.wav"
    soundfile.write(file, stream(0, "cut").uniform(-0.5, 0.5, RATE), RATE, format=form)
    data = file.read_bytes()
    assert sum(map(len, blocks_of(file, RATE))) == RATE
    for content, problem in (
        (data[: len(data) // 2], "cut short"),
        (data + b"\7" * 9_000, "longer"),
    ):
        if form != "WAV" and problem == "longer":
            continue  # behind the sound of the others, chunks may follow
        file.write_bytes(content)
        with pytest.raises(UnusableError, match=problem) as listening:
            next(blocks_of(file, RATE))
        with pytest.raises(UnusableError, match=problem) as reading:
            decode(content, rate_hz=RATE)
        assert str(listening.value) == str(reading.value)


def test_values_that_are_no_sound_are_refused(tmp_path):
    for name, value, problem in (("nan", np.nan, "NaN"), ("loud", 30_000.0, "full scale")):
        sound = np.zeros(RATE, np.float32)
        sound[500] = value
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, subtype="FLOAT")
        with pytest.raises(UnusableError, match=problem):
            list(blocks_of(tmp_path / f"{name}.wav", RATE))
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(UnusableError, match="no samples"):
        list(blocks_of(tmp_path / "empty.wav", RATE))


def test_folders_below_are_listened_to_and_hidden_files_are_not(tmp_path):
    (tmp_path / "night").mkdir()
    for name in ("night/a.wav", "b.flac", ".c.wav"):
        write(tmp_path / name, 0.2)
    (tmp_path / "notes.txt").write_text("text")
    found = [str(path.relative_to(tmp_path)) for path in recordings_in(tmp_path)]
    assert found == ["b.flac", "night/a.wav"]

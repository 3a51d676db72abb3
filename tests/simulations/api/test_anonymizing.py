import numpy as np
import pytest
import soundfile

import fedspeech as fs
from fedspeech.errors import CorpusError


@pytest.fixture
def recordings(tmp_path):
    noise = np.random.default_rng(1)
    for name in ("anna/yes.wav", "anna/no.flac", "ben/yes.wav"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.1 * noise.standard_normal(3200), 8000)
    return tmp_path / "in"


def test_a_folder_keeps_its_names_and_lengths(recordings, tmp_path):
    (recordings / "bad.wav").write_bytes(b"RIFF")
    found = fs.anonymize(recordings, tmp_path / "out", method="mcadams", seed=1)
    written = sorted(file.relative_to(tmp_path / "out").as_posix()
                     for file in (tmp_path / "out").rglob("*.wav"))  # fmt: skip
    assert written == ["anna/no.wav", "anna/yes.wav", "ben/yes.wav"]
    assert [one.where for one in found.skipped] == ["bad.wav"]
    assert found.record()["seconds"] == pytest.approx(1.2)
    samples, rate_hz = soundfile.read(tmp_path / "out" / "ben" / "yes.wav")
    assert (len(samples), rate_hz) == (6400, 16_000)
    assert "not private" in str(found)


def test_a_seed_repeats_and_the_system_does_not(recordings, tmp_path):
    def bytes_of(name, seed):
        fs.anonymize(recordings, tmp_path / name, method="noise", seed=seed)
        return (tmp_path / name / "ben" / "yes.wav").read_bytes()

    assert bytes_of("a", 1) == bytes_of("b", 1)
    assert len({bytes_of("c", 1), bytes_of("d", 2), bytes_of("e", None), bytes_of("f", None)}) == 4


def test_two_recordings_of_one_name_are_both_written(recordings, tmp_path):
    soundfile.write(recordings / "anna" / "yes.flac", np.linspace(-0.1, 0.1, 3200), 8000)
    fs.anonymize(recordings, tmp_path / "out", method="noise", seed=1)
    assert len(list((tmp_path / "out" / "anna").iterdir())) == 3


def test_nothing_is_written_over(recordings, tmp_path):
    one = recordings / "ben" / "yes.wav"
    before = one.read_bytes()
    inside, other = recordings / "sub", tmp_path / "x.mp3"
    pairs = ((one, one), (recordings, recordings), (recordings, inside), (one, other),
             (tmp_path / "none", tmp_path / "y"))  # fmt: skip
    for source, target in pairs:
        with pytest.raises(fs.ArgumentRefused):
            fs.anonymize(source, target, method="noise")
    assert one.read_bytes() == before
    with pytest.raises(fs.ArgumentRefused, match="method"):
        fs.anonymize(one, tmp_path / "x.wav", method="magic")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no recording"):
        fs.anonymize(tmp_path / "empty", tmp_path / "out", method="noise")

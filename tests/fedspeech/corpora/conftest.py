import functools
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fedspeech.corpora.corpus import Speaker, Utterance
from fedspeech.corpora.layouts import open_corpus


def tone(seconds=1.0, rate_hz=16_000, hertz=440.0, level=0.3):
    """A sine with silence's opposite: shape (n,), float32."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def sound(samples, rate_hz=16_000, format="WAV", subtype="PCM_16"):  # noqa: A002
    """The bytes of a sound file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate_hz, format=format, subtype=subtype)
    return stream.getvalue()


class Studio:
    """A folder in which tests record."""

    def __init__(self, root):
        self.root = root
        self.takes = 0

    def clip(self, file, data=None):
        """Writes a file; without data a tone of a second that no other file has."""
        self.takes += 1
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(tone(hertz=200.0 + self.takes)) if data is None else data)
        return path

    def manifest(self, *lines, name="manifest.csv"):
        (self.root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def tar(self, shard, members, mode="w"):
        with tarfile.open(self.root / shard, mode) as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def studio(tmp_path):
    return Studio(tmp_path)


@pytest.fixture(name="tone", scope="session")
def tone_fixture():
    return tone


@pytest.fixture(name="sound", scope="session")
def sound_fixture():
    return sound


class SmallCorpus:
    """A corpus in memory: speaker id to the words said, each clip noise of its own."""

    name = "small"
    license = "none"
    skipped = ()

    def __init__(self, said, segments=None, clip_samples=1_600):
        self.clip_samples = clip_samples
        self.speakers = {name: Speaker(name, (segments or {}).get(name, {})) for name in said}
        self.utterances = tuple(
            Utterance(f"{name}/{word}/{take}", name, word)
            for name, words in said.items()
            for take, word in enumerate(words)
        )

    def fingerprint(self, utterance):
        return utterance.utterance_id

    def waveforms(self, utterances):
        clips = [
            np.random.default_rng(list(clip.utterance_id.encode())).normal(0, 0.1, 1_600)
            for clip in utterances
        ]
        return np.array(clips, dtype=np.float32).reshape(len(clips), 1_600)


@pytest.fixture(scope="session")
def small_corpus():
    return SmallCorpus


@pytest.fixture(scope="session")
def real_data():
    """The folder of real recordings, or a skip that says where it was looked for."""
    default = Path(__file__).parents[4] / "shared" / "data"
    folder = Path(os.environ.get("FEDSPEECH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; FEDSPEECH_TEST_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def real_corpus(real_data):
    """Opens a real corpus by the name of its folder, once for all tests."""
    return functools.cache(lambda name: open_corpus(real_data / name))

"""A run opened again on recordings: its own, moved or not, and nobody else's."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_experiment import tiny_experiment

from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import AllBut, by_speaker
from fedspeech.errors import FedspeechError
from fedspeech.tasks.kws import Kws, WordRoles
from simulations.artifacts.loaded_run import _require_same_recordings
from simulations.setup.speakers import SpeakerSplit


def record(folder, seed):
    """Six people who say two words twice each, in a folder by words."""
    rng = np.random.default_rng(seed)
    for word in ("yes", "no"):
        (folder / word).mkdir(parents=True)
        for person in range(6):
            for take in range(2):
                sound = rng.normal(0, 0.1, 16_000)
                name = f"{person:08x}_nohash_{take}.wav"
                soundfile.write(folder / word / name, sound, 16_000)
    return folder


def voices_of(folder):
    """Whoever speaks in a folder, as a scenario would split them."""
    corpus = open_corpus(folder)
    partition = by_speaker(corpus, seed=0, held_out=AllBut(3))
    return SpeakerSplit(
        task=Kws(WordRoles(("no", "yes"))), corpus=corpus, public_corpus=corpus,
        public=partition.public, partition=partition,
    )  # fmt: skip


def test_recordings_are_known_again_wherever_they_lie_and_no_others(tmp_path):
    own = voices_of(record(tmp_path / "a" / "corpus", seed=1))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a" / "corpus").rename(tmp_path / "elsewhere" / "corpus")
    moved = voices_of(tmp_path / "elsewhere" / "corpus")
    assert own.sha256 == moved.sha256
    other = voices_of(record(tmp_path / "a" / "corpus", seed=2))
    assert other.corpus.name == moved.corpus.name
    assert other.sha256 != own.sha256
    one = tmp_path / "elsewhere" / "corpus" / "yes" / "00000000_nohash_0.wav"
    soundfile.write(one, np.full(16_000, 0.1), 16_000)
    assert voices_of(tmp_path / "elsewhere" / "corpus").sha256 != own.sha256


def test_a_run_is_not_opened_on_other_recordings():
    built = tiny_experiment()
    scenario = SimpleNamespace(corpus=SimpleNamespace(path="words"))

    def opened(recordings_sha256):
        summary = SimpleNamespace(recordings_sha256=recordings_sha256, corpus="words")
        _require_same_recordings("RUN", scenario, summary, built.speakers)

    opened(built.speakers.sha256)
    with pytest.raises(FedspeechError, match="words holds other recordings than RUN was made on"):
        opened("1" * 64)

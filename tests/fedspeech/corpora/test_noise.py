import numpy as np
import pytest

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE
from fedspeech.corpora.noise import NoiseCorpus, holds_noise, read_noise
from fedspeech.errors import CorpusError


def hiss(seconds, seed=0):
    size = round(seconds * 16_000)
    return np.random.default_rng(seed).normal(0, 0.05, size).astype(np.float32)


def test_a_folder_of_files_is_noise_by_name(studio, sound):
    studio.clip("tap.wav", sound(hiss(2.5), subtype="FLOAT"))
    studio.clip("bad.wav", b"text")
    studio.clip("README.md", b"about")
    noise = read_noise(studio.root)
    assert [one.kind for one in noise.noises] == ["tap"]
    np.testing.assert_array_equal(noise.noises[0].samples, hiss(2.5))
    assert [skip.where for skip in noise.skipped] == ["bad.wav"]
    assert "array" not in repr(noise)


def test_a_manifest_names_the_kind(studio, sound):
    studio.tar("n.tar", {"1.wav": sound(hiss(1))})
    studio.manifest("shard,member,kind", "n.tar,1.wav,running tap", "n.tar,2.wav,none")
    assert holds_noise(studio.root)
    noise = read_noise(studio.root)
    assert [one.kind for one in noise.noises] == ["running tap"]
    assert [skip.where for skip in noise.skipped] == ["n.tar:2.wav"]


def test_a_manifest_of_noise_may_leave_speakers_open(studio, sound):
    studio.clip("tap.wav", sound(hiss(1)))
    studio.manifest("file,kind,speaker", "tap.wav,tap,")
    assert [one.kind for one in read_noise(studio.root).noises] == ["tap"]


def test_a_manifest_of_speakers_is_no_noise(studio):
    studio.manifest("file,speaker,word", "a.wav,anna,yes")
    assert not holds_noise(studio.root)


def test_noise_becomes_silence_without_overlap(studio, sound):
    studio.clip("_background_noise_/tap.wav", sound(hiss(2.5), subtype="FLOAT"))
    studio.clip("_background_noise_/fan.wav", sound(hiss(1.0, seed=1), subtype="FLOAT"))
    studio.clip("_background_noise_/tick.wav", sound(hiss(0.5, seed=2), subtype="FLOAT"))
    corpus = NoiseCorpus(studio.root, FrontendSpec())
    assert [clip.utterance_id.rpartition("_/")[2] for clip in corpus.utterances] == [
        "fan/0", "tap/0", "tap/1",
    ]  # fmt: skip
    assert {clip.word for clip in corpus.utterances} == {SILENCE}
    np.testing.assert_array_equal(
        corpus.waveforms(corpus.utterances[1:]).reshape(-1), hiss(2.5)[:32_000]
    )
    assert len({corpus.fingerprint(clip) for clip in corpus.utterances}) == 3
    assert [who.segments["noise"] for who in corpus.speakers.values()] == ["fan", "tap"]


def test_a_folder_without_noise_is_refused(studio, tmp_path):
    studio.clip("bad.wav", b"text")
    with pytest.raises(CorpusError, match=r"no usable noise in .*\n  bad.wav: not a readable"):
        read_noise(studio.root)
    with pytest.raises(CorpusError, match="no such folder of noise"):
        read_noise(tmp_path / "none")


@pytest.mark.corpus
def test_the_real_noise_folder_is_read(real_data):
    noise = read_noise(real_data / "background_noise")
    assert len(noise.noises) == 6
    assert all(one.samples.shape == (128_000,) for one in noise.noises)

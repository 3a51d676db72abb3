import numpy as np
import pytest

from fedspeech.corpora.corpus import SILENCE
from fedspeech.corpora.layouts import open_corpus
from fedspeech.errors import CorpusError


@pytest.fixture
def published(studio, sound):
    """The published layout in small: three speakers, two words, one noise."""
    for word in ("yes", "no"):
        for speaker in ("aa11", "bb22", "cc33"):
            studio.clip(f"{word}/{speaker}_nohash_0.wav")
    studio.clip("yes/aa11_nohash_1.wav")
    noise = np.random.default_rng(0).normal(0, 0.05, 40_000).astype(np.float32)
    studio.clip("_background_noise_/tap.wav", sound(noise))
    studio.clip("_background_noise_/README.md", b"text")
    studio.clip("README.md", b"text")
    studio.clip("validation_list.txt", b"yes/bb22_nohash_0.wav\nno/bb22_nohash_0.wav\n")
    studio.clip("testing_list.txt", b"yes/cc33_nohash_0.wav\nno/zz99_nohash_0.wav\n")
    return studio


def test_the_published_layout_is_read(published):
    corpus = open_corpus(published.root)
    spoken = [clip for clip in corpus.utterances if clip.word != SILENCE]
    assert [clip.utterance_id for clip in spoken] == [
        "no/aa11_nohash_0.wav", "no/bb22_nohash_0.wav", "no/cc33_nohash_0.wav",
        "yes/aa11_nohash_0.wav", "yes/aa11_nohash_1.wav", "yes/bb22_nohash_0.wav",
        "yes/cc33_nohash_0.wav",
    ]  # fmt: skip
    assert spoken[4].speaker_id == "aa11"
    assert spoken[4].word == "yes"
    assert corpus.skipped == ()
    assert corpus.waveforms(corpus.utterances).shape == (9, 16_000)


def test_background_noise_becomes_silence_of_nobody(published):
    corpus = open_corpus(published.root)
    silence = [clip for clip in corpus.utterances if clip.word == SILENCE]
    assert [clip.utterance_id for clip in silence] == [
        "_background_noise_/tap/0", "_background_noise_/tap/1",
    ]  # fmt: skip
    assert {clip.speaker_id for clip in silence} == {"_background_noise_/tap"}


def test_the_official_lists_speak_of_speakers_and_testing_wins(published):
    assert open_corpus(published.root).official == {
        "bb22": "validation", "cc33": "testing", "zz99": "testing",
    }  # fmt: skip
    published.clip("testing_list.txt", b"yes/bb22_nohash_0.wav\n")
    assert open_corpus(published.root).official["bb22"] == "testing"


def test_a_line_of_a_list_that_names_no_clip_is_left_out_and_named(published):
    published.clip("testing_list.txt", b"yes/bb22_nohash_0.wav\nyes bb22\n\xff\n")
    corpus = open_corpus(published.root)
    assert corpus.official["bb22"] == "testing"
    assert [(skip.where, skip.reason.partition(": ")[0]) for skip in corpus.skipped] == [
        ("testing_list.txt line 2", "no clip of the layout"),
        ("testing_list.txt line 3", "not UTF-8"),
    ]


def test_a_list_of_something_else_is_refused_with_its_lines(published):
    published.clip("testing_list.txt", b"hello\n" * 5)
    with pytest.raises(CorpusError, match=r"5 of 13 rows .*\n  testing_list.txt line 1: no clip"):
        open_corpus(published.root)


def test_a_speaker_whom_the_lists_split_is_named(published):
    published.clip("testing_list.txt", b"yes/cc33_nohash_0.wav\nno/cc33_nohash_0.wav\n")
    assert open_corpus(published.root).notes == ()
    published.clip("testing_list.txt", b"yes/cc33_nohash_0.wav\n")
    (note,) = open_corpus(published.root).notes
    assert note.startswith("the official lists split cc33: all clips")
    assert "bb22" not in note


def test_files_of_another_name_and_damaged_ones_are_counted(published):
    published.clip("yes/holiday.wav")
    published.clip("yes/dd44_nohash_0.wav", b"text")
    published.clip("_background_noise_/bad.wav", b"text")
    corpus = open_corpus(published.root)
    assert [skip.where for skip in corpus.skipped] == [
        "yes/holiday.wav", "yes/dd44_nohash_0.wav", "_background_noise_/bad.wav",
    ]  # fmt: skip
    assert "dd44" not in corpus.speakers

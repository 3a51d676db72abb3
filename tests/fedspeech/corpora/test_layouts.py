import pytest

from fedspeech.corpora.layouts import open_corpus
from fedspeech.errors import CorpusError


def test_what_is_in_the_folder_picks_the_layout(studio):
    studio.clip("yes/anna_nohash_0.wav")
    assert open_corpus(studio.root).layout == "Speech Commands"
    studio.manifest("file,speaker,word", "yes/anna_nohash_0.wav,anna,yes")
    assert open_corpus(studio.root).layout == "manifest (manifest.csv)"


def test_a_folder_of_neither_layout_hears_about_both(studio):
    studio.clip("holiday.wav")
    with pytest.raises(CorpusError) as caught:
        open_corpus(studio.root)
    for part in ("file,speaker,word,accent", "yes/anna_nohash_0.wav"):
        assert part in str(caught.value)
    assert "Did you mean" not in str(caught.value)


def test_one_level_too_high_is_pointed_down(studio):
    studio.clip("speech_commands_v0.02/yes/anna_nohash_0.wav")
    with pytest.raises(CorpusError, match=r"Did you mean .*speech_commands_v0\.02\?$"):
        open_corpus(studio.root)


def test_archives_missing_folders_and_noise_are_refused(studio):
    archive = studio.clip("speech.tar.gz", b"packed")
    with pytest.raises(CorpusError, match=r"got the file .*speech\.tar\.gz: unpack it first"):
        open_corpus(archive)
    with pytest.raises(CorpusError, match="no such folder"):
        open_corpus(studio.root / "none")
    studio.manifest("file,kind", "a.wav,tap")
    with pytest.raises(CorpusError, match="names neither speakers nor words"):
        open_corpus(studio.root)

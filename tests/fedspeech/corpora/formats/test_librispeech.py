import pytest

from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.errors import CorpusError


@pytest.fixture
def libri(studio, sound, tone):
    """Two subsets of LibriSpeech in small."""
    plan = {"train-clean-5/19/198": "CALL MY MOTHER", "test-clean/61/70968": "HE'S THERE"}
    for number, (place, said) in enumerate(plan.items()):
        _, reader, chapter = place.split("/")
        name = f"{reader}-{chapter}-0000"
        clip = tone(hertz=300 + 100 * number)
        studio.clip(f"{place}/{name}.flac", sound(clip, format="FLAC"))
        studio.clip(
            f"{place}/{reader}-{chapter}.trans.txt",
            f"{name} {said}\n{reader}-{chapter}-0001 NOT HERE\n".encode(),
        )
    studio.clip("SPEAKERS.TXT", b"; id | sex\n19 | F | train-clean-5 | 8 | A\n61 | M | x | 8 | B\n")
    return studio


def test_readers_transcripts_and_subsets_are_read(libri):
    assert layout_of(libri.root) == "LibriSpeech or LibriTTS"
    corpus = open_corpus(libri.root, sentences=True)
    assert corpus.layout == "LibriSpeech"
    assert {clip.speaker_id: clip.word for clip in corpus.utterances} == {
        "19": "call my mother", "61": "he's there",
    }  # fmt: skip
    assert corpus.speakers["19"].segments == {"sex": "F"}
    assert corpus.official == {"61": "testing"}
    assert {skip.reason.partition(": ")[0] for skip in corpus.skipped} == {"no such file"}


def test_one_subset_alone_is_read_and_says_who_speaks_from_above(libri):
    corpus = open_corpus(libri.root / "test-clean", sentences=True)
    assert corpus.speakers["61"].segments == {"sex": "M"}


def test_sentences_asked_for_words_are_refused_with_the_way_out(libri):
    with pytest.raises(CorpusError, match=r"These are sentences: .* scenario that reads them"):
        open_corpus(libri.root)


def test_libritts_has_its_text_beside_each_file(studio, sound, tone):
    for take in range(2):
        name = f"dev-clean/84/121123/84_121123_00000{take}_000000"
        studio.clip(f"{name}.wav", sound(tone(hertz=300 + take, rate_hz=24_000), 24_000))
        studio.clip(f"{name}.normalized.txt", "“Call Mr. Smith!”\n".encode())
        studio.clip(f"{name}.original.txt", b"never read")
    corpus = open_corpus(studio.root, sentences=True)
    assert corpus.layout == "LibriTTS"
    assert [clip.word for clip in corpus.utterances] == ["call mr smith"] * 2
    assert corpus.official == {"84": "validation"}
    assert corpus.utterances[0].utterance_id == "84_121123_000000_000000"

import pytest

from fedspeech.corpora.layouts import layout_of, open_corpus

HEADER = "LINK,WORD,VALID,SPEAKER,GENDER"


@pytest.fixture
def words(studio, sound, tone):
    """Persian words in opus at 48 kHz."""
    for number, word in enumerate(("بله", "نه", "بله")):
        clip = tone(1, 48_000, hertz=300 + 50 * number)
        studio.clip(f"clips/{word}/cv_{number}.opus", sound(clip, 48_000, "OGG", "OPUS"))
    return studio


def test_words_of_any_script_are_read_from_the_table_of_splits(words):
    words.manifest(
        "SET," + HEADER,
        "TRAIN,بله/cv_0.opus,بله,True,6f,FEMALE",
        "DEV,نه/cv_1.opus,نه,TRUE,a1,MALE",
        "TEST,بله/cv_2.opus,بله,False,a1,MALE",
        name="fa_splits.csv",
    )
    words.manifest(HEADER, "gone.opus,نه,True,6f,FEMALE", name="fa_train.csv")
    assert layout_of(words.root) == "MSWC"
    corpus = open_corpus(words.root)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [
        ("6f", "بله"), ("a1", "نه"),
    ]  # fmt: skip
    assert corpus.skipped == ()  # a clip that nobody found valid was never one
    assert corpus.speakers["6f"].segments == {"gender": "FEMALE"}
    assert not corpus.one_id_one_person


def test_a_table_of_each_part_will_do(words):
    words.manifest(HEADER, "بله/cv_0.opus,بله,True,6f,FEMALE", name="fa_train.csv")
    words.manifest(HEADER, "نه/cv_1.opus,نه,True,a1,MALE", name="fa_test.csv")
    assert len(open_corpus(words.root).utterances) == 2

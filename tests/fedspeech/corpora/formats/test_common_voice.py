import pytest

from fedspeech.audio.spec import LOG_MEL
from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.corpora.partition import AllBut, by_speaker
from fedspeech.corpora.sentences import JoinedWords
from fedspeech.errors import CorpusError

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale"


def row(client, number, sentence, age="twenties"):
    return f"{client}\tcv_{number}.mp3\t{sentence}\t2\t0\t{age}\tfemale\tEngland\ten"


@pytest.fixture
def language(studio, sound, tone):
    """One language in small: mp3 at 32 kHz, three clients, a part each."""
    for number in range(6):
        clip = tone(0.8, 32_000, hertz=300 + 50 * number)
        studio.clip(f"clips/cv_{number}.mp3", sound(clip, 32_000, format="MP3", subtype=None))
    rows = [
        row("6f" * 64, 0, "Yes."),
        row("6f" * 64, 1, "No!", age=""),
        row("a1" * 64, 2, 'He said "yes'),
        row("a1" * 64, 3, "seven"),
        row("b2" * 64, 4, "“Eight”"),
    ]
    studio.manifest(HEADER, *rows, name="validated.tsv")
    studio.manifest(HEADER, *rows[:2], name="train.tsv")
    studio.manifest(HEADER, *rows[4:], name="test.tsv")
    studio.manifest(HEADER, row("c3" * 64, 5, "nine"), name="invalidated.tsv")
    return studio


def test_validated_clips_are_read_with_their_segments(language):
    assert layout_of(language.root) == "Common Voice"
    corpus = open_corpus(language.root)
    assert [clip.word for clip in corpus.utterances] == ["yes", "no", "seven", "eight"]
    assert corpus.speakers["6f" * 64].segments == {
        "age": "twenties", "gender": "female", "accents": "England", "locale": "en",
    }  # fmt: skip
    assert dict(corpus.tally.rates_hz) == {32_000: 4}
    assert corpus.official == {"6f" * 64: "training", "b2" * 64: "testing"}
    assert [skip.reason.partition(": ")[0] for skip in corpus.skipped] == ["more than one word"]


def test_a_client_id_is_no_person_and_no_user(language):
    corpus = open_corpus(language.root)
    assert not corpus.one_id_one_person
    partition = by_speaker(corpus, seed=0, held_out=AllBut(1), min_clips=1)
    assert partition.unit == "phone"
    assert "a person with two ids is two phones" in partition.unit_note
    words = JoinedWords(corpus, LOG_MEL, length=(1, 1), most=2, seed=0)
    assert by_speaker(words, seed=0, held_out=AllBut(1), min_clips=1).unit == "phone"


def test_sentences_keep_their_words_without_punctuation(language):
    corpus = open_corpus(language.root, sentences=True)
    assert "he said yes" in [clip.word for clip in corpus.utterances]


def test_parts_without_the_whole_are_joined_and_nothing_unvalidated_is_used(language):
    (language.root / "validated.tsv").unlink()
    corpus = open_corpus(language.root)
    assert [clip.word for clip in corpus.utterances] == ["yes", "no", "eight"]
    (language.root / "train.tsv").unlink()
    (language.root / "test.tsv").unlink()
    with pytest.raises(CorpusError, match="clips that nobody has validated are not used"):
        open_corpus(language.root)


def test_clips_that_were_not_downloaded_are_named_and_refuse_nothing(language):
    more = [row("d4" * 64, 100 + number, "yes") for number in range(50)]
    language.manifest(HEADER, row("6f" * 64, 0, "Yes."), *more, name="validated.tsv")
    corpus = open_corpus(language.root)
    assert len(corpus.utterances) == 1
    assert {skip.reason.partition(": ")[0] for skip in corpus.skipped} == {"no such file"}


def test_a_path_that_leaves_the_clips_is_not_followed(language, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / "secret.wav"
    away.write_bytes((language.root / "clips" / "cv_0.mp3").read_bytes())
    for path in (f"../../{away.parent.name}/secret.wav", str(away)):
        rows = [row("6f" * 64, 1, "yes"), f"6f\t{path}\tno\t2\t0\t\t\t\ten"]
        language.manifest(HEADER, *rows, name="validated.tsv")
        corpus = open_corpus(language.root)
        assert [clip.word for clip in corpus.utterances] == ["yes"]
        assert corpus.skipped[0].reason.startswith(("outside the folder", "no such file"))

import pytest

from fedspeech.corpora.corpus import SILENCE, Speaker
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.records import File, Listing, Row, speakers_of, usable_rows
from fedspeech.errors import CorpusError


def row(number, speaker="anna", said="yes", **more):
    return Row(f"line {number}", File(f"{number}.wav"), speaker, said, **more)


def listing(*rows):
    return Listing(layout="test", rows=rows)


def test_twenty_silences_without_a_speaker_refuse_no_table(studio, tone, sound):
    """They are background noise of nobody, cut into clips and public."""
    good, silent = 60, 20
    lines = []
    for take in range(good):
        studio.clip(f"{take}.wav")
        lines.append(f"{take}.wav,s{take % 6},yes,6f")
    for take in range(silent):
        studio.clip(f"room_{take}.wav", sound(tone(hertz=3_000 + take, level=0.01)))
        lines.append(f"room_{take}.wav,,{SILENCE},")
    studio.manifest("file,speaker,word,session", *lines)
    corpus = open_corpus(studio.root, max_unusable_share=0.0)
    assert len(corpus.utterances) == good + silent
    assert corpus.skipped == ()
    nobody = [name for name in corpus.speakers if name.startswith("_background_noise_/")]
    assert len(nobody) == silent


def test_silence_of_nobody_shorter_than_a_clip_is_named(studio, tone, sound):
    studio.clip("a.wav")
    studio.clip("b.wav", sound(tone(0.5)))
    studio.clip("c.wav", sound(tone(25)))
    rows = ["a.wav,anna,yes", f"b.wav,,{SILENCE}", f"c.wav,,{SILENCE}"]
    studio.manifest("file,speaker,word", *rows)
    corpus = open_corpus(studio.root)
    assert len(corpus.utterances) == 1 + 25
    assert [skip.reason.partition(":")[0] for skip in corpus.skipped] == [
        "background noise shorter than a clip"
    ]


def test_the_share_of_bad_rows_that_refuses_is_the_users():
    rows = [row(number) for number in range(8)] + [row(8, speaker=""), row(9, said="")]
    found = usable_rows(listing(*rows), 0.2)
    assert len(found.rows) == 8
    assert [skip.reason for skip in found.skipped] == [
        "a cell is empty: speaker", "a cell is empty: word",
    ]  # fmt: skip
    with pytest.raises(CorpusError, match=r"2 of 10 rows .* more than 19% .*max_unusable_share"):
        usable_rows(listing(*rows), 0.19)
    with pytest.raises(CorpusError, match="1 of 11"):
        usable_rows(listing(*(row(n) for n in range(10)), row(11, said="")), 0.0)


def test_an_unusable_row_repeats_nothing():
    rows = [row(1, speaker="", clip_id="a"), row(2, clip_id="a"), row(3, clip_id="a")]
    found = usable_rows(listing(*rows), 1.0)
    assert [usable.where for usable in found.rows] == ["line 2"]
    assert found.skipped[1].reason == "named twice: 'a' stands in line 2 too"


def test_speakers_in_two_spellings_are_one_and_segments_are_what_never_changes():
    rows = [
        row(1, "Zoë", columns={"accent": "north", "device": "a"}),
        row(2, "zoë", columns={"accent": "north ", "device": "b"}),
        row(3, "", SILENCE, columns={"accent": "south"}),
    ]
    speakers, unused = speakers_of(usable_rows(listing(*rows)).rows)
    assert speakers == {"Zoë": Speaker("Zoë", {"accent": "north"})}
    assert unused == ("device",)


def test_printing_a_row_shows_neither_speaker_nor_words():
    shown = repr(row(1, "anna", "secret", columns={"accent": "north"}))
    assert "anna" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    "cell",
    ["=cmd|' /C calc'!A0", "+1+1", "@SUM(1)", '"', "'; DROP TABLE", "../../x", "\u202egpj", "%s%n"],
)
def test_cells_are_text_and_nothing_else(studio, cell):
    studio.clip("a.wav")
    lines = ["a.wav,anna,yes,north"] * 1 + [f"b.wav,anna,{cell},north", f"c.wav,{cell},yes,x"]
    studio.manifest("file,speaker,word,accent", *lines)
    corpus = open_corpus(studio.root, max_unusable_share=1.0)
    assert [clip.word for clip in corpus.utterances] == ["yes"]


def test_a_field_of_ten_megabytes_is_one_bad_row(studio):
    for take in range(6):
        studio.clip(f"{take}.wav")
    good = [f"{take}.wav,anna,yes" for take in range(6)]
    studio.manifest("file,speaker,word", *good[:3], "x" * 10_000_000 + ",anna,yes", *good[3:])
    corpus = open_corpus(studio.root)
    assert len(corpus.utterances) == 6
    assert [skip.where for skip in corpus.skipped] == ["line 5"]
    studio.manifest("file,speaker,word", *good, "y" * 200_000 + ",anna,yes")
    assert open_corpus(studio.root).skipped[0].reason.startswith("not a row: field larger than")

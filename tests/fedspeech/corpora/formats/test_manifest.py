import unicodedata

import numpy as np
import pytest

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Skipped, Utterance
from fedspeech.corpora.layouts import open_corpus
from fedspeech.errors import CorpusError


def test_file_speaker_and_word_are_enough(studio, tone, sound):
    studio.clip("anna/yes.wav", sound(tone(0.5), subtype="FLOAT"))
    studio.clip("ben/no.wav")
    studio.manifest("file,speaker,word", "anna/yes.wav,anna,Yes", "ben/no.wav,ben,no")
    corpus = open_corpus(studio.root)
    assert corpus.name == studio.root.name
    assert corpus.utterances == (
        Utterance("anna/yes.wav", "anna", "yes"),
        Utterance("ben/no.wav", "ben", "no"),
    )
    assert list(corpus.speakers) == ["anna", "ben"]
    assert corpus.skipped == ()
    waveforms = corpus.waveforms(corpus.utterances)
    assert waveforms.shape == (2, 16_000)
    assert waveforms.dtype == np.float32
    np.testing.assert_array_equal(waveforms[0, 4_000:12_000], tone(0.5))
    assert corpus.tally.seconds == 1.5
    assert corpus.tally.padded == 1


def test_members_of_tars_and_plain_files_mix(studio, tone, sound):
    studio.tar("a.tar", {"x.wav": sound(tone(hertz=300))})
    studio.clip("y.wav")
    studio.manifest(
        "clip_id,shard,member,speaker,word", "one,a.tar,x.wav,anna,yes", "two,,y.wav,anna,no",
        name="metadata.csv",
    )  # fmt: skip
    corpus = open_corpus(studio.root)
    assert [clip.utterance_id for clip in corpus.utterances] == ["one", "two"]
    assert corpus.layout == "manifest (metadata.csv)"


def test_bits_do_not_depend_on_batching(studio):
    lines = []
    for take in range(5):
        studio.clip(f"{take}.wav")
        lines.append(f"{take}.wav,anna,yes")
    studio.manifest("file,speaker,word", *lines)
    corpus = open_corpus(studio.root)
    together = corpus.waveforms(corpus.utterances)
    one_by_one = [corpus.waveforms([clip])[0] for clip in reversed(corpus.utterances)]
    np.testing.assert_array_equal(together[::-1], one_by_one)
    assert corpus.waveforms([]).shape == (0, 16_000)


def test_damaged_recordings_are_skipped_with_a_reason_and_never_used(studio, tone, sound):
    bad = {
        "text.wav": (b"hello\n" * 50, "not a readable sound file"),
        "empty.wav": (b"", "not a readable sound file"),
        "cut.wav": (sound(tone(hertz=301))[:9_000], "cut short"),
        "nan.wav": (sound(tone() * np.nan, subtype="FLOAT"), "NaN or infinite samples"),
        "none.wav": (sound(tone()[:0]), "no samples"),
        "long.wav": (sound(tone(11)), "too long"),
        "dead.wav": (sound(tone() * 0), "no sound"),
    }
    good = studio.clip("good.wav")
    studio.clip("stereo.wav", sound(np.stack([tone(hertz=302)] * 2, axis=1)))
    studio.clip("cd.wav", sound(tone(rate_hz=44_100), rate_hz=44_100))
    studio.clip("copy.wav", good.read_bytes())
    for file, (data, _) in bad.items():
        studio.clip(file, data)
    files = ["good.wav", "stereo.wav", "cd.wav", "copy.wav", *bad, "missing.wav", "../out.wav"]
    studio.manifest("file,speaker,word", *(f"{file},anna,yes" for file in files))
    corpus = open_corpus(studio.root)
    assert [clip.utterance_id for clip in corpus.utterances] == files[:3]
    assert [skip.where for skip in corpus.skipped] == files[3:]
    rules = [skip.reason.partition(": ")[0] for skip in corpus.skipped]
    assert rules == [
        "the same bytes as an earlier file",
        *(rule for _, rule in bad.values()),
        "no such file",
        "outside the folder",
    ]
    assert corpus.skipped[0].reason == "the same bytes as an earlier file: equals good.wav"
    assert dict(corpus.tally.rates_hz) == {16_000: 2, 44_100: 1}
    assert corpus.tally.downmixed == 1
    assert np.isfinite(corpus.waveforms(corpus.utterances)).all()


def test_a_speaker_of_nothing_usable_is_no_speaker(studio):
    studio.clip("a.wav")
    studio.manifest("file,speaker,word", "a.wav,anna,yes", "b.wav,ben,yes")
    assert list(open_corpus(studio.root).speakers) == ["anna"]


def test_a_folder_of_nothing_usable_is_refused_with_examples(studio):
    studio.manifest("file,speaker,word", "a.wav,anna,yes", "b.wav,ben,yes")
    with pytest.raises(CorpusError, match=r"all 2 were skipped, for instance\n  a.wav: no such"):
        open_corpus(studio.root)


def test_a_sentence_is_no_keyword(studio):
    studio.clip("a.wav")
    studio.clip("b.wav")
    studio.manifest("file,speaker,transcript", "a.wav,anna,YES", "b.wav,anna,YES PLEASE")
    corpus = open_corpus(studio.root)
    assert [clip.word for clip in corpus.utterances] == ["yes"]
    assert corpus.skipped == (Skipped("b.wav", "more than one word: 2 words, a clip holds one"),)


def test_silence_may_be_digital_silence(studio, tone, sound):
    studio.clip("a.wav")
    studio.clip("b.wav", sound(tone() * 0))
    studio.manifest("file,speaker,word", "a.wav,anna,yes", "b.wav,anna,_silence_")
    corpus = open_corpus(studio.root)
    assert len(corpus.utterances) == 2
    assert not corpus.waveforms(corpus.utterances)[1].any()


def test_columns_that_are_constant_per_speaker_are_segments(studio):
    for name in "abcd":
        studio.clip(f"{name}.wav")
    studio.manifest(
        "file,speaker,word,accent,device,seconds",
        "a.wav,anna,yes,Scottish,phone,1.0",
        "b.wav,anna,no,,tablet,1.0",
        "c.wav,ben,yes,,phone,1.0",
        "d.wav,ben,no,,phone,1.0",
    )
    corpus = open_corpus(studio.root)
    assert corpus.speakers["anna"].segments == {"accent": "Scottish"}
    assert corpus.speakers["ben"].segments == {}
    assert corpus.unused_columns == ("device",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheets_of_all_countries_are_read(studio, delimiter, encoding):
    studio.clip("a.wav")
    rows = (("File", " Speaker ", "word"), ("a.wav", "zoë", "yes"), ("", "", ""))
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (studio.root / "manifest.csv").write_bytes(text.encode(encoding))
    assert list(open_corpus(studio.root).speakers) == ["zoë"]


def broken(studio, text, *expected):
    data = text if isinstance(text, bytes) else text.encode()
    (studio.root / "manifest.csv").write_bytes(data)
    with pytest.raises(CorpusError) as caught:
        open_corpus(studio.root)
    for part in expected:
        assert part in str(caught.value)


def test_header_errors_say_what_was_found_what_is_needed_and_how_it_looks(studio):
    broken(
        studio, "file,who,word\na.wav,anna,yes\n",
        "lacks the column speaker;", "found: file, who, word", "file (or member)",
        "anna/yes_1.wav,anna,yes,Scottish",
    )  # fmt: skip
    broken(
        studio, "a.wav,anna,yes\n", "the first line must name the columns, found: a.wav, anna, yes"
    )
    broken(studio, "file,speaker,word,word\n", "names a column twice: word")


def test_an_empty_manifest_is_refused(studio):
    broken(studio, "", "is empty", "file,speaker,word")
    broken(studio, "\n  \n", "is empty")
    broken(studio, "file,speaker,word\n\n", "has a header and no recordings")


def test_other_encodings_are_refused_with_the_line(studio):
    broken(studio, "file,speaker,word\na.wav,zoë,yes\n".encode("latin-1"), "UTF-8", "line 2")
    broken(studio, "file,speaker,word\n".encode("utf-16"), "UTF-8", "0xff", "line 1")


def test_lines_to_be_corrected_are_named(studio):
    broken(
        studio,
        "clip_id,file,speaker,word\n1,a.wav,anna,yes\n1,b.wav,anna,no\n3,c.wav,,no\n4,,ben,\n",
        "3 of 4 rows cannot be used",
        "line 3: named twice: '1' stands in line 2 too", "line 4: a cell is empty: speaker",
        "line 5: a cell is empty: file, word",
    )  # fmt: skip
    broken(studio, "file,speaker,word\na.wav,anna\n", "line 2: not a row: expected 3 values, got 2")
    broken(
        studio, "file,speaker,word\na.wav,anna,yes\na.wav,ben,yes\n", "line 3: named twice: 'a.wav'"
    )
    many = "".join(f"{take}.wav,,yes\n" for take in range(9))
    broken(studio, "file,speaker,word\n" + many, "line 6: ", "and 4 more")
    broken(studio, "file,speaker,word\na.wav,an\0na,yes\n" + 'b.wav,"anna,yes\n', "line ")


def test_a_few_rows_that_cannot_be_used_are_left_out_and_named(studio):
    good = [f"{take}.wav,anna,yes" for take in range(27)]
    for take in range(27):
        studio.clip(f"{take}.wav")
    bad = ['x.wav,anna,"yes', "y.wav,,no", "0.wav,ben,yes"]
    studio.manifest("file,speaker,word", bad[0], *good[:9], *bad[1:], *good[9:])
    corpus = open_corpus(studio.root)
    assert len(corpus.utterances) == 27
    assert list(corpus.speakers) == ["anna"]
    assert [(skip.where, skip.reason.partition(": ")[0]) for skip in corpus.skipped] == [
        ("line 2", "not a row"),
        ("line 12", "a cell is empty"),
        ("line 13", "named twice"),
    ]


def test_an_open_quote_does_not_swallow_the_rows_after_it(studio):
    for take in range(30):
        studio.clip(f"{take}.wav")
    rows = [f"{take}.wav,anna,yes" for take in range(30)]
    rows[4], rows[20] = '4.wav,"anna,yes', '20.wav,anna,yes"'
    studio.manifest("file,speaker,word", *rows)
    corpus = open_corpus(studio.root)
    assert len(corpus.utterances) + len(corpus.skipped) == 30
    assert corpus.skipped[0].where == "line 6"


def test_lines_may_end_as_on_an_old_mac(studio):
    studio.clip("a.wav")
    (studio.root / "manifest.csv").write_bytes(b"file,speaker,word\ra.wav,anna,yes\r")
    assert list(open_corpus(studio.root).speakers) == ["anna"]


def test_one_person_under_several_spellings_is_one_speaker_and_said(studio):
    written = ["Zoë", unicodedata.normalize("NFD", "Zoë"), "zoë", "Zo\u200bë", "Zoë\u00a0"]
    for take in range(5):
        studio.clip(f"{take}.wav")
    rows = [f"{take}.wav,{name},Yes,north" for take, name in enumerate(written)]
    studio.manifest("file,speaker,word,accent", *rows)
    corpus = open_corpus(studio.root)
    assert {clip.speaker_id for clip in corpus.utterances} == {"Zoë"}
    assert corpus.speakers["Zoë"].segments == {"accent": "north"}
    assert corpus.persons.merged["Zoë"] == tuple(written[:4])  # a cell has no spaces at its ends


def test_a_file_that_changes_after_opening_is_refused(studio):
    path = studio.clip("a.wav")
    studio.manifest("file,speaker,word", "a.wav,anna,yes")
    corpus = open_corpus(studio.root)
    studio.clip("a.wav")
    with pytest.raises(CorpusError, match=r"a.wav has changed since the corpus was opened"):
        corpus.waveforms(corpus.utterances)
    path.unlink()
    with pytest.raises(CorpusError, match=r"a.wav can no longer be read: no such file"):
        corpus.waveforms(corpus.utterances)


def test_fingerprints_follow_content_and_clip_format_not_names(studio):
    first = studio.clip("a.wav")
    studio.clip("b.wav")
    studio.manifest("file,speaker,word", "a.wav,anna,yes", "b.wav,anna,yes")
    corpus = open_corpus(studio.root)
    prints = [corpus.fingerprint(clip) for clip in corpus.utterances]
    assert len(set(prints)) == 2
    assert all(len(bytes.fromhex(value)) == 32 for value in prints)
    first.rename(studio.root / "c.wav")
    studio.manifest("file,speaker,word", "c.wav,ben,no")
    renamed = open_corpus(studio.root)
    assert renamed.fingerprint(renamed.utterances[0]) == prints[0]
    longer = open_corpus(studio.root, FrontendSpec(clip_samples=24_000))
    assert longer.fingerprint(longer.utterances[0]) != prints[0]
    assert longer.waveforms(longer.utterances).shape == (1, 24_000)


@pytest.mark.parametrize(
    ("files", "terms"),
    [
        ({"LICENSE.CC-BY-4.0.txt": "long"}, "CC-BY-4.0"),
        ({"LICENSE": "\nMIT License\n\nCopyright"}, "MIT License"),
        ({}, "not stated"),
    ],
)
def test_the_license_is_what_the_folder_says(studio, files, terms):
    studio.clip("a.wav")
    studio.manifest("file,speaker,word", "a.wav,anna,yes")
    for name, text in files.items():
        (studio.root / name).write_text(text)
    assert open_corpus(studio.root).license == terms


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("folder", "clips", "speakers", "rate_hz"),
    [
        ("speech_commands_v1_subset", 3_251, 186, 16_000),
        ("dspspeech20_english_a", 1_280, 20, 16_000),
        ("fsdd", 3_000, 6, 8_000),
    ],
)
def test_real_folders_load_as_they_are(real_corpus, folder, clips, speakers, rate_hz):
    corpus = real_corpus(folder)
    assert len(corpus.utterances) + len(corpus.skipped) == clips
    assert len(corpus.speakers) == speakers
    assert set(corpus.tally.rates_hz) == {rate_hz}
    some = corpus.utterances[:: len(corpus.utterances) // 20]
    waveforms = corpus.waveforms(some)
    assert np.isfinite(waveforms).all()
    assert (np.abs(waveforms).max(axis=1) > 0.001).all()


@pytest.mark.corpus
def test_the_takes_that_one_real_speaker_sent_in_twice_are_found(real_corpus):
    skipped = real_corpus("dspspeech20_english_a").skipped
    assert len(skipped) == 40
    assert all("_dsp06_" in skip.where for skip in skipped)
    assert all(skip.reason.startswith("the same bytes as an earlier file: ") for skip in skipped)

import numpy as np
import pytest

from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.errors import CorpusError


def write(studio, **files):
    names = {"wav": "wav.scp", "spk": "utt2spk", "text": "text", "segments": "segments",
             "gender": "spk2gender"}  # fmt: skip
    for key, lines in files.items():
        (studio.root / names[key]).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def data(studio, sound, tone):
    """One long recording of two people, and a short one elsewhere."""
    speech = np.concatenate([tone(1, hertz=hertz) for hertz in (300, 600, 900)])
    studio.clip("rec1.wav", sound(speech, subtype="FLOAT"))
    away = studio.clip("../away.wav", sound(tone(0.5)))
    write(
        studio,
        wav=["rec1 rec1.wav", f"rec2 {away}"],
        spk=["u1 anna", "u2 ben", "u3 anna"],
        text=["u1 YES", "u2 no", "u3 yes"],
        segments=["u1 rec1 0.0 1.0", "u2 rec1 1.0 2.5", "u3 rec2 0 -1"],
        gender=["anna f", "ben m"],
    )
    return studio


def test_parts_of_recordings_are_clips(data, tone):
    assert layout_of(data.root) == "Kaldi"
    corpus = open_corpus(data.root)
    assert [(c.utterance_id, c.speaker_id, c.word) for c in corpus.utterances] == [
        ("u1", "anna", "yes"), ("u2", "ben", "no"), ("u3", "anna", "yes"),
    ]  # fmt: skip
    assert corpus.speakers["ben"].segments == {"gender": "m"}
    np.testing.assert_array_equal(corpus.waveforms(corpus.utterances[:1])[0], tone(1, hertz=300))
    assert len({corpus.fingerprint(clip) for clip in corpus.utterances}) == 3
    assert corpus.tally.outside == 1
    together = corpus.waveforms(corpus.utterances)
    for clip, alone in zip(corpus.utterances, together, strict=True):
        np.testing.assert_array_equal(corpus.waveforms([clip])[0], alone)


def test_a_command_is_refused_and_never_run(data, tmp_path):
    trap = tmp_path / "trap"
    commands = [f"touch {trap} |", f"| touch {trap}", f"$(touch {trap})", f"`touch {trap}`", "-"]
    write(
        data,
        wav=["rec1 rec1.wav", "rec2 x.wav", *(f"c{n} {c}" for n, c in enumerate(commands))],
        segments=["u1 rec1 0.0 1.0", *(f"u{n + 5} c{n} 0 1" for n in range(5))],
        spk=["u1 anna", *(f"u{n + 5} anna" for n in range(5))],
        text=["u1 yes", *(f"u{n + 5} yes" for n in range(5))],
    )
    corpus = open_corpus(data.root, max_unusable_share=0.9)
    assert [clip.utterance_id for clip in corpus.utterances] == ["u1"]
    rules = [skip.reason.partition(":")[0].partition(",")[0] for skip in corpus.skipped]
    assert sorted(rules) == ["a command in wav.scp"] * 3 + ["no such file"] * 2
    assert not trap.exists()


def test_overlapping_parts_and_damaged_lines_are_left_out(data):
    bad = ["u4 rec1 0.1 1.0", "u5 rec1 0.5", "u6 rec1 nan 2", "u7 rec1 2 1", "u8 none 0 1",
           "u9 rec1 2.5 9", "u1 rec1 2 3"]  # fmt: skip
    write(data, segments=["u1 rec1 0.0 1.0", "u2 rec1 1.0 2.5", *bad])
    names = [f"u{n}" for n in range(1, 10)]
    write(data, spk=[f"{name} anna" for name in names], text=[f"{name} yes" for name in names])
    corpus = open_corpus(data.root, max_unusable_share=0.9)
    assert [clip.utterance_id for clip in corpus.utterances] == ["u1", "u2"]
    rules = sorted(skip.reason.partition(":")[0] for skip in corpus.skipped)
    assert rules == [
        "a part beyond the end", "named twice", "no such recording", "not a segment",
        "not a segment", "not a segment", "the same part of a file as before",
    ]  # fmt: skip
    with pytest.raises(CorpusError, match=r"5 of 9 rows cannot be used, and more than 20%"):
        open_corpus(data.root)


def test_without_segments_a_recording_is_an_utterance(data):
    (data.root / "segments").unlink()
    write(data, wav=["u1 rec1.wav"], spk=["u1\tanna"], text=["u1 yes"])
    corpus = open_corpus(data.root)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [("anna", "yes")]


def test_a_folder_without_speakers_is_refused(data):
    (data.root / "utt2spk").unlink()
    with pytest.raises(CorpusError, match=r"has a wav\.scp and lacks utt2spk"):
        open_corpus(data.root)

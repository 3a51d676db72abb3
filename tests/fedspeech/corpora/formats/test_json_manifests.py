"""NeMo's and Lhotse's manifests: lines of JSON."""

import gzip
import json

import numpy as np
import pytest

from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.errors import CorpusError


def write(path, rows, raw=()):
    data = ("\n".join([*map(json.dumps, rows), *raw]) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def nemo(file, speaker="anna", said="yes", **more):
    return {"audio_filepath": str(file), "duration": 1.0, "text": said, "speaker": speaker, **more}


def test_nemo_rows_name_files_here_and_elsewhere(studio):
    away = studio.clip("../away.wav")
    studio.clip("a.wav")
    write(
        studio.root / "train_manifest.json",
        [nemo("a.wav", gender="f"), nemo(away, "ben", "No.", command="never")],
    )
    assert layout_of(studio.root) == "NeMo"
    corpus = open_corpus(studio.root)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [
        ("anna", "yes"), ("ben", "no"),
    ]  # fmt: skip
    assert corpus.speakers["anna"].segments == {"gender": "f"}
    assert corpus.tally.outside == 1


def test_nemo_offsets_are_parts_and_words_may_be_commands(studio, sound, tone):
    speech = np.concatenate([tone(1, hertz=300), tone(1, hertz=600)])
    studio.clip("a.wav", sound(speech, subtype="FLOAT"))
    row = nemo("a.wav", offset=1.0)
    row["command"] = row.pop("text")
    write(studio.root / "manifest.jsonl", [row])
    corpus = open_corpus(studio.root)
    np.testing.assert_array_equal(corpus.waveforms(corpus.utterances)[0], tone(1, hertz=600))


@pytest.mark.parametrize(
    "bad",
    [
        "{", "[]", "null", "[" * 100_000, '{"audio_filepath": 7}', '{"audio_filepath": ["a.wav"]}',
        '{"audio_filepath": "a.wav", "speaker": {"x": 1}, "text": "yes"}',
        '{"audio_filepath": "a.wav", "speaker": "anna", "text": ""}',
        '{"audio_filepath": "b.wav", "speaker": "anna", "text": "yes", "offset": NaN}',
        '{"audio_filepath": "b.wav", "speaker": "anna", "text": "yes", "offset": "0; rm -rf"}',
        '{"audio_filepath": "b.wav\\u0000", "speaker": "anna", "text": "yes"}',
        '{"audio_filepath": "\\ud800.wav", "speaker": "anna", "text": "yes"}',
    ],
)  # fmt: skip
def test_one_bad_line_is_left_out_and_the_others_are_read(studio, bad):
    for take in range(6):
        studio.clip(f"{take}.wav")
    write(studio.root / "manifest.json", [nemo(f"{take}.wav") for take in range(6)], [bad])
    corpus = open_corpus(studio.root)
    assert len(corpus.utterances) == 6
    assert len(corpus.skipped) == 1


def recording(name, *sources, seconds=2.0):
    return {
        "id": name, "sampling_rate": 16_000, "duration": seconds,
        "sources": [{"type": kind, "channels": channels, "source": source}
                    for kind, channels, source in sources],
    }  # fmt: skip


def supervision(name, of, start=0.0, duration=2.0, speaker="anna", said="yes", **more):
    return {"id": name, "recording_id": of, "start": start, "duration": duration,
            "channel": 0, "text": said, "speaker": speaker, **more}  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_lhotse_supervisions_are_parts_and_channels(studio, sound, tone, suffix):
    two = np.stack([tone(2, hertz=300), tone(2, hertz=900)], axis=1)
    studio.clip("call.wav", sound(two, subtype="FLOAT"))
    studio.clip("mono.wav", sound(tone(2, hertz=500), subtype="FLOAT"))
    write(
        studio.root / f"dev_recordings.{suffix}",
        [
            recording("call", ("file", [0, 1], "call.wav")),
            recording("mono", ("file", [0], str(studio.root / "mono.wav"))),
        ],
    )
    write(
        studio.root / f"dev_supervisions.{suffix}",
        [
            supervision("u1", "call", duration=1.0, gender="f"),
            supervision("u2", "call", 1.0, 1.0, "ben", "no", channel=1),
            supervision("u3", "mono"),
        ],
    )
    assert layout_of(studio.root) == "Lhotse"
    corpus = open_corpus(studio.root)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [
        ("anna", "yes"), ("ben", "no"), ("anna", "yes"),
    ]  # fmt: skip
    np.testing.assert_array_equal(
        corpus.waveforms(corpus.utterances[1:2])[0], tone(2, hertz=900)[16_000:]
    )
    assert corpus.speakers["anna"].segments == {"gender": "f"}


def test_lhotse_sources_that_are_no_file_are_refused_and_never_run(studio, tmp_path):
    trap = tmp_path / "trap"
    studio.clip("a.wav")
    write(
        studio.root / "recordings.jsonl",
        [
            recording("good", ("file", [0], "a.wav"), seconds=1.0),
            recording("run", ("command", [0], f"touch {trap}")),
            recording("fetch", ("url", [0], "http://localhost:1/a.wav")),
            recording("none"),
        ],
    )
    write(
        studio.root / "supervisions.jsonl",
        [
            supervision("u0", "good", duration=1.0),
            *(supervision(name, name) for name in ("run", "fetch", "none", "unknown")),
            supervision("u5", "good", start=-1.0),
            supervision("u6", "good", channel=3),
            supervision("u0", "good", start=0.5, duration=0.5),
        ],
    )
    corpus = open_corpus(studio.root, max_unusable_share=0.9)
    assert [clip.utterance_id for clip in corpus.utterances] == ["u0"]
    rules = sorted(skip.reason.partition(":")[0] for skip in corpus.skipped)
    assert rules == [
        "a source that is no file, which is not opened",
        "a source that is no file, which is not opened", "named twice", "no such channel",
        "no such channel", "no such recording", "not a part of a recording",
    ]  # fmt: skip
    assert not trap.exists()


def test_two_layouts_in_one_folder_are_an_error_that_names_both(studio):
    studio.clip("a.wav")
    write(studio.root / "m.json", [nemo("a.wav")])
    studio.clip("yes/anna_nohash_0.wav")
    with pytest.raises(CorpusError, match=r"several layouts, Speech Commands and NeMo: give a"):
        open_corpus(studio.root)
    studio.manifest("file,speaker,word", "a.wav,anna,yes")
    assert open_corpus(studio.root).layout == "manifest (manifest.csv)"

import tarfile

import numpy as np
import pytest

from fedspeech.corpora.corpus import SILENCE
from fedspeech.corpora.recorded import RecordedCorpus
from fedspeech.errors import CorpusError

from_records = RecordedCorpus.from_records


def row(audio, speaker="anna", word="yes", **more):
    return {"audio": audio, "speaker": speaker, "word": word, **more}


def test_paths_bytes_and_arrays_are_one_corpus(studio, sound, tone):
    path = studio.clip("a.wav")
    rows = [
        row(str(path), accent="north"),
        row(path.with_name("b.wav"), word="No!"),
        row(sound(tone(hertz=301)), "ben"),
        row(tone(hertz=302), "ben", rate_hz=16_000),
        row({"array": tone(0.5, 8_000, 303), "sampling_rate": 8_000}, "ben", "no"),
        row({"bytes": sound(tone(hertz=304)), "path": "x.wav"}, "ben", "no"),
        row((tone(hertz=305) * 32_767).astype(np.int16), "ben", rate_hz=np.int64(16_000)),
        row(tone(hertz=306).tolist(), "ben", rate_hz=16_000),
        row(np.stack([tone(hertz=307)] * 2, axis=1), "ben", rate_hz=16_000),
    ]
    corpus = from_records(rows, name="mine", license="CC0")
    assert (corpus.name, corpus.license, corpus.layout) == ("mine", "CC0", "records")
    assert [skip.reason.partition(":")[0] for skip in corpus.skipped] == ["no such file"]
    assert len(corpus.utterances) == 8
    waveforms = corpus.waveforms(corpus.utterances)
    np.testing.assert_array_equal(waveforms[2], tone(hertz=302))
    np.testing.assert_allclose(waveforms[5], tone(hertz=305), atol=1e-4)
    np.testing.assert_array_equal(waveforms[6], tone(hertz=306))
    np.testing.assert_allclose(waveforms[7], tone(hertz=307), atol=1e-6)
    assert corpus.speakers["anna"].segments == {"accent": "north"}
    again = from_records(rows)
    assert [*map(corpus.fingerprint, corpus.utterances)] == [
        *map(again.fingerprint, again.utterances)
    ]


class Dataset:
    """What a dataset of Hugging Face has: rows by number, and names of labels."""

    def __init__(self, rows, words):
        self._rows = rows
        self.features = {"label": type("ClassLabel", (), {"names": words})()}

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        return self._rows[index]


def test_labels_of_a_dataset_are_words_and_silence_needs_no_speaker(tone):
    audio = [{"array": tone(hertz=300 + n), "sampling_rate": 16_000, "path": "x"} for n in range(3)]
    rows = [
        {"file": "x", "audio": audio[0], "label": 0, "speaker_id": "7f", "utterance_id": 0},
        {"file": "x", "audio": audio[1], "label": 1, "speaker_id": None, "utterance_id": 0},
        {"file": "x", "audio": audio[2], "label": 9, "speaker_id": "7f", "utterance_id": 1},
    ]
    corpus = from_records(Dataset(rows, ["yes", SILENCE]), max_unusable_share=0.5)
    assert [clip.word for clip in corpus.utterances] == ["yes", SILENCE]
    assert corpus.utterances[1].speaker_id.startswith("_background_noise_/")
    assert [skip.reason for skip in corpus.skipped] == ["a cell is empty: word"]


def test_a_dataset_of_hugging_face_is_rows_as_it_is(tone, sound):
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    features = datasets.Features(
        {
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.ClassLabel(names=["yes", "no", SILENCE]),
            "speaker_id": datasets.Value("string"),
        }
    )
    clips = [{"bytes": sound(tone(hertz=300 + n)), "path": f"{n}.wav"} for n in range(3)]
    found = datasets.Dataset.from_dict(
        {"audio": clips, "label": [0, 1, 2], "speaker_id": ["a", "b", None]}, features=features
    ).cast_column("audio", datasets.Audio(decode=False))
    corpus = from_records(found)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [
        ("a", "yes"), ("b", "no"), ("_background_noise_/row 2", SILENCE),
    ]  # fmt: skip
    assert corpus.waveforms(corpus.utterances).shape == (3, 16_000)


def test_a_list_is_read_again_and_must_be_what_it_was(tone):
    rows = [row(tone(), rate_hz=16_000)]
    corpus = from_records(rows)
    rows[0] = row(tone(hertz=900), rate_hz=16_000)
    with pytest.raises(CorpusError, match="row 0 has changed since the corpus was opened"):
        corpus.waveforms(corpus.utterances)
    kept = from_records(row(tone(hertz=hertz), rate_hz=16_000) for hertz in (300, 400))
    np.testing.assert_array_equal(kept.waveforms(kept.utterances)[1], tone(hertz=400))


def test_a_decoder_of_torchcodec_is_asked_for_all_samples(tone):
    class Decoder:
        def get_all_samples(self):
            return type("Samples", (), {"data": tone()[None], "sample_rate": 16_000})()

    corpus = from_records([row(Decoder())])
    np.testing.assert_array_equal(corpus.waveforms(corpus.utterances)[0], tone())


@pytest.mark.parametrize(
    ("audio", "rate_hz", "rule"),
    [
        (np.zeros((2, 2, 2)), 16_000, "no samples"),
        (np.array(["a"]), 16_000, "no samples"),
        (np.zeros(16_000, np.int32), 16_000, "not at full scale 1"),
        (np.full(16_000, np.nan), 16_000, "NaN or infinite samples"),
        (np.zeros(16_000), 16_000, "no sound"),
        (np.ones(16_000), None, "no sample rate"),
        (np.ones(16_000), 0.5, "no sample rate"),
        (np.zeros(0), 16_000, "no samples"),
        (b"text", None, "not a readable sound file"),
        ({"path": "/none"}, None, "cannot be opened"),
        (np.zeros(17 * 2**20, np.float32), 16_000, "file too large"),
    ],
)  # fmt: skip
def test_bad_audio_is_left_out_with_the_reason(tone, audio, rate_hz, rule):
    corpus = from_records([row(tone(), rate_hz=16_000), row(audio, rate_hz=rate_hz)])
    assert [skip.reason.partition(":")[0] for skip in corpus.skipped] == [rule]


def test_client_ids_are_no_people_wherever_their_rows_come_from(tone):
    audio = {"audio": tone(), "rate_hz": 16_000, "sentence": "Yes."}
    assert from_records([audio | {"speaker_id": "6f"}]).one_id_one_person
    assert not from_records([audio | {"client_id": "6f"}]).one_id_one_person
    columns = {"speaker": "client_id"}
    assert not from_records([audio | {"client_id": "6f"}], columns=columns).one_id_one_person


def test_columns_are_mapped_and_what_is_missing_or_ambiguous_is_said(tone):
    rows = [{"wav": tone(), "hz": 16_000, "who": "anna", "said": "yes"}]
    columns = {"audio": "wav", "rate_hz": "hz", "speaker": "who", "word": "said"}
    assert len(from_records(rows, columns=columns).utterances) == 1
    with pytest.raises(CorpusError, match="rows lack audio, speaker, word; they have wav, hz, who"):
        from_records(rows)
    with pytest.raises(CorpusError, match="lack speaker"):
        from_records([{"audio": tone(), "word": "yes"}])
    both = [{"audio": tone(), "rate_hz": 16_000, "speaker_id": "a", "client_id": "b", "word": "x"}]
    with pytest.raises(CorpusError, match="could be the speaker: speaker_id and client_id"):
        from_records(both)
    with pytest.raises(CorpusError, match="got 'speakr'"):
        from_records(rows, columns={"speakr": "who"})
    with pytest.raises(CorpusError, match="no row"):
        from_records([])


@pytest.mark.corpus
def test_real_recordings_as_rows_are_what_their_folder_is(real_data, real_corpus):
    folder = real_corpus("fsdd")
    chosen = folder.utterances[:: len(folder.utterances) // 30]
    with tarfile.open(real_data / "fsdd" / "fsdd-0.tar") as archive:
        rows = [
            row(archive.extractfile(f"{clip.utterance_id}.flac").read(), clip.speaker_id, clip.word)
            for clip in chosen
        ]
    rows = from_records(rows)
    np.testing.assert_array_equal(rows.waveforms(rows.utterances), folder.waveforms(chosen))
    assert [*map(rows.fingerprint, rows.utterances)] == [*map(folder.fingerprint, chosen)]

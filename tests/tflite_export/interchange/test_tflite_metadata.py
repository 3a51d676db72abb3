"""What other tools read of a .tflite file: by their own parsers where they are installed."""

import io
import zipfile

import flatbuffers
import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export.flatbuffer import alone, embed_card, read_card, read_entry
from tflite_export.interchange.tflite_metadata import (
    ENTRY,
    LABEL_FILE,
    Description,
    described,
    read_labels,
)
from tflite_export.interpreter import TfliteModel

LABELS = ("yes", "nö", "_silence_", "go on")
X = np.array([[-1.5, 0.1, 0.2, 0.3]], dtype=np.float32)


def description(**changes):
    given = {
        "name": "Keyword model", "description": "for a test", "version": "0a1b",
        "license": "CC0", "labels": LABELS, "rate_hz": 16_000, "input": "samples",
        "output": "logits, one per label",
    }  # fmt: skip
    return Description(**given | changes)


@pytest.fixture
def content(make_file):
    return described(embed_card(make_file(), {"card": 1}), description())


class Table:
    """A table of the public schema, read by field number with flatbuffers' own reader."""

    def __init__(self, data, place):
        self._table = flatbuffers.table.Table(data, place)

    @classmethod
    def root(cls, data):
        return cls(data, int.from_bytes(data[:4], "little"))

    def _at(self, field):
        offset = self._table.Offset(4 + 2 * field)
        return offset and offset + self._table.Pos

    def number(self, field, kind):
        return self._table.Get(kind, self._at(field)) if self._at(field) else 0

    def text(self, field):
        return self._table.String(self._at(field)).decode()

    def child(self, field):
        return Table(self._table.Bytes, self._table.Indirect(self._at(field)))

    def list(self, field):
        offset = self._table.Offset(4 + 2 * field)
        start, length = self._table.Vector(offset), self._table.VectorLen(offset)
        return [
            Table(self._table.Bytes, self._table.Indirect(start + 4 * place))
            for place in range(length)
        ]

    def floats(self, field):
        numbers = flatbuffers.number_types.Float32Flags
        return self._table.GetVectorAsNumpy(numbers, self._table.Offset(4 + 2 * field)).tolist()


UINT, BYTE = flatbuffers.number_types.Uint32Flags, flatbuffers.number_types.Uint8Flags


def test_the_metadata_are_those_of_the_public_schema(content):
    """Field numbers and tags as `metadata_schema.fbs` of TensorFlow Lite Support counts them."""
    data = read_entry(content, ENTRY)
    assert data[4:8] == b"M001"
    model = Table.root(data)
    assert [model.text(field) for field in (0, 1, 2, 4, 5, 7)] == [
        "Keyword model", "for a test", "0a1b", "fedspeech", "CC0", "1.3.0",
    ]  # fmt: skip
    (subgraph,) = model.list(3)
    (given,), (output,) = subgraph.list(2), subgraph.list(3)
    assert given.text(0) == "x"
    sound = given.child(3)
    assert sound.number(0, BYTE) == 4  # AudioProperties of the union ContentProperties
    assert [sound.child(1).number(field, UINT) for field in (0, 1)] == [16_000, 1]
    (unit,) = given.list(4)
    assert unit.number(0, BYTE) == 1  # NormalizationOptions
    assert [unit.child(1).floats(field) for field in (0, 1)] == [[0.0], [1.0]]
    (file,) = output.list(6)
    assert (file.text(0), file.number(2, BYTE)) == (LABEL_FILE, 2)  # TENSOR_AXIS_LABELS


def test_features_are_no_audio(make_file):
    data = read_entry(described(make_file(), description(rate_hz=None)), ENTRY)
    (given,) = Table.root(data).list(3)[0].list(2)
    assert given.child(3).number(0, BYTE) == 1  # FeatureProperties


def test_labels_lie_behind_the_model_in_an_archive_that_is_not_compressed(content, make_file):
    assert read_labels(content) == list(LABELS)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (entry,) = archive.infolist()
        assert (entry.compress_type, entry.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
        assert archive.testzip() is None
    # Phones map the label file out of the model: its place counts from the file's first byte.
    text = "\n".join(LABELS) + "\n"
    start = entry.header_offset + 30 + len(LABEL_FILE)
    assert content[start : start + len(text.encode())].decode() == text
    assert content == described(embed_card(make_file(), {"card": 1}), description())


def test_card_and_outputs_stay(content, make_file):
    assert read_card(content) == {"card": 1}
    before, after = (TfliteModel(bits).run("add", x=X)["y"] for bits in (make_file(), content))
    np.testing.assert_array_equal(before, after)


def test_describing_twice_leaves_one_description(content):
    again = described(content, description(labels=("one", "two")))
    assert read_labels(again) == ["one", "two"]
    assert content.count(b"M001") == again.count(b"M001") == 1


@pytest.mark.parametrize("label", ["two\nlines", "a\r", "", "line\u2028separator"])
def test_a_label_that_is_no_line_is_refused(make_file, label):
    with pytest.raises(ExportRefused, match="every label must be one line"):
        described(make_file(), description(labels=("yes", label)))


def test_a_file_without_labels_is_refused(make_file, content):
    with pytest.raises(ExportRefused, match=r"no labels\.txt behind the model"):
        read_labels(make_file())
    archive = content[content.index(b"PK\x03\x04") :]
    with pytest.raises(ExportRefused, match=r"the model names no labels\.txt"):
        read_labels(make_file() + archive)


def test_a_signature_alone_keeps_its_outputs_and_an_unknown_one_is_refused(make_file):
    found = TfliteModel(alone(make_file(), "add"))
    np.testing.assert_array_equal(
        found.run("add", x=X)["y"], TfliteModel(make_file()).run("add", x=X)["y"]
    )
    with pytest.raises(ExportRefused, match="no signature 'waveform'"):
        alone(make_file(), "waveform")

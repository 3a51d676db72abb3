"""TFLite Metadata: what other tools must know of a .tflite file, in the form that they read.

MediaPipe's AudioClassifier and TensorFlow Lite's metadata displayer find sample rate, labels and
descriptions in a FlatBuffer of the public schema `metadata_schema.fbs` (identifier M001), held by
the metadata entry TFLITE_METADATA, and the files that it names in a zip archive behind the
model's own bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedspeech.errors import ExportRefused
from fedspeech.extras import importing
from tflite_export.flatbuffer import add_entries, inputs, read_entry

with importing("tflite"):
    import flatbuffers

ENTRY = "TFLITE_METADATA"
LABEL_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_PARSER = "1.3.0"
"""Version of the schema that brought properties of audio."""

# Tags of the schema's enums and unions.
_AXIS_LABELS = 2
_FEATURES, _AUDIO = 1, 4
_NORMALIZATION = 1


@dataclass(frozen=True)
class Table:
    """A table of the schema: number of the field to its value; bytes are one-byte enums."""

    fields: Mapping[int, Value]


Value = str | int | bytes | Table | Sequence["Table"] | Sequence[float] | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is said of a file.

    Attributes:
      name: of the model.
      description: of the model, in words.
      version: of the adapter, such as the first digits of its hash.
      license: of the data behind it.
      labels: meaning of the outputs, in order.
      rate_hz: of the first subgraph's samples; None: it takes features.
      input: what it takes, in words.
      output: what it gives, in words.
    """

    name: str
    description: str
    version: str
    license: str
    labels: Sequence[str]
    rate_hz: int | None
    input: str
    output: str


def described(content: bytes, description: Description) -> bytes:
    """Returns a .tflite file with metadata and label file; graph and weights stay as they are.

    Args:
      content: the file, of one subgraph (`flatbuffer.alone`): MediaPipe takes no other.
      description: what is said of it.

    Raises:
      ExportRefused: if a label does not fit into a line.
    """
    if any(label.splitlines() != [label] for label in description.labels):
        raise ExportRefused("metadata: every label must be one line of the label file")
    metadata = _flatbuffer(_model(description, inputs(content)))
    model = add_entries(content, {ENTRY: metadata})
    return model + _archive({LABEL_FILE: "\n".join(description.labels) + "\n"}, len(model))


def read_labels(content: bytes) -> list[str]:
    """The labels of a described file, from the archive behind the model.

    Raises:
      ExportRefused: if there is none, or the model names another file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(LABEL_FILE).decode()
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ExportRefused(f"metadata: there is no {LABEL_FILE} behind the model") from error
    found = read_entry(content, ENTRY)
    if found is None or found[4:8] != _IDENTIFIER or LABEL_FILE.encode() not in found:
        raise ExportRefused(f"metadata: the model names no {LABEL_FILE}")
    return text.splitlines()


def _model(description: Description, names: Sequence[str]) -> Table:
    """ModelMetadata."""
    subgraph = Table(
        {
            0: description.name,
            2: [_input(description, name) for name in names],
            3: [_output(description)],
        }
    )
    return Table(
        {
            0: description.name,
            1: description.description,
            2: description.version,
            3: [subgraph],
            4: "fedspeech",
            5: description.license,
            7: _PARSER,
        }
    )


def _input(description: Description, name: str) -> Table:
    """TensorMetadata of the input: samples or features, as they are."""
    if description.rate_hz is None:
        content = Table({0: bytes([_FEATURES]), 1: Table({})})
    else:
        content = Table({0: bytes([_AUDIO]), 1: Table({0: description.rate_hz, 1: 1})})
    # Full scale is 1 and standardizing stands in the graph, so nothing is left to do.
    identity = Table({0: bytes([_NORMALIZATION]), 1: Table({0: [0.0], 1: [1.0]})})
    return Table({0: name, 1: description.input, 3: content, 4: [identity]})


def _output(description: Description) -> Table:
    """TensorMetadata of the output, with the file of its labels."""
    labels = Table({0: LABEL_FILE, 1: "Labels of the outputs, in order.", 2: bytes([_AXIS_LABELS])})
    content = Table({0: bytes([_FEATURES]), 1: Table({})})
    return Table({0: "logits", 1: description.output, 3: content, 6: [labels]})


def _flatbuffer(root: Table) -> bytes:
    builder = flatbuffers.Builder(4096)
    builder.Finish(_write(builder, root), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _write(builder: flatbuffers.Builder, table: Table) -> int:
    """Writes a table, what it points at first; returns its place."""
    places = {
        field: _write_child(builder, value)
        for field, value in table.fields.items()
        if not isinstance(value, (int, bytes))
    }
    builder.StartObject(max(table.fields, default=-1) + 1)
    for field, value in table.fields.items():
        match value:
            case bytes():
                builder.PrependUint8Slot(field, value[0], 0)
            case int():
                builder.PrependUint32Slot(field, value, 0)
            case _:
                builder.PrependUOffsetTRelativeSlot(field, places[field], 0)
    place: int = builder.EndObject()
    return place


def _write_child(builder: flatbuffers.Builder, value: Value) -> int:
    """Writes a text, a table or a list; returns its place."""
    place: int
    if isinstance(value, str):
        place = builder.CreateString(value)
    elif isinstance(value, Table):
        place = _write(builder, value)
    else:
        assert not isinstance(value, (int, bytes))
        if value and isinstance(value[0], float):
            return int(builder.CreateNumpyVector(np.asarray(value, np.float32)))
        children = [_write_child(builder, child) for child in value]  # type: ignore[arg-type]
        builder.StartVector(4, len(children), 4)
        for child in reversed(children):
            builder.PrependUOffsetTRelative(child)
        place = builder.EndVector()
    return place


def _archive(files: Mapping[str, str], offset: int) -> bytes:
    """A zip archive, not compressed, for the place behind so many bytes.

    Names and dates are the same in every export: the same model has the same bytes.
    """
    target = io.BytesIO()
    # Places in an archive count from the file's first byte; readers on phones go by them.
    target.write(bytes(offset))
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return target.getvalue()[offset:]

"""Reads a file by its content and not by its name.

What cannot be read whole is not shared: a rule that did not see a part of a file has not passed it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import struct
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.sharing.artifact import Artifact
from fedspeech.sharing.page import NotAPage, Page

MOST_BYTES = 256 << 20
MOST_DEPTH = 64

_FORBIDDEN = (
    (b"PK\x03\x04", "a zip archive (or a NumPy, PyTorch, Office or Java file)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive"),
    (b"\x93NUMPY", "a NumPy array, whose header may hold a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "a database"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
AUDIO = (
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "WAV"),
    (re.compile(rb"RF64....WAVE", re.DOTALL), "WAV"),
    (re.compile(rb"RIFX....WAVE", re.DOTALL), "WAV"),
    (re.compile(rb"fLaC\x00"), "FLAC"),
    (re.compile(rb"OggS\x00"), "Ogg"),
    (re.compile(rb"ID3[\x02-\x04]"), "MP3"),
    (re.compile(rb"FORM....AIF[FC]", re.DOTALL), "AIFF"),
    (re.compile(rb"\.snd\x00\x00\x00"), "AU"),
    (re.compile(rb"caff\x00\x01"), "CAF"),
    (re.compile(rb"#!AMR"), "AMR"),
    (re.compile(rb"ftyp(?:M4A|M4B|isom|mp42)"), "MP4"),
    (re.compile(rb"NIST_1A\n"), "SPHERE"),
    (re.compile(rb"\x1aE\xdf\xa3.{0,60}(?:webm|matroska)", re.DOTALL), "WebM"),
)
"""What sound looks like, by its first bytes; searched for at every place of a file."""

_FRAMES = re.compile(rb"\xff[\xf1\xf9\xfa\xfb\xf2\xf3]")  # frames of MPEG audio without a tag
_PICKLE = re.compile(rb"\x80[\x02-\x05](?:\x95.{8}|[\x5d\x7d\x28\x63\x8c\x58])", re.DOTALL)


class Unreadable(ValueError):
    """A file cannot be read as what it says it is."""


class Forbidden(ValueError):
    """A file is of a type that is never shared."""


def read(name: str, content: bytes) -> Artifact:
    """Reads a file by its content.

    Raises:
      Forbidden: if it is of a type that is never shared.
      Unreadable: if it is of no type that is known, or not whole.
    """
    if len(content) > MOST_BYTES:
        raise Unreadable(f"it has {len(content)} bytes, of which {MOST_BYTES} are read at most")
    _refuse_forbidden(content)
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(name, content)
    if content[4:8] == b"TFL3":
        return _tflite(name, content)
    if len(content) > 8 and content[8:9] == b"{" and suffix == "safetensors":
        return _safetensors(name, content)
    return _text(name, content, suffix)


def _refuse_forbidden(content: bytes) -> None:
    for magic, what in _FORBIDDEN:
        if content.startswith(magic) and not (magic == b"MZ" and content[:512].isascii()):
            raise Forbidden(f"it is {what}")
    if _PICKLE.match(content):
        raise Forbidden("it is a pickle, which runs code when it is read")
    if content[257:262] == b"ustar":
        raise Forbidden("it is a tar archive")
    for pattern, what in AUDIO:
        if pattern.search(content[:64]):
            raise Forbidden(f"it is sound ({what})")
    if _FRAMES.match(content):
        raise Forbidden("it is sound (MPEG)")


def _text(name: str, content: bytes, suffix: str) -> Artifact:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is of no type that is known, and no UTF-8 text: {error}") from error
    if "\x00" in text:
        raise Unreadable("it is of no type that is known: text holds no zero bytes")
    if not text.strip():
        raise Unreadable("it is empty")
    try:
        match suffix:
            case "json":
                return Artifact(name, content, "json", (("", _json(text)),), text)
            case "jsonl" | "ndjson":
                lines = [line for line in text.split("\n") if line.strip()]
                rows = tuple(
                    (f"line {number}", _json(line)) for number, line in enumerate(lines, 1)
                )
                return Artifact(name, content, "jsonl", rows, text)
            case "csv" | "tsv":
                table = _table(text, "," if suffix == "csv" else "\t")
                return Artifact(name, content, "csv", (("rows", table),), text)
            case "toml":
                return Artifact(name, content, "toml", (("", tomllib.loads(text)),), text)
            case "html" | "htm":
                page = Page.read(text)
                data = tuple((where, _json(island)) for where, island in page.data)
                shown = tuple(_shown(page.tables))
                return Artifact(
                    name, content, "html", data, page.text, scripts=page.scripts, shown=shown
                )
            case "md" | "txt":
                return Artifact(name, content, "text", (), text, shown=tuple(_shown(_marked(text))))
    except (ValueError, RecursionError, csv.Error, NotAPage) as error:
        raise Unreadable(f"it cannot be read as {suffix}: {str(error)[:200]}") from error
    raise Unreadable(f"files named *.{suffix} are of no type that is known")


def _shown(tables: Iterable[list[list[str]]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Tables for people, their rows by header."""
    for number, rows in enumerate(tables, 1):
        if len(rows) > 1:
            header = [cell.strip() for cell in rows[0]]
            yield f"table {number}", [dict(zip(header, row, strict=False)) for row in rows[1:]]


def _marked(text: str) -> Iterator[list[list[str]]]:
    """Tables of Markdown: lines in a row that begin with a bar, without the line of dashes."""
    rows: list[list[str]] = []
    for line in (*text.splitlines(), ""):
        if line.lstrip().startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not all(set(cell) <= set("-: ") for cell in cells):
                rows.append(cells)
        elif rows:
            yield rows
            rows = []


def _json(text: str) -> Any:
    """Reads JSON; what two readers would read in two ways is refused.

    Raises:
      ValueError: if it is none, repeats a key, or holds numbers that JSON has not.
    """
    found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    _require_shallow(found)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _require_shallow(document: Any) -> None:
    level = [document]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for value in level
            for inner in (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list)
                else ()
            )
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MOST_DEPTH} deep")


def _table(text: str, delimiter: str) -> list[dict[str, Any]]:
    """Rows of a table, numbers as numbers.

    Raises:
      ValueError: if rows have other lengths than the header, or two columns one name.
    """
    header, *rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    if len(set(header)) < len(header):
        raise ValueError("two columns have one name")
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} cells, the header {len(header)}")
    return [dict(zip(header, map(_cell, row), strict=True)) for row in rows]


def _cell(text: str) -> str | float | None:
    if not text or text.isspace():
        return None
    if text[0].isalpha():
        return text
    try:
        found = int(text) if text.lstrip("+- ").isdecimal() else float(text)
    except ValueError:
        return text
    return found if math.isfinite(found) else text


def _safetensors(name: str, content: bytes) -> Artifact:
    """Reads an adapter, and takes no byte that no tensor owns."""
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise Unreadable(f"its header has {length} bytes, the file {len(content)}")
    try:
        header = _json(content[8 : 8 + length].decode())
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata must be strings")
        tensors = _tensors(header, content[8 + length :])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"it cannot be read as safetensors: {str(error)[:200]}") from error
    inside = tuple((f"metadata.{key}", _json(text)) for key, text in metadata.items()
                   if text.lstrip().startswith("{"))  # fmt: skip
    words = {key: text for key, text in metadata.items() if not text.lstrip().startswith("{")}
    return Artifact(name, content, "safetensors", inside, "", tensors, words)


_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


def _tensors(header: Mapping[str, Any], body: bytes) -> dict[str, NDArray[Any]]:
    found, end = {}, 0
    for tensor, row in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if set(row) != {"dtype", "shape", "data_offsets"} or row["dtype"] not in _DTYPES:
            raise ValueError(f"tensor {tensor} is not described as safetensors are")
        first, last = row["data_offsets"]
        if first != end:
            raise ValueError(f"{first - end} bytes before tensor {tensor} belong to none")
        values = np.frombuffer(body[first:last], dtype=_DTYPES[row["dtype"]])
        found[tensor] = values.reshape(row["shape"])
        end = last
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes after the last tensor belong to none")
    return found


def _png(name: str, content: bytes) -> Artifact:
    """Reads the chunks of a picture; texts in them are texts like others."""
    place, texts = 8, []
    while place < len(content):
        if place + 12 > len(content):
            raise Unreadable("the picture ends within a chunk")
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if place + 12 + length > len(content):
            raise Unreadable("the picture ends within a chunk")
        if kind in {b"tEXt", b"zTXt", b"iTXt", b"eXIf"}:
            texts.append(content[place + 8 : place + 8 + length].decode("latin-1"))
            if kind in {b"zTXt", b"eXIf"}:
                raise Unreadable(f"the picture has a {kind.decode()} chunk, which nobody read")
        place += 12 + length
        if kind == b"IEND":
            break
    if place != len(content):
        raise Unreadable(f"{len(content) - place} bytes follow the end of the picture")
    return Artifact(name, content, "png", text="\n".join(texts))


_UNPRINTABLE = bytes(code for code in range(256) if not 32 <= code < 127 and code not in b"\t\n\r")
_FEWEST_PRINTABLE = 0.9
_SHORTEST, _SHORTEST_IN_WEIGHTS = 6, 24
_FEWEST_SPACES = 2  # tables of integers have long runs of letters, and no words in them


def _tflite(name: str, content: bytes) -> Artifact:
    """Reads the words of a model: what it holds as text, JSON as JSON, and no weights."""
    rest, documents, words = bytearray(content), [], []
    for number, (start, end) in enumerate(_buffers(content)):
        data = content[start:end]
        rest[start:end] = bytes(end - start)
        is_text = len(data.translate(None, _UNPRINTABLE)) >= _FEWEST_PRINTABLE * len(data)
        try:
            documents.append((f"buffer {number}", _json(data.decode() if is_text else "")))
        except (ValueError, RecursionError):
            words += _printable(data, _SHORTEST) if is_text else _sentences(data)
    words += _printable(bytes(rest), _SHORTEST)
    return Artifact(name, content, "tflite", tuple(documents), "\n".join(words))


def _buffers(content: bytes) -> list[tuple[int, int]]:
    """Where the buffers of a TensorFlow Lite model begin and end.

    Raises:
      Unreadable: if they do not lie in the file.
    """

    def number(kind: str, place: int) -> int:
        return int(struct.unpack_from(kind, content, place)[0])

    def field(table: int, index: int) -> int | None:
        """Where a field of a FlatBuffers table stands; None: it is not there."""
        names = table - number("<i", table)
        at = 4 + 2 * index
        behind = number("<H", names + at) if at < number("<H", names) else 0
        return table + behind if behind else None

    def vector(place: int) -> tuple[int, int]:
        """First element and length of a vector."""
        start = place + number("<I", place)
        return start + 4, number("<I", start)

    found = []
    try:
        listed = field(number("<I", 0), _MODEL_BUFFERS)
        first, count = vector(listed) if listed else (0, 0)
        for entry in range(first, first + 4 * count, 4):
            data = field(entry + number("<I", entry), _BUFFER_DATA)
            start, length = vector(data) if data else (0, 0)
            if start + length > len(content):
                raise Unreadable("a buffer ends behind the file")
            if length:
                found.append((start, start + length))
    except struct.error as error:
        raise Unreadable(f"it is no whole TensorFlow Lite model: {error}") from error
    return found


_MODEL_BUFFERS, _BUFFER_DATA = 4, 0  # numbers of fields in TensorFlow Lite's schema


def _printable(content: bytes, shortest: int) -> list[str]:
    """Runs of so many printable characters."""
    return [run.decode() for run in re.findall(rb"[\x20-\x7e]{%d,}" % shortest, content)]


def _sentences(weights: bytes) -> list[str]:
    """Runs among weights that chance does not make."""
    long = _printable(weights, _SHORTEST_IN_WEIGHTS)
    return [run for run in long if run.count(" ") >= _FEWEST_SPACES]

"""Rows that a Python program holds: dictionaries, or a dataset of Hugging Face as it is.

    rows = [{"audio": "anna_1.wav", "speaker": "anna", "word": "yes"},
            {"audio": samples, "rate_hz": 16_000, "speaker": "ben", "word": "no"}]

| audio | is |
|---|---|
| str or Path | a file, wherever it lies |
| bytes | a sound file |
| array or list | samples, (n,) or (n, channels), floats of full scale 1 or 16-bit integers |
| {"array", "sampling_rate"}, or {"bytes", "path"} | as Hugging Face has them |
| an object with `get_all_samples()` | a decoder of torchcodec |

A sequence (a list, a dataset) is not copied: a row is read again when its waveform is wanted, and
must then be what it was. What comes from a generator is held in memory.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile

from fedspeech.corpora.files import UnusableError
from fedspeech.corpora.records import File, Held, Listing, Row
from fedspeech.corpora.written import spoken
from fedspeech.errors import CorpusError

# What a field is called, ours first: the names that datasets of words and sentences have.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "audio": ("audio", "file", "path"),
    "rate_hz": ("rate_hz", "sampling_rate", "sample_rate"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "word": ("word", "keyword", "label"),
    "transcript": ("transcript", "text", "sentence"),
    "clip_id": ("clip_id", "id"),
}
_PREFERRED = "audio"  # beside a column with the sound, one with its path is no ambiguity
_SEGMENT_TYPES = (str, int, bool)


def list_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> Listing:
    """Lists rows; `columns` maps a field (audio, speaker, word, ...) to the column that has it.

    Raises:
      CorpusError: if there is no row, a field is unknown, or two columns could be the same field.
    """
    if unknown := sorted(set(columns) - set(_NAMES)):
        raise CorpusError(f"columns names the fields {', '.join(_NAMES)}, got {unknown[0]!r}")
    kept = rows if isinstance(rows, Sequence) or hasattr(rows, "__getitem__") else list(rows)
    label = _label_names(rows)
    by_keys: dict[tuple[str, ...], dict[str, str]] = {}  # rows may have different columns
    listed = []
    for number, row in enumerate(kept):
        keys = tuple(row)
        if keys not in by_keys:
            by_keys[keys] = _fields(keys, columns)
        listed.append(_row(kept, number, row, by_keys[keys], label))
    if not listed:
        raise CorpusError("from_records was given no row")
    _refuse_missing(by_keys, columns)
    # The name that Common Voice gives them, which is no person's wherever its rows come from.
    clients = any(fields.get("speaker") == "client_id" for fields in by_keys.values())
    return Listing(
        layout="records", rows=tuple(listed), absolute=True, one_id_one_person=not clients
    )


def _fields(keys: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Finds the column of every field among those of a row."""
    found = {field: name for field, name in columns.items() if name in keys}
    for field, names in _NAMES.items():
        there = [name for name in names if name in keys]
        if field in columns or not there:
            continue
        if len(there) > 1 and there[0] not in (field, _PREFERRED):
            raise CorpusError(
                f"two columns could be the {field}: {' and '.join(there)}; say which, as in "
                f"columns={{{field!r}: {there[0]!r}}}"
            )
        found[field] = there[0]
    return found


def _refuse_missing(
    by_keys: Mapping[tuple[str, ...], Mapping[str, str]], columns: Mapping[str, str]
) -> None:
    """Refuses rows of which none has a field that is needed, or a column that was named."""
    found = {field for fields in by_keys.values() for field in fields}
    needs = {"audio": ("audio",), "speaker": ("speaker",), "word": ("word", "transcript")}
    missing = [field for field, fields in needs.items() if not found & set(fields)]
    absent = [name for field, name in columns.items() if field not in found]
    if missing or absent:
        raise CorpusError(
            f"the rows lack {', '.join(dict.fromkeys((*missing, *absent)))}; they have "
            f"{', '.join(dict.fromkeys(str(key) for keys in by_keys for key in keys))[:200]}; "
            'columns says which column is which field, as in columns={"speaker": "client_id"}'
        )


def _row(
    rows: Any,
    number: int,
    row: Mapping[str, Any],
    names: Mapping[str, str],
    label: Callable[[str, Any], str],
) -> Row:
    """One row as the layouts list them."""

    def cell(field: str) -> Any:
        value = row.get(names[field]) if field in names else None
        return "" if value is None else value

    said = label(names["word"], cell("word")) if "word" in names else str(cell("transcript"))
    others = {
        str(name): str(value)
        for name, value in row.items()
        if name not in names.values() and isinstance(value, _SEGMENT_TYPES)
    }
    where = f"row {number}"
    return Row(
        where=where,
        source=_source(rows, number, row, names, str(cell("clip_id")) or where),
        speaker=str(cell("speaker")),
        said=spoken(said),
        clip_id=str(cell("clip_id")) or where,
        columns=others,
    )


def _source(
    rows: Any, number: int, row: Mapping[str, Any], names: Mapping[str, str], name: str
) -> File | Held:
    """A file for a path; else what reads the row again."""
    audio = row[names["audio"]] if "audio" in names else None
    if isinstance(audio, str | Path):
        return File(str(Path(audio).absolute()) if str(audio) else "")
    if audio is None:
        return File("")
    return Held(name, lambda: _bytes(rows[number], names))


def _label_names(rows: object) -> Callable[[str, Any], str]:
    """Writes a label as its word: a dataset of Hugging Face holds the number of the word."""
    features = getattr(rows, "features", None)

    def written(column: str, value: Any) -> str:
        described = features.get(column) if isinstance(features, Mapping) else None
        words = getattr(described, "names", None)
        if isinstance(words, list | tuple) and isinstance(value, int | np.integer):
            return str(words[value]) if 0 <= value < len(words) else ""
        return str(value)

    return written


def _bytes(row: Mapping[str, Any], names: Mapping[str, str]) -> bytes:
    """The bytes of a sound file for a row's audio; raises `UnusableError`."""
    audio = row[names["audio"]]
    rate_hz = row.get(names["rate_hz"]) if "rate_hz" in names else None
    if hasattr(audio, "get_all_samples"):
        found = audio.get_all_samples()
        return _wav(np.asarray(found.data).T, found.sample_rate)
    if isinstance(audio, Mapping):
        if audio.get("array") is not None:
            return _wav(np.asarray(audio["array"]), audio.get("sampling_rate"))
        audio = audio.get("bytes") or audio.get("path")
    if isinstance(audio, bytes | bytearray):
        return bytes(audio)
    if isinstance(audio, str | Path):
        try:
            return Path(audio).read_bytes()
        except (OSError, ValueError) as error:
            raise UnusableError("cannot be opened", str(error)) from error
    return _wav(np.asarray(audio), rate_hz)


def _wav(samples: np.ndarray[Any, Any], rate_hz: Any) -> bytes:
    """Writes samples as a wav, so that arrays are checked and hashed as files are."""
    if not isinstance(rate_hz, int | float | np.integer) or isinstance(rate_hz, bool):
        raise UnusableError("no sample rate", "an array needs rate_hz, or sampling_rate")
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fi":
        raise UnusableError(
            "no samples", f"expected floats or 16-bit integers, (n,) or (n, channels), got "
            f"{samples.dtype} of shape {samples.shape}"
        )  # fmt: skip
    if samples.dtype.kind == "i" and samples.dtype != np.int16:
        raise UnusableError("not at full scale 1", f"integers must have 16 bits: {samples.dtype}")
    if rate_hz != int(rate_hz) or not 1 <= rate_hz < 2**31:
        raise UnusableError("no sample rate", f"{rate_hz} Hz")
    stream = io.BytesIO()
    exact = samples if samples.dtype == np.int16 else samples.astype(np.float32)
    wavfile.write(stream, int(rate_hz), np.ascontiguousarray(exact))
    return stream.getvalue()

"""The generic layout: a folder of recordings and one CSV that says who says what in which file.

    file,speaker,word,accent
    anna/yes_1.wav,anna,yes,Scottish
    anna/no_1.wav,anna,no,Scottish

Columns: `file` (relative path), or `member` and `shard` (member of an uncompressed tar);
`speaker`; `word` or `transcript`; optionally `clip_id`. Any further column that never changes
within a speaker is a segment of its speakers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import MAX_CHARACTERS, Alphabet, Skipped, Speaker, Utterance
from fedspeech.corpora.files import Folder
from fedspeech.corpora.recorded import Entry, File, RecordedCorpus
from fedspeech.errors import CorpusError

TABLE_NAMES = ("manifest.csv", "metadata.csv")  # the first one present is read
EXAMPLE = ("file,speaker,word,accent", "anna/yes_1.wav,anna,yes,Scottish")
NEEDED = (("file", "member"), ("speaker",), ("word", "transcript"))

# Columns about the clip, not about its speaker.
_ABOUT_THE_CLIP = frozenset(
    ("clip_id", "file", "member", "shard", "speaker", "word", "transcript", "take", "seconds",
     "sample_rate")
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a manifest: its number in the file, and column to stripped text."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A manifest as text.

    Attributes:
      name: file name, for messages.
      columns: names of the columns, lower case.
      rows: the lines that are not empty.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def find_table(folder: Path) -> Path | None:
    """Returns the folder's manifest, or None."""
    paths = (folder / name for name in TABLE_NAMES)
    return next((path for path in paths if path.is_file()), None)


def read_columns(path: Path) -> tuple[str, ...]:
    """Returns the names in a manifest's first line, lower case; none of an empty file.

    Raises:
      CorpusError: if it cannot be opened or is not UTF-8.
    """
    first = _text(path).partition("\n")[0]
    return tuple(
        name.strip().lower() for name in next(csv.reader([first], delimiter=_delimiter(first)), ())
    )


def _delimiter(header: str) -> str:
    """Returns whichever of comma, semicolon and tab the header uses most."""
    return max(",;\t", key=header.count)


def read_table(
    folder: Path, *, needed: Sequence[tuple[str, ...]], example: tuple[str, str]
) -> Table:
    """Reads a folder's manifest: UTF-8, separated by comma, semicolon or tab.

    Args:
      folder: where it is.
      needed: of each tuple one column must be there.
      example: header and one line, for the error message.

    Raises:
      CorpusError: if there is none, or it is empty, not UTF-8, has no such header, or has lines
        that do not match the header.
    """
    path = find_table(folder)
    if path is None:
        raise CorpusError(f"no {' or '.join(TABLE_NAMES)} in {folder}")
    lines = _text(path).splitlines(keepends=True)
    if not any(line.strip() for line in lines):
        raise CorpusError(f"{path} is empty; {_explain(needed, example)}")
    reader = csv.reader(lines, delimiter=_delimiter(lines[0]))
    try:
        columns = tuple(name.strip().lower() for name in next(reader))
        _check_header(path, columns, needed, example)
        numbered = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}") from error
    if not numbered:
        raise CorpusError(f"{path} has a header and no recordings; {_explain(needed, example)}")
    _refuse(
        path,
        [
            f"line {line}: expected {len(columns)} values, got {len(cells)}"
            for line, cells in numbered
            if len(cells) != len(columns)
        ],
    )
    rows = (
        Row(line, dict(zip(columns, map(str.strip, cells), strict=True)))
        for line, cells in numbered
    )
    return Table(path.name, columns, tuple(rows))


def _text(path: Path) -> str:
    """Decodes UTF-8, with or without a byte order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path} must be UTF-8, got byte 0x{data[error.start]:02x} in line {line}; save it "
            'as "CSV UTF-8"'
        ) from error


def _check_header(
    path: Path, columns: Sequence[str], needed: Sequence[tuple[str, ...]], example: tuple[str, str]
) -> None:
    """Refuses a first line that does not name the needed columns once each."""
    missing = [_either(names) for names in needed if not set(names) & set(columns)]
    if len(missing) == len(needed):
        raise CorpusError(
            f"{path}: the first line must name the columns, found: {', '.join(columns)[:200]}; "
            f"{_explain(needed, example)}"
        )
    if missing:
        raise CorpusError(
            f"{path} lacks the column {', '.join(missing)}; found: {', '.join(columns)}; "
            f"{_explain(needed, example)}"
        )
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise CorpusError(f"{path} names a column twice: {', '.join(twice)}")


def _explain(needed: Sequence[tuple[str, ...]], example: tuple[str, str]) -> str:
    """Says what a manifest looks like."""
    columns = ", ".join(map(_either, needed))
    return f"needed: {columns}; for instance\n  {example[0]}\n  {example[1]}"


def _either(names: tuple[str, ...]) -> str:
    """Writes the names of which one is needed, as in "file (or member)"."""
    return names[0] + "".join(f" (or {name})" for name in names[1:])


def _refuse(path: Path, problems: Sequence[str]) -> None:
    """Raises a `CorpusError` that shows the first five problems, if there is any."""
    if problems:
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CorpusError(f"{path} must be corrected:\n  " + "\n  ".join(problems[:5]) + more)


class ManifestCorpus(RecordedCorpus):
    """A corpus described by `manifest.csv` or `metadata.csv`."""

    def __init__(
        self, folder: Path, spec: FrontendSpec | None = None, *, sentences: bool = False
    ) -> None:
        """Reads the manifest, then checks every recording.

        Args:
          folder: the folder with the manifest; files are relative to it.
          spec: sample rate and length of clips; `FrontendSpec()` if None.
          sentences: keep clips of any number of words, each from its beginning.

        Raises:
          CorpusError: if the manifest must be corrected (the lines are named), or if not one
            recording is usable.
        """
        table = read_table(folder, needed=NEEDED, example=EXAMPLE)
        path = folder / table.name
        _refuse(path, _problems(table))
        segments, self.unused_columns = segments_by_speaker(table)
        entries, skipped = [], []
        for row in table.rows:
            source = _source(row)
            words = (row.cells.get("word") or row.cells["transcript"]).lower().split()
            reason = ""
            if sentences:
                reason = unusable_transcript(" ".join(words))
            elif len(words) > 1:
                reason = f"more than one word: {len(words)} words, a clip holds one"
            if reason:
                skipped.append(Skipped(str(source), reason))
                continue
            utterance = Utterance(_clip_id(row), row.cells["speaker"], " ".join(words))
            entries.append(Entry(utterance, source))
        super().__init__(
            layout=f"manifest ({table.name})",
            folder=Folder(folder),
            speakers={name: Speaker(name, values) for name, values in segments.items()},
            entries=entries,
            skipped=skipped,
            spec=spec or FrontendSpec(),
            sentences=sentences,
        )


def unusable_transcript(said: str) -> str:
    """Why a transcript cannot be learned; empty if it can. Never shows it."""
    if not 1 <= len(said) <= MAX_CHARACTERS:
        return f"transcript length not in 1 to {MAX_CHARACTERS} characters: {len(said)}"
    strange = set(said) - set(Alphabet().characters)
    return f"characters outside the alphabet: {len(strange)} kinds of them" if strange else ""


def _source(row: Row) -> File:
    """Returns where a line's recording is."""
    file = row.cells.get("file") or row.cells.get("member", "")
    return File(file, row.cells.get("shard") or None)


def _clip_id(row: Row) -> str:
    """Returns the line's clip id, which without such a column is the name of the file."""
    return row.cells.get("clip_id") or str(_source(row))


def _problems(table: Table) -> list[str]:
    """Lists empty cells that are needed and clip ids that repeat, each with its line."""
    problems = []
    seen: dict[str, int] = {}
    for row in table.rows:
        problems += [
            f"line {row.line}: {_either(names)} is empty"
            for names in NEEDED
            if not any(row.cells.get(name) for name in names)
        ]
        clip_id = _clip_id(row)
        if clip_id in seen:
            problems.append(f"line {row.line}: {clip_id!r} stands in line {seen[clip_id]} already")
        seen.setdefault(clip_id, row.line)
    return problems


def segments_by_speaker(
    table: Table, about_the_clip: Sequence[str] = ()
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Splits further columns into segments by speaker and columns that change within one."""
    segments: dict[str, dict[str, str]] = {row.cells["speaker"]: {} for row in table.rows}
    unused = []
    for column in table.columns:
        if column in (*_ABOUT_THE_CLIP, *about_the_clip) or not column:
            continue
        values: dict[str, set[str]] = {}
        for row in table.rows:
            if row.cells[column]:
                values.setdefault(row.cells["speaker"], set()).add(row.cells[column])
        if any(len(found) > 1 for found in values.values()):
            unused.append(column)
            continue
        for speaker, found in values.items():
            segments[speaker][column] = found.pop()
    return segments, tuple(unused)

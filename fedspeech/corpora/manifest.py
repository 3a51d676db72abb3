"""The generic layout: a folder of recordings and one CSV of files, speakers and words.

    file,speaker,word,accent
    anna/yes_1.wav,anna,yes,Scottish
    anna/no_1.wav,anna,no,Scottish

Columns: `file` (relative path), or `member` and `shard` (member of an uncompressed tar);
`speaker`, whose spellings `identity` compares; `word` or `transcript`; optionally `clip_id`. Any
further column that never changes within a speaker is a segment of its speakers.

A row is one line. An unusable row is left out and reported; a table with more than
`MAX_UNUSABLE_SHARE` of unusable rows is refused, since then the table is wrong and not its rows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora.corpus import MAX_CHARACTERS, Alphabet, Skipped, Speaker, Utterance
from fedspeech.corpora.files import Folder
from fedspeech.corpora.identity import Persons, plain
from fedspeech.corpora.recorded import Entry, File, RecordedCorpus
from fedspeech.errors import CorpusError

TABLE_NAMES = ("manifest.csv", "metadata.csv")  # the first one present is read
EXAMPLE = ("file,speaker,word,accent", "anna/yes_1.wav,anna,yes,Scottish")
NEEDED = (("file", "member"), ("speaker",), ("word", "transcript"))
MAX_UNUSABLE_SHARE = 0.2

# Columns about the clip, not about its speaker.
_ABOUT_THE_CLIP = frozenset(
    ("clip_id", "file", "member", "shard", "speaker", "word", "transcript", "take", "seconds",
     "sample_rate")
)  # fmt: skip
# Kept as they are written: names of files, and of people, whom `Persons` compares.
_AS_WRITTEN = frozenset(("file", "member", "shard", "speaker"))


@dataclass(frozen=True)
class Row:
    """One line of a manifest: its number in the file, and column to stripped text."""

    line: int
    cells: dict[str, str]

    @property
    def source(self) -> File:
        """The place of the recording."""
        file = self.cells.get("file") or self.cells.get("member", "")
        return File(file, self.cells.get("shard") or None)

    @property
    def clip_id(self) -> str:
        """The clip id, which without such a column is the name of the file."""
        return self.cells.get("clip_id") or str(self.source)


@dataclass(frozen=True)
class Table:
    """A manifest as text.

    Attributes:
      columns: lower case.
      rows: the usable lines, each speaker under the first spelling of the name.
      skipped: the other lines, with the reason.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    persons: Persons

    def speakers(
        self, about_the_clip: Sequence[str] = ()
    ) -> tuple[dict[str, Speaker], tuple[str, ...]]:
        """Returns speakers with further columns as segments, and columns that change within one."""
        segments: dict[str, dict[str, str]] = {row.cells["speaker"]: {} for row in self.rows}
        unused = []
        for column in self.columns:
            if column in (*_ABOUT_THE_CLIP, *about_the_clip) or not column:
                continue
            values: dict[str, set[str]] = {}
            for row in self.rows:
                if row.cells[column]:
                    values.setdefault(row.cells["speaker"], set()).add(row.cells[column])
            if any(len(found) > 1 for found in values.values()):
                unused.append(column)
                continue
            for speaker, found in values.items():
                segments[speaker][column] = found.pop()
        return {name: Speaker(name, found) for name, found in segments.items()}, tuple(unused)


def find_table(folder: Path) -> Path | None:
    """Returns the folder's manifest, or None."""
    paths = (folder / name for name in TABLE_NAMES)
    return next((path for path in paths if path.is_file()), None)


def read_columns(path: Path) -> tuple[str, ...]:
    """Returns the names in a manifest's first line, lower case; none of an empty file.

    Raises:
      CorpusError: if it cannot be opened, is not UTF-8, or the line cannot be split.
    """
    return _header(path, _lines(path)[0])


def _delimiter(header: str) -> str:
    """Whichever of comma, semicolon and tab the header uses most."""
    # Spreadsheets write semicolons where the comma is the decimal sign.
    return max(",;\t", key=header.count)


def read_table(
    folder: Path, *, needed: Sequence[tuple[str, ...]], example: tuple[str, str]
) -> Table:
    """Reads a folder's manifest: UTF-8, separated by comma, semicolon or tab.

    Of each tuple in `needed` one column is required. `example`, a header and one line, stands in
    error messages.

    Raises:
      CorpusError: if there is none, or it is empty, not UTF-8, has no such header, or has lines
        that do not match the header.
    """
    path = find_table(folder)
    if path is None:
        raise CorpusError(f"no {' or '.join(TABLE_NAMES)} in {folder}")
    columns_needed = ", ".join(map(_either, needed))
    explanation = f"needed: {columns_needed}; for instance\n  {example[0]}\n  {example[1]}"
    lines = _lines(path)
    if not any(line.strip() for line in lines):
        raise CorpusError(f"{path} is empty; {explanation}")
    delimiter, columns = _delimiter(lines[0]), _header(path, lines[0])
    _check_header(path, columns, needed, explanation)
    rows, problems = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip(f"{delimiter} "):
            continue
        try:
            rows.append(_row(number, line, delimiter, columns))
        except csv.Error as error:
            problems.append(Skipped(f"line {number}", f"not a row: {error}"))
    if not rows and not problems:
        raise CorpusError(f"{path} has a header and no recordings; {explanation}")
    persons = Persons(row.cells["speaker"] for row in rows if row.cells.get("speaker"))
    usable, incomplete = _complete(rows, needed)
    problems = sorted((*problems, *incomplete), key=lambda skip: int(skip.where.split()[1]))
    _refuse(path, problems, len(rows) + len(problems) - len(incomplete))
    named = (
        Row(row.line, row.cells | {"speaker": persons.of[row.cells["speaker"]]})
        if row.cells.get("speaker")
        else row
        for row in usable
    )
    return Table(path.name, columns, tuple(named), tuple(problems), persons)


def _header(path: Path, line: str) -> tuple[str, ...]:
    """Names of the columns, lower case."""
    try:
        return tuple(name.lower() for name in _cells(line, _delimiter(line)))
    except csv.Error as error:
        raise CorpusError(f"{path}, line 1: {error}") from error


def _row(number: int, line: str, delimiter: str, columns: Sequence[str]) -> Row:
    """Reads one line; raises `csv.Error` for one that does not fit the header."""
    cells = _cells(line, delimiter)
    if len(cells) != len(columns):
        raise csv.Error(f"expected {len(columns)} values, got {len(cells)}")
    named = dict(zip(columns, cells, strict=True))
    return Row(
        number,
        {
            name: cell if name in _AS_WRITTEN and plain(cell) else plain(cell)
            for name, cell in named.items()
        },
    )


def _cells(line: str, delimiter: str) -> tuple[str, ...]:
    """Splits one line. A quote that the line does not close is an error, not a longer row."""
    return tuple(
        cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True), ())
    )


def _complete(
    rows: Sequence[Row], needed: Sequence[tuple[str, ...]]
) -> tuple[list[Row], list[Skipped]]:
    """Splits rows into usable ones and those that lack a cell or repeat a clip."""
    usable, problems = [], []
    seen: dict[str, int] = {}
    for row in rows:
        empty = [names for names in needed if not any(row.cells.get(name) for name in names)]
        clip_id = row.clip_id
        if empty:
            reason = f"a cell is empty: {', '.join(map(_either, empty))}"
        elif clip_id in seen:
            reason = f"named twice: {clip_id!r} stands in an earlier line, {seen[clip_id]}"
        else:
            seen[clip_id] = row.line
            usable.append(row)
            continue
        problems.append(Skipped(f"line {row.line}", reason))
    return usable, problems


def _lines(path: Path) -> list[str]:
    """The lines of a manifest in UTF-8, with or without a byte order mark; at least one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        # Not `splitlines`: it also splits at separators that may stand within a cell.
        return re.split("\r\n|\r|\n", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path} must be UTF-8, got byte 0x{data[error.start]:02x} in line {line}; save it "
            'as "CSV UTF-8"'
        ) from error


def _check_header(
    path: Path, columns: Sequence[str], needed: Sequence[tuple[str, ...]], explanation: str
) -> None:
    """Refuses a first line that does not name the needed columns once each."""
    missing = [_either(names) for names in needed if not set(names) & set(columns)]
    if len(missing) == len(needed):
        raise CorpusError(
            f"{path}: the first line must name the columns, found: {', '.join(columns)[:200]}; "
            f"{explanation}"
        )
    if missing:
        raise CorpusError(
            f"{path} lacks the column {', '.join(missing)}; found: {', '.join(columns)}; "
            f"{explanation}"
        )
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise CorpusError(f"{path} names a column twice: {', '.join(twice)}")


def _either(names: tuple[str, ...]) -> str:
    """Writes the names of which one is needed, as in "file (or member)"."""
    return names[0] + "".join(f" (or {name})" for name in names[1:])


def _refuse(path: Path, problems: Sequence[Skipped], rows: int) -> None:
    """Raises a `CorpusError` that shows the first five problems, if too many rows have one."""
    if len(problems) <= MAX_UNUSABLE_SHARE * rows:
        return
    shown = "".join(f"\n  {skip.where}: {skip.reason}" for skip in problems[:5])
    more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise CorpusError(
        f"{path} must be corrected: {len(problems)} of {rows} rows cannot be used, and more than "
        f"{MAX_UNUSABLE_SHARE:.0%} are taken for a wrong table:{shown}{more}"
    )


class ManifestCorpus(RecordedCorpus):
    """A corpus described by `manifest.csv` or `metadata.csv`."""

    def __init__(
        self, folder: Path, spec: FrontendSpec = LOG_MEL, *, sentences: bool = False
    ) -> None:
        """Reads the manifest, then checks every recording.

        With `sentences`, clips of any number of words are kept, each from its beginning.

        Raises:
          CorpusError: if the manifest must be corrected (the message names lines), or if not one
            recording is usable.
        """
        table = read_table(folder, needed=NEEDED, example=EXAMPLE)
        speakers, self.unused_columns = table.speakers()
        entries, skipped = [], list(table.skipped)
        for row in table.rows:
            words = (row.cells.get("word") or row.cells["transcript"]).lower().split()
            reason = ""
            if sentences:
                reason = unusable_transcript(" ".join(words))
            elif len(words) > 1:
                reason = f"more than one word: {len(words)} words, a clip holds one"
            if reason:
                skipped.append(Skipped(str(row.source), reason))
                continue
            utterance = Utterance(row.clip_id, row.cells["speaker"], " ".join(words))
            entries.append(Entry(utterance, row.source))
        super().__init__(
            layout=f"manifest ({table.name})",
            folder=Folder(folder),
            speakers=speakers,
            persons=table.persons,
            entries=entries,
            skipped=skipped,
            spec=spec,
            sentences=sentences,
        )


def unusable_transcript(said: str) -> str:
    """Why a transcript is unusable; empty if it is usable. Never shows the transcript."""
    if not 1 <= len(said) <= MAX_CHARACTERS:
        return f"transcript length not in 1 to {MAX_CHARACTERS} characters: {len(said)}"
    strange = set(said) - set(Alphabet().characters)
    return f"characters outside the alphabet: {len(strange)} kinds of them" if strange else ""

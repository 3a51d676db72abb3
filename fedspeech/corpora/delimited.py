"""Tables of text, separated by comma, semicolon or tab, with a header: rows as cells.

A row is one line: a quote that a line does not close spoils that line and not those after it. A row
that does not fit the header is left out and named. Nothing in a cell is ever evaluated: a cell that
a spreadsheet would take for a formula is text.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.identity import plain
from fedspeech.corpora.text_lines import Line, read_lines
from fedspeech.errors import CorpusError


@dataclass(frozen=True)
class TableRow:
    """One line: its number in the file, and column to stripped text."""

    line: int
    cells: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
      columns: lower case.
      rows: lines that fit the header.
      skipped: the other lines, with the reason.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    skipped: tuple[Skipped, ...]


def read_columns(path: Path) -> tuple[str, ...]:
    """Returns the names in a table's first line, lower case; none of an empty file.

    Raises:
      CorpusError: if it cannot be opened, is not UTF-8, or the line cannot be split.
    """
    first = next(read_lines(path), None)
    return () if first is None else _header(path, first)


def read_table(
    path: Path,
    *,
    needed: Sequence[tuple[str, ...]],
    example: tuple[str, str],
    delimiter: str = "",
    quoted: bool = True,
) -> Table:
    """Reads a table: UTF-8, a line a row.

    Args:
      path: the file.
      needed: of each tuple one column is required.
      example: a header and one line, for error messages.
      delimiter: between cells; empty: whichever of comma, semicolon and tab the header uses most.
      quoted: whether quotes around a cell are no part of it.

    Raises:
      CorpusError: if it cannot be opened, is empty, or has no such header.
    """
    columns_needed = ", ".join(map(either, needed))
    explanation = f"needed: {columns_needed}; for instance\n  {example[0]}\n  {example[1]}"
    lines = read_lines(path)
    first = next(lines, None)
    blank = first is None or not (first.text.strip() or first.problem)
    if first is None or (blank and not any(line.text.strip() for line in lines)):
        raise CorpusError(f"{path} is empty; {explanation}")
    delimiter = delimiter or _delimiter(first.text)
    columns = _header(path, first, delimiter, quoted)
    _check_header(path, columns, needed, explanation)
    rows, problems = [], []
    for line in lines:
        if not line.problem and not line.text.strip(f"{delimiter} "):
            continue
        try:
            rows.append(_row(line, delimiter, columns, quoted))
        except csv.Error as error:
            reason = line.problem or f"not a row: {error}"
            problems.append(Skipped(f"line {line.number}", reason))
    if not rows and not problems:
        raise CorpusError(f"{path} has a header and no recordings; {explanation}")
    return Table(path, columns, tuple(rows), tuple(problems))


def either(names: tuple[str, ...]) -> str:
    """Writes the names of which one is needed, as in "file (or member)"."""
    return names[0] + "".join(f" (or {name})" for name in names[1:])


def _delimiter(header: str) -> str:
    """Whichever of comma, semicolon and tab the header uses most."""
    # Spreadsheets write semicolons where the comma is the decimal sign.
    return max(",;\t", key=header.count)


def _header(path: Path, line: Line, delimiter: str = "", quoted: bool = True) -> tuple[str, ...]:
    """Names of the columns, lower case."""
    if line.problem:
        raise CorpusError(
            f"{path} must be UTF-8 with the names of columns in line 1: {line.problem}"
        )
    try:
        cells = _cells(line.text, delimiter or _delimiter(line.text), quoted)
    except csv.Error as error:
        raise CorpusError(f"{path}, line 1: {error}") from error
    return tuple(name.lower() for name in cells)


def _row(line: Line, delimiter: str, columns: Sequence[str], quoted: bool) -> TableRow:
    """Reads one line; raises `csv.Error` for one that does not fit the header."""
    if line.problem:
        raise csv.Error(line.problem)
    cells = _cells(line.text, delimiter, quoted)
    if len(cells) != len(columns):
        raise csv.Error(f"expected {len(columns)} values, got {len(cells)}")
    named = dict(zip(columns, cells, strict=True))
    # A cell of characters that cannot be seen is empty; others are left as they are written.
    return TableRow(
        line.number, {name: cell if plain(cell) else "" for name, cell in named.items()}
    )


def _cells(line: str, delimiter: str, quoted: bool) -> tuple[str, ...]:
    """Splits one line. A quote that the line does not close is an error, not a longer row."""
    if not quoted:
        return tuple(cell.strip() for cell in line.split(delimiter))
    reader = csv.reader([line], delimiter=delimiter, strict=True)
    return tuple(cell.strip() for cell in next(reader, ()))


def _check_header(
    path: Path, columns: Sequence[str], needed: Sequence[tuple[str, ...]], explanation: str
) -> None:
    """Refuses a first line that does not name the needed columns once each."""
    missing = [either(names) for names in needed if not set(names) & set(columns)]
    if len(missing) == len(needed):
        raise CorpusError(
            f"{path}: the first line must name the columns, found: {', '.join(columns)[:200]}; "
            f"{explanation}"
        )
    if missing:
        raise CorpusError(
            f"{path} lacks the column {', '.join(missing)}; found: {', '.join(columns)[:200]}; "
            f"{explanation}"
        )
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise CorpusError(f"{path} names a column twice: {', '.join(twice)}")

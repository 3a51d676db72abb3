"""Rows of figures as Python programs take them: a sequence of dictionaries with one set of keys."""

from __future__ import annotations

import csv
import html
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from fedspeech.errors import FedspeechError
from fedspeech.files import write_text

SHOWN_ROWS = 40
"""Rows of a table that are printed or shown in a notebook; a program reads all of them."""


class Records(Sequence[dict[str, Any]]):
    """A table: dictionaries with the same keys, in order.

        >>> import fedspeech as fs
        >>> table = fs.Records([{"round": 1, "loss": 0.5}, {"round": 2, "loss": 0.4}])
        >>> table[1]["loss"], table.column("loss"), len(table.where(round=2))
        (0.4, [0.5, 0.4], 1)

    It prints as text, shows as a table in a notebook, and `pandas.DataFrame(records)` or
    `to_pandas()` makes a data frame of it. No method needs pandas but that one.
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None
    ) -> None:
        """Copies the rows; a key that a row lacks is None in it.

        Without `columns` they are the keys of the rows.
        """
        found = [dict(row) for row in rows]
        keys = (key for row in found for key in row)
        self.columns = tuple(dict.fromkeys(keys) if columns is None else columns)
        self._rows = [{key: row.get(key) for key in self.columns} for row in found]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Records:
        """A row, or a table of some rows."""
        if isinstance(index, slice):
            return Records(self._rows[index], self.columns)
        return self._rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the rows."""
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        """Whether another table has the same columns and rows."""
        if not isinstance(other, Records):
            return NotImplemented
        return self.columns == other.columns and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]  # rows are dictionaries

    def column(self, name: str) -> list[Any]:
        """Values of a column, in order.

        Raises:
          KeyError: naming the columns there are.
        """
        if name not in self.columns:
            raise KeyError(f"there is no column {name!r}; there are {', '.join(self.columns)}")
        return [row[name] for row in self._rows]

    def where(self, **equal: Any) -> Records:
        """The rows in which columns have these values.

        Raises:
          KeyError: naming the columns there are.
        """
        for name in equal:
            self.column(name)
        found = (
            row for row in self._rows if all(row[name] == value for name, value in equal.items())
        )
        return Records(found, self.columns)

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
          FedspeechError: if pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise FedspeechError(
                "a data frame needs pandas: pip install pandas; the records themselves do not"
            ) from error
        return pandas.DataFrame(self._rows, columns=list(self.columns))

    def to_csv(self, path: str | Path) -> Path:
        """Writes the table as UTF-8 with a header line; what is None is empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(Path(path), text.getvalue())
        return Path(path)

    def __repr__(self) -> str:
        """The first rows as text."""
        shown = [[_short(row[key]) for key in self.columns] for row in self._rows[:SHOWN_ROWS]]
        widths = [
            max(map(len, column)) for column in zip(self.columns, *shown, strict=True)
        ]  # fmt: skip
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.columns, *shown)
        ]
        return "\n".join([*lines, *self._more()])

    def _repr_html_(self) -> str:
        """The first rows as a table of a notebook."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(_short(row[key]))}</td>" for key in self.columns)
            + "</tr>"
            for row in self._rows[:SHOWN_ROWS]
        )
        more = "".join(f"<p>{html.escape(words)}</p>" for words in self._more())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def _more(self) -> list[str]:
        if not self:
            return ["no rows"]
        left = len(self) - SHOWN_ROWS
        return [f"... and {left:,} more rows"] if left > 0 else []


def _short(value: object) -> str:
    """A value as a cell shows it: four digits of a fraction, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""The generic layout: a folder of recordings and one CSV of files, speakers and words.

    file,speaker,word,accent
    anna/yes_1.wav,anna,yes,Scottish
    anna/no_1.wav,anna,no,Scottish

Columns: `file` (relative path), or `member` and `shard` (member of an uncompressed tar);
`speaker`, whose spellings `identity` compares; `word` or `transcript`; optionally `clip_id`. Any
further column that never changes within a speaker is a segment of its speakers. Silence
(`_silence_`) needs no speaker.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedspeech.corpora.delimited import Table, read_table
from fedspeech.corpora.identity import plain
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.written import spoken
from fedspeech.errors import CorpusError

TABLE_NAMES = ("manifest.csv", "metadata.csv")  # the first one present is read
EXAMPLE = ("file,speaker,word,accent", "anna/yes_1.wav,anna,yes,Scottish")
NEEDED = (("file", "member"), ("speaker",), ("word", "transcript"))

# Columns about the clip, not about its speaker.
_ABOUT_THE_CLIP = frozenset(
    ("clip_id", "file", "member", "shard", "speaker", "word", "transcript", "take", "seconds",
     "sample_rate", "")
)  # fmt: skip


def find_table(folder: Path) -> Path | None:
    """Returns the folder's manifest, or None."""
    paths = (folder / name for name in TABLE_NAMES)
    return next((path for path in paths if path.is_file()), None)


def list_rows(folder: Path) -> Listing:
    """Lists the rows of a folder's manifest.

    Raises:
      CorpusError: if there is none, it cannot be read, or lacks a column that is needed.
    """
    path = find_table(folder)
    if path is None:
        raise CorpusError(f"no {' or '.join(TABLE_NAMES)} in {folder}")
    table = read_table(path, needed=NEEDED, example=EXAMPLE)
    return Listing(
        layout=f"manifest ({path.name})",
        rows=rows_of(table),
        table=path,
        skipped=table.skipped,
    )


def rows_of(table: Table) -> tuple[Row, ...]:
    """The rows of a table with the columns of a manifest."""
    return tuple(
        Row(
            where=f"line {row.line}",
            source=place_of(row.cells),
            speaker=row.cells.get("speaker", ""),
            said=spoken(row.cells.get("word") or row.cells.get("transcript", "")),
            clip_id=plain(row.cells.get("clip_id", "")),
            columns={k: v for k, v in row.cells.items() if k not in _ABOUT_THE_CLIP},
        )
        for row in table.rows
    )


def place_of(cells: Mapping[str, str]) -> File:
    """The place of a row's recording."""
    return File(cells.get("file") or cells.get("member", ""), cells.get("shard") or None)

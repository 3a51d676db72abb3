"""Mozilla Common Voice: clips/*.mp3 and tables validated.tsv, train.tsv, dev.tsv, test.tsv.

    client_id   path                        sentence  up_votes  ...  age      gender  accents
    6fc9...     common_voice_en_1234.mp3    Hello.    2         ...  twenties         England

`validated.tsv` is read, or else the union of the three parts; invalidated clips never are. Speakers
of dev.tsv and test.tsv are the official validation and testing speakers.

A client id is an account or a browser and no person: whoever donated on a second device without an
account has two, and a shared computer gives one to several people. So the unit of privacy is the
phone and not the user.
"""

from __future__ import annotations

from pathlib import Path

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.delimited import Table, read_columns, read_table
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.written import spoken
from fedspeech.errors import CorpusError

_PARTS = {"train": "training", "dev": "validation", "test": "testing"}
_NEEDED = (("client_id",), ("path",), ("sentence",))
_EXAMPLE = ("client_id\tpath\tsentence", "6fc9a1\tcommon_voice_en_1.mp3\tHello.")
_SEGMENTS = ("age", "gender", "accents", "accent", "variant", "locale")


def has_layout(folder: Path) -> bool:
    """Whether one of the tables has the columns of Common Voice."""
    return any(
        {"client_id", "path", "sentence"} <= set(read_columns(path)) for path in _all(folder)
    )


def list_rows(folder: Path) -> Listing:
    """Lists the validated clips of one language.

    Raises:
      CorpusError: if no table of validated clips is there, or one cannot be read.
    """
    parts = {name: _read(folder / f"{name}.tsv") for name in _PARTS}
    tables = [found for found in (_read(folder / "validated.tsv"),) if found] or [
        found for found in parts.values() if found
    ]
    if not tables:
        raise CorpusError(
            f"{folder} has tables of Common Voice, but neither validated.tsv nor train.tsv, "
            "dev.tsv and test.tsv: clips that nobody has validated are not used"
        )
    official: dict[str, str] = {}
    for name, part in _PARTS.items():  # testing last: it wins
        if table := parts[name]:
            official |= {row.cells["client_id"]: part for row in table.rows}
    return Listing(
        layout="Common Voice",
        rows=tuple(row for table in tables for row in _rows(table)),
        table=tables[0].path,
        skipped=tuple(
            Skipped(f"{table.path.name} {skip.where}", skip.reason)
            for table in tables
            for skip in table.skipped
        ),
        official=official,
        one_id_one_person=False,
    )


def _all(folder: Path) -> list[Path]:
    names = ("validated", "train", "dev", "test", "other", "invalidated")
    return [path for name in names if (path := folder / f"{name}.tsv").is_file()]


def _read(path: Path) -> Table | None:
    if not path.is_file():
        return None
    # Sentences hold quotes as they are spoken, so a quote is a character.
    return read_table(path, needed=_NEEDED, example=_EXAMPLE, delimiter="\t", quoted=False)


def _rows(table: Table) -> list[Row]:
    return [
        Row(
            where=f"{table.path.name} line {row.line}",
            source=File(f"clips/{path}" if (path := row.cells["path"]) else ""),
            speaker=row.cells["client_id"],
            said=spoken(row.cells["sentence"]),
            columns={name: row.cells.get(name, "") for name in _SEGMENTS},
        )
        for row in table.rows
    ]

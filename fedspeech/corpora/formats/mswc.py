"""The Multilingual Spoken Words Corpus (Mazumder et al. 2021), one language of it.

clips/<word>/common_voice_en_1.opus, and en_splits.csv, or train.csv, dev.csv and test.csv:

    SET,LINK,WORD,VALID,SPEAKER,GENDER
    TRAIN,light/common_voice_en_1.opus,light,True,6fc9a1,FEMALE

The words are cut out of Common Voice, so a speaker is a client id of Common Voice.
"""

from __future__ import annotations

from pathlib import Path

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.delimited import read_columns, read_table
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.written import spoken

_NEEDED = (("link",), ("word",), ("speaker",))
_EXAMPLE = ("LINK,WORD,VALID,SPEAKER,GENDER", "light/common_voice_en_1.opus,light,True,6f,FEMALE")


def has_layout(folder: Path) -> bool:
    """Whether there are clips and a table with the columns of the corpus."""
    return (folder / "clips").is_dir() and bool(_tables(folder))


def list_rows(folder: Path) -> Listing:
    """Lists the valid clips.

    Raises:
      CorpusError: if a table cannot be read.
    """
    rows, skipped = [], []
    for path in _tables(folder):
        table = read_table(path, needed=_NEEDED, example=_EXAMPLE, delimiter=",")
        skipped += [Skipped(f"{path.name} {skip.where}", skip.reason) for skip in table.skipped]
        for row in table.rows:
            if row.cells.get("valid", "true").lower() == "false":
                continue
            link = row.cells["link"]
            rows.append(
                Row(
                    where=f"{path.name} line {row.line}",
                    source=File(f"clips/{link}" if link else ""),
                    speaker=row.cells["speaker"],
                    said=spoken(row.cells["word"]),
                    columns={"gender": row.cells.get("gender", "")},
                )
            )
    return Listing(
        layout="MSWC",
        rows=tuple(rows),
        table=folder,
        skipped=tuple(skipped),
        one_id_one_person=False,
    )


def _tables(folder: Path) -> list[Path]:
    """The table of all splits, or one table of each."""
    fitting = [
        path
        for path in sorted(folder.glob("*.csv"))
        if {"link", "word", "speaker"} <= set(read_columns(path))
    ]
    return [path for path in fitting if path.stem.endswith("splits")][:1] or fitting

"""The rows that every layout lists: where a recording is, who speaks, what is said.

A layout (`formats`) reads its own tables and yields rows; the rules for rows stand here, once:

| row | answer |
|---|---|
| names no recording, no speaker or no words | left out and named |
| is silence and names no speaker | background noise of nobody, hence public |
| has the id of an earlier row | left out and named |
| names a speaker in another spelling | the same person (`identity`), and said |
| more than `max_unusable_share` of the rows are left out so | the whole table is refused |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedspeech.corpora.corpus import SILENCE, Skipped, Speaker
from fedspeech.corpora.identity import Persons, plain
from fedspeech.errors import CorpusError

MAX_UNUSABLE_SHARE = 0.2
NOBODY = "_background_noise_"  # beginning of the speaker ids of background noise


@dataclass(frozen=True)
class File:
    """The place of a clip: a path relative to the folder, or a member of the tar `shard`.

    Attributes:
      start_s, seconds: the part that is the clip; without `seconds` to the end of the file.
      channel: the one channel that is taken, counted from 0; None: all of them, mixed down.
    """

    file: str
    shard: str | None = None
    start_s: float = 0.0
    seconds: float | None = None
    channel: int | None = None

    @property
    def whole(self) -> File:
        """The file without its part."""
        return File(self.file, self.shard)

    @property
    def is_part(self) -> bool:
        """Whether the clip is a part of the file."""
        return self != self.whole

    def __str__(self) -> str:
        """Name in reports; bytes that are no UTF-8 as escapes."""
        name = self.file if self.shard is None else f"{self.shard}:{self.file}"
        if self.start_s or self.seconds is not None:
            end = "" if self.seconds is None else f"{self.start_s + self.seconds:g}"
            name = f"{name} [{self.start_s:g} to {end or 'its end'} s]"
        name = name if self.channel is None else f"{name} (channel {self.channel})"
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Held:
    """A recording that a Python program holds; `read` returns the bytes of a sound file."""

    name: str
    read: Callable[[], bytes] = field(repr=False, compare=False)

    def __str__(self) -> str:
        """Name in reports."""
        return self.name


@dataclass(frozen=True)
class Row:
    """One recording as a table has it. Printing it shows neither speaker nor words.

    Attributes:
      where: its place in the table, such as "line 12".
      speaker: as it is written; empty if the row names none.
      said: words as `written.spoken` spells them, or `SILENCE`; empty if the row says none.
      clip_id: unique in the corpus; empty: the name of the recording.
      columns: further cells; those that never change within a speaker become segments.
    """

    where: str
    source: File | Held
    speaker: str = field(repr=False)
    said: str = field(repr=False)
    clip_id: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def utterance_id(self) -> str:
        """The clip id, or the name of the recording."""
        return self.clip_id or str(self.source)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a layout found in a folder.

    Attributes:
      layout: its name in reports.
      rows: in the order of the corpus.
      table: the file or folder to be corrected, for messages.
      skipped: lines that are no rows.
      official: speaker as written to "training", "validation" or "testing", by published lists.
      absolute: whether rows may name files anywhere, as the layout's convention has it.
      one_id_one_person: whether the corpus promises that no person has two speaker ids.
      notes: what whoever uses the corpus must know, in sentences.
    """

    layout: str
    rows: Sequence[Row]
    table: Path | None = None
    skipped: tuple[Skipped, ...] = ()
    official: Mapping[str, str] = field(default_factory=dict)
    absolute: bool = False
    one_id_one_person: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class UsableRows:
    """The rows of a listing that have all they need, each speaker under one name.

    Attributes:
      skipped: the others, those that were no rows first.
    """

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    persons: Persons


def usable_rows(listing: Listing, max_unusable_share: float = MAX_UNUSABLE_SHARE) -> UsableRows:
    """Leaves out rows that lack something or repeat an id.

    Raises:
      CorpusError: if more than the share of all rows are left out; the message names the first.
    """
    persons = Persons(row.speaker for row in listing.rows if row.speaker)
    usable: list[Row] = []
    problems = list(listing.skipped)
    seen: dict[str, str] = {}
    for row in listing.rows:
        problem, name = _lacks(row), row.utterance_id
        if not problem and name in seen:
            problem = f"named twice: {name!r} stands in {seen[name]} too"
        if problem:
            problems.append(Skipped(row.where, problem))
            continue
        seen[name] = row.where
        usable.append(replace(row, speaker=persons.of[row.speaker]) if row.speaker else row)
    problems.sort(key=_place)
    _refuse(listing, problems, len(listing.rows) + len(listing.skipped), max_unusable_share)
    return UsableRows(tuple(usable), tuple(problems), persons)


def speakers_of(rows: Iterable[Row]) -> tuple[dict[str, Speaker], tuple[str, ...]]:
    """Returns speakers with their segments, and the columns that change within one of them."""
    values: dict[str, dict[str, set[str]]] = {}
    people: dict[str, None] = {}
    for row in rows:
        if row.speaker:
            people[row.speaker] = None
            for column, value in row.columns.items():
                if value := plain(value):
                    values.setdefault(column, {}).setdefault(row.speaker, set()).add(value)
    segments: dict[str, dict[str, str]] = {name: {} for name in people}
    unused = []
    for column, found in values.items():
        if any(len(of_one) > 1 for of_one in found.values()):
            unused.append(column)
            continue
        for name, of_one in found.items():
            segments[name][column] = next(iter(of_one))
    return {name: Speaker(name, found) for name, found in segments.items()}, tuple(unused)


def _lacks(row: Row) -> str:
    """What a row needs and lacks, as a reason; empty if nothing."""
    named = str(row.source) if isinstance(row.source, Held) else row.source.file
    silence = row.said == SILENCE  # a room has no speaker
    needs = (("file", named), ("speaker", row.speaker or silence), ("word", row.said))
    empty = [what for what, cell in needs if not cell]
    return f"a cell is empty: {', '.join(empty)}" if empty else ""


def _place(skip: Skipped) -> tuple[str, int]:
    """Sorts "line 9" before "line 10"."""
    name, _, number = skip.where.rpartition(" ")
    return (name, int(number)) if number.isdecimal() else (skip.where, 0)


def _refuse(listing: Listing, problems: Sequence[Skipped], rows: int, share: float) -> None:
    """Raises a `CorpusError` that shows the first five problems, if too many rows have one."""
    if len(problems) <= share * rows:
        return
    shown = "".join(f"\n  {skip.where}: {skip.reason}" for skip in problems[:5])
    more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise CorpusError(
        f"{listing.table or listing.layout} must be corrected: {len(problems)} of {rows} rows "
        f"cannot be used, and more than {share:.0%} are taken for a wrong table (the limit is "
        f"corpus.max_unusable_share, and `max_unusable_share` of a check):{shown}{more}"
    )

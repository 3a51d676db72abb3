"""Lines of text files that strangers wrote: UTF-8, perhaps gzipped, of any size.

    for line in read_lines(Path("validated.tsv")):
        line.number, line.text, line.problem

A line that cannot be used says why and the next one is read: a bad byte in one row is no reason to
refuse the others.

| line | answer |
|---|---|
| ends with LF, CRLF or CR; a byte order mark before the first | as if it were not there |
| bytes that are no UTF-8; a control character other than the tab | `problem` |
| longer than `MAX_LINE_CHARACTERS` | `problem`, and the rest of the line is passed over |
| beyond `MAX_CHARACTERS` or `MAX_LINES`, unpacked | `CorpusError`: a small gzip may be endless |
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedspeech.errors import CorpusError

MAX_LINE_CHARACTERS = 2**20
MAX_CHARACTERS = 2 * 2**30
MAX_LINES = 10_000_000

_NO_TEXT = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Line:
    """One line without its end.

    Attributes:
      number: counted from 1.
      problem: why it cannot be used, as `rule: detail`; empty if it can.
    """

    number: int
    text: str = field(repr=False)
    problem: str = ""


def read_lines(path: Path) -> Iterator[Line]:
    """Yields the lines of a file; one whose name ends in .gz is unpacked on the way.

    Raises:
      CorpusError: if it cannot be opened, is no gzip though named so, or is too large.
    """
    if not path.is_file() and path.exists():  # a pipe would never end, a device never begin
        raise CorpusError(f"{path} cannot be opened: it is no file")
    try:
        with path.open("rb") as raw:
            unpacked = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            # Bytes that are no UTF-8 become lone surrogates, which `_problem` finds in their line.
            yield from _lines(
                io.TextIOWrapper(unpacked, "utf-8-sig", errors="surrogateescape", newline=None),
                path,
            )
    except (OSError, EOFError, zlib.error) as error:  # OSError: a gzip with another beginning
        reason = getattr(error, "strerror", None) or str(error)
        raise CorpusError(f"{path} cannot be opened: {reason}") from error


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[Line]:
    number, left = 0, MAX_CHARACTERS
    while piece := text.readline(MAX_LINE_CHARACTERS):
        number, problem, rest = number + 1, "", piece
        if len(piece) == MAX_LINE_CHARACTERS and not piece.endswith("\n"):
            problem = f"line too long: more than {MAX_LINE_CHARACTERS:,} characters"
        while True:
            left -= len(rest)
            if left < 0 or number > MAX_LINES:
                raise CorpusError(
                    f"{path} holds more than {MAX_CHARACTERS:,} characters or {MAX_LINES:,} lines, "
                    "unpacked: split it into several folders"
                )
            if not problem or not rest or rest.endswith("\n"):
                break
            rest = text.readline(MAX_LINE_CHARACTERS)
        piece = piece.removesuffix("\n") if not problem else piece[:80]
        yield Line(number, piece, problem or _problem(piece))


def _problem(text: str) -> str:
    if found := _NO_TEXT.search(text):
        return f'not UTF-8: byte 0x{ord(found[0]) & 0xFF:02x}; save the table as "CSV UTF-8"'
    if found := _CONTROL.search(text):
        return f"a control character: U+{ord(found[0]):04X}"
    return ""

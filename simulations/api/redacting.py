"""Redaction of transcripts from Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fedspeech.errors import FedspeechError

if TYPE_CHECKING:
    from fedspeech.device.redaction.redactor import Redacted, Redactor

_FIELDS = ("text", "contacts", "region")
_STDIN = "-"


def redact(text: str, contacts: Sequence[str] = (), region: str | None = None) -> Redacted:
    """Replaces what names or finds a person in a transcript, and says what it asks for.

        >>> import fedspeech as fs
        >>> fs.redact("call Anna's office on 555 0123", ["Anna Lee"], "US")
        Redacted(redacted="call [CONTACT]'s office on [PHONE]", label='CALL_CONTACT')

    Args:
      text: what was said, written by a person or by a recognizer.
      contacts: names of the phone's address book.
      region: ISO 3166 code of the country whose phone numbers need no prefix, such as "GB"; None
        where it is not known.

    Raises:
      ValueError: if phone numbers of the region are not known.
    """
    from fedspeech.device.redaction.redactor import redact as redact_one

    return redact_one(text, contacts, region)


def redact_lines(source: str | Path) -> Iterator[Redacted]:
    """Redacts a file of transcripts, one JSON object a line, and yields them in order.

        >>> import fedspeech as fs
        >>> _ = open("said.jsonl", "w").write('{"text": "call Anna", "contacts": ["Anna"]}')
        >>> list(fs.redact_lines("said.jsonl"))
        [Redacted(redacted='call [CONTACT]', label='CALL_CONTACT')]

    Args:
      source: a UTF-8 file of objects with "text" and, where there are any, "contacts" and "region";
        "-" for standard input.

    Raises:
      FedspeechError: if a line is no such object, with its number and never with its text.
      OSError: if the file cannot be read.
    """
    kept: tuple[Any, Redactor] | None = None
    with _opened(source) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                text, contacts, region = _read(line)
                if kept is None or kept[0] != (contacts, region):
                    kept = (contacts, region), _redactor(contacts, region)
            except ValueError as error:
                raise FedspeechError(f"line {number}: {error}") from None
            yield kept[1].redact(text)


def _opened(source: str | Path) -> IO[bytes]:
    if str(source) == _STDIN:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return Path(source).open("rb")


def _redactor(contacts: list[str], region: str | None) -> Redactor:
    from fedspeech.device.redaction.redactor import Redactor

    return Redactor(contacts, region)


def _read(line: bytes) -> tuple[str, list[str], str | None]:
    """The fields of one line; what is said of a bad one holds nothing that it said."""
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"must be an object, got {type(found).__name__}")
    if unknown := len(found.keys() - set(_FIELDS)):
        raise ValueError(f"may have the fields {', '.join(_FIELDS)}, and has {unknown} other")
    text, contacts, region = found.get("text"), found.get("contacts"), found.get("region")
    if not isinstance(text, str):
        raise ValueError(f"`text` must be a string, got {type(text).__name__}")
    contacts = [] if contacts is None else contacts
    if not isinstance(contacts, list) or not all(isinstance(name, str) for name in contacts):
        raise ValueError("`contacts` must be a list of strings")
    if not isinstance(region, str | None):
        raise ValueError(f"`region` must be a string, got {type(region).__name__}")
    return text, contacts, region

"""Rules about people: who they are, what they said, and figures of too few of them."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedspeech.device.redaction.redactor import Redactor
from fedspeech.sharing.finding import Candidate, Found
from fedspeech.sharing.schema import OBSERVED, ONE_PERSON, PEOPLE, TOTALS

_RATE = re.compile(
    r"(?:^|_)(?:accuracy|rate|share|fraction|percent|percentage|ratio|wer|cer|eer|frr|far|fnr|fpr|"
    r"precision|recall|f1|auc|mean|median|average|proportion)(?:$|_(?!hz))", re.I,
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\[([A-Z_]+)\]")
_OF_A_PERSON = frozenset(("PHONE", "EMAIL", "ADDRESS", "CARD", "ACCOUNT", "SECRET"))
"""Numbers of a file, such as digests, look like ids and places: the registry names real ones."""
_DIGEST = re.compile(r"[0-9a-f]{32,}")
_STARTS = re.compile(
    r"(?:\d[ ().-]*){7}|@|\bdot\b|(?:\b(?:one|two|three|four|five|six|seven|eight|nine|zero|oh|"
    r"double|triple)\b[ -]*){3}|\b(?:password|passcode|pass|pin|code|secret|key|street|st|road|rd|"
    r"avenue|lane|drive|way|apartment|flat|account|iban|card)\b", re.I,
)  # fmt: skip
_HEX = re.compile(r"[0-9a-f]{12,}", re.I)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256")


def identity(shared: Candidate) -> Found:
    """Nobody of the registry by name or id, however it is spelled, nor by an unsalted hash."""
    people, digests = _registry(shared.policy.identities)
    if not people:
        return
    for where, text in shared.artifact.strings():
        if any(window in people for window in _windows(text, max(map(len, people)))):
            yield where, "somebody of the registry of identities"
        if any(found[0][:12].lower() in digests for found in _HEX.finditer(text)):
            yield where, "an unsalted hash of somebody in the registry of identities"


def private_transcript(shared: Candidate) -> Found:
    """No three words in a row that somebody said."""
    said = _trigrams(shared.policy.transcripts)
    if not said:
        return
    for where, text in shared.artifact.strings():
        if not said.isdisjoint(_of_three(text)):
            yield where, "three words in a row that stand in a private transcript"


def personal_text(shared: Candidate) -> Found:
    """No telephone number, e-mail, address, card, account or secret of anybody."""
    redactors = [Redactor(shared.policy.identities, region) for region in shared.policy.regions]
    for where, text in shared.artifact.strings():
        if not _worth_reading(text):
            continue
        found = {
            name
            for redactor in redactors
            for name in _PLACEHOLDER.findall(redactor.redact(text).redacted)
            if name in _OF_A_PERSON and f"[{name}]" not in text
        }
        for name in sorted(found):
            yield where, f"what a phone redacts as {name}"


def small_cell(shared: Candidate) -> Found:
    """No figure of fewer people than the policy's `k_min`."""
    for where, row in shared.artifact.objects():
        for key, value in row.items():
            if key.lower() in PEOPLE and _number(value) and value < shared.policy.k_min:
                yield (
                    f"{where}.{key}".lstrip("."),
                    (f"a figure must be of at least {shared.policy.k_min} people"),
                )
    if shared.manifest and shared.manifest.contributors < shared.policy.k_min:
        yield (
            "manifest.contributors",
            (
                f"at least {shared.policy.k_min} people must stand behind an artifact, "
                f"got {shared.manifest.contributors}"
            ),
        )


def cell_by_subtraction(shared: Candidate) -> Found:
    """No withheld or missing cell that follows from published ones."""
    for where, rows in shared.artifact.tables():
        for key in sorted({key for row in rows for key in row if key.lower() in PEOPLE}):
            yield from _by_subtraction(f"{where}[].{key}", rows, key, shared.policy.k_min)
    for where, found in shared.artifact.objects():
        totals = [key for key in found if key.lower() in TOTALS and _number(found[key])]
        parts = [value for key, value in found.items() if key not in totals]
        if len(totals) == 1 and len(parts) > 1 and all(v is None or _number(v) for v in parts):
            rows = [{"part": key, "people": value} for key, value in found.items()]
            yield from _by_subtraction(where or "document", rows, "people", shared.policy.k_min)


def rate_without_count(shared: Candidate) -> Found:
    """No rate without the number of people or observations behind it."""
    for where, row in shared.artifact.objects():
        counted = {key.lower() for key, value in row.items() if _number(value)}
        is_rate = row.get("unit") in {"share", "probability", "%"} and _number(row.get("value"))
        rates = [key for key in row if _RATE.search(key) and _number(row[key])]
        if (is_rate or rates) and counted.isdisjoint(OBSERVED):
            yield (
                f"{where}.{rates[0] if rates else 'value'}".lstrip("."),
                ("a rate must stand beside the number of people or observations behind it"),
            )


def row_per_person(shared: Candidate) -> Found:
    """No table with a row for each person."""
    people = shared.manifest.contributors if shared.manifest else 0
    for where, rows in shared.artifact.tables():
        named = sorted(key for key in rows[0] if key.lower() in ONE_PERSON)
        if named:
            yield f"{where}[].{named[0]}", "rows of single people"
        elif len(rows) > 1 and len(rows) == people:
            yield where, f"one row for each of {people} contributors"
    for where, row in shared.artifact.objects():
        for key in row if "[" not in where else ():
            if key.lower() in ONE_PERSON:
                yield f"{where}.{key}".lstrip("."), "a figure of one person"


def _by_subtraction(where: str, rows: Sequence[Mapping[str, Any]], key: str, k_min: int) -> Found:
    """Sums in which one unknown is left, or too few people."""
    names = [
        name for name in rows[0]
        if all(row.get(name) is None or isinstance(row.get(name), str) for row in rows)
    ]  # fmt: skip
    cells = {tuple(_part(row.get(name)) for name in names): row.get(key) for row in rows}
    equations, hidden = [], [cell for cell, value in cells.items() if value is None]
    for total, value in cells.items():
        for place, part in enumerate(total):
            if part is not None:
                continue
            parts = [
                cell for cell in cells
                if cell[place] is not None and _without(cell, place) == _without(total, place)
            ]  # fmt: skip
            if not parts:
                continue
            known = sum(count for cell in parts if (count := cells[cell]) is not None)
            unknown = [cell for cell in parts if cells[cell] is None]
            equations.append([(cell in unknown) - (cell == total) for cell in hidden])
            left = None if value is None else value - known
            if left is not None and 0.5 < abs(left) < k_min:
                yield (
                    where,
                    (
                        f"{'withheld' if unknown else 'missing'} parts of a total have fewer than "
                        f"{k_min} people together, by subtraction"
                    ),
                )
    if hidden and equations:
        for cell in _determined(np.array(equations, dtype=np.float64)):
            named = ", ".join(part or "all" for part in hidden[cell])
            yield where, f"the withheld cell ({named}) follows from published ones"


def _determined(equations: np.ndarray[Any, Any]) -> Iterator[int]:
    """Unknowns that a system of equations fixes: those in which no solution of zero moves."""
    _, sizes, rows = np.linalg.svd(equations)
    free = rows[int(np.sum(sizes > 1e-9)) :]
    for place in range(equations.shape[1]):
        if np.abs(free[:, place]).max(initial=0.0) < 1e-9:
            yield place


def _part(value: str | None) -> str | None:
    """A value of a column; None where the row is of all."""
    return None if value is None or value.strip().lower() in TOTALS else value


def _without(cell: tuple[str | None, ...], place: int) -> tuple[str | None, ...]:
    return cell[:place] + cell[place + 1 :]


def _number(value: object) -> bool:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _worth_reading(text: str) -> bool:
    """Whether a text has what redaction starts from; digests have none of it."""
    return len(text) > 5 and not _DIGEST.fullmatch(text) and bool(_STARTS.search(text))


def _squashed(text: str) -> list[str]:
    """Words without case, accents, zero-width characters and other spellings of the same letter."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
    kept = (char for char in plain if unicodedata.category(char) not in {"Mn", "Cf"})
    return re.findall(r"[^\W_]+", "".join(kept).casefold())


def spelled_together(text: str) -> str:
    """A name without case, accents, separators and hidden characters."""
    return "".join(_squashed(text))


def _windows(text: str, longest: int) -> Iterator[str]:
    """Words in a row, written as one, and every word with digits cut where letters end."""
    words = _squashed(text)
    for start in range(len(words)):
        joined = ""
        for word in words[start:]:
            joined += word
            if len(joined) > longest:
                break
            yield joined
    for word in words:
        pieces = re.findall(r"\d+|[^\W\d_]+", word)
        for start in range(len(pieces) if len(pieces) > 1 else 0):
            for end in range(start + 1, len(pieces) + 1):
                yield "".join(pieces[start:end])


@functools.lru_cache(maxsize=8)
def _registry(identities: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Squashed identities, and the first 12 digits of their unsalted hashes."""
    squashed = {spelled_together(each) for each in identities}
    spelled = {form for each in identities for form in (each, each.lower(), each.upper())}
    digests = {
        hashlib.new(name, form.encode()).hexdigest()[:12]
        for form in spelled | squashed
        for name in _HASHES
    }
    return frozenset(each for each in squashed if len(each) >= 2), frozenset(digests)


@functools.lru_cache(maxsize=8)
def _trigrams(transcripts: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return trigrams_of(transcripts)


def trigrams_of(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Three words in a row, of every text."""
    return frozenset(three for text in texts for three in _of_three(text))


def _of_three(text: str) -> Iterator[tuple[str, ...]]:
    words = [word.casefold().replace("’", "'") for word in _WORD.findall(text.replace("_", " "))]
    yield from zip(words, words[1:], words[2:], strict=False)

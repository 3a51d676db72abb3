"""Rules about people: who they are, what they said, and figures of too few of them."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from fedspeech.device.redaction.redactor import Redactor
from fedspeech.errors import require
from fedspeech.sharing.artifact import BETWEEN, Sought, columns_of, folded
from fedspeech.sharing.cells import cells_of, followed
from fedspeech.sharing.finding import Candidate, Found
from fedspeech.sharing.schema import OBSERVED, ONE_PERSON, PEOPLE, TOTALS

_RATE = re.compile(
    r"(?:^|_)(?:accuracy|rate|share|fraction|percent|percentage|ratio|wer|cer|eer|frr|far|fnr|fpr|"
    r"precision|recall|f1|auc|mean|median|average|proportion)(?:$|_(?!hz))", re.I,
)  # fmt: skip
_PLACEHOLDER = re.compile(r"\[([A-Z_]+)\]")
_OF_A_PERSON = frozenset(("PHONE", "EMAIL", "ADDRESS", "CARD", "ACCOUNT", "SECRET"))
"""Numbers of a file, such as digests, look like ids and places: the registry names real ones."""
_DIGEST = re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{12,}\b")
_DIGITS = frozenset(
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero", "oh",
     "double", "triple")
)  # fmt: skip
_TELLING = frozenset(
    ("password", "passcode", "pass", "pin", "code", "secret", "key", "street", "st", "road", "rd",
     "avenue", "lane", "drive", "way", "apartment", "flat", "account", "iban", "card")
)  # fmt: skip
_STARTS = (
    Sought(re.compile(r"(?:\d[ ().-]*){7}")),
    Sought(re.compile("@"), parts=("@",)),
    Sought(re.compile(r"\bdot\b", re.I), words=frozenset(("dot",))),
    Sought(re.compile(rf"(?:\b(?:{'|'.join(sorted(_DIGITS))})\b[ -]*){{3}}", re.I), words=_DIGITS),
    Sought(re.compile(rf"\b(?:{'|'.join(sorted(_TELLING))})\b", re.I), words=_TELLING),
)
"""What redaction starts from; texts without are not read closely."""
_HEX = Sought(re.compile(r"[0-9a-f]{12,}", re.I))
_WORD = re.compile(rf"[^\W_]+(?:['’][^\W_]+)*|{BETWEEN}")
_MOST_UNKNOWN = 2000
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256")


def identity(shared: Candidate) -> Found:
    """Nobody of the registry by name or id, however it is spelled, nor by an unsalted hash."""
    people, begun, digests = _registry(shared.policy.identities)
    if not people:
        return
    words, strings = shared.artifact.joined.words, tuple(shared.artifact.strings())
    for place in words.texts_of(sorted(_naming(words.row, people, begun))):
        yield strings[place][0], "somebody of the registry of identities"
    for where, text in shared.artifact.strings(_HEX):
        if any(found[0][:12].lower() in digests for found in _HEX.pattern.finditer(text)):
            yield where, "an unsalted hash of somebody in the registry of identities"


def private_transcript(shared: Candidate) -> Found:
    """No three words in a row that somebody said."""
    said = _trigrams(shared.policy.transcripts)
    words = _words(shared.artifact.joined.text) if said else []
    if said.isdisjoint(zip(words, words[1:], words[2:], strict=False)):
        return
    strings = tuple(shared.artifact.strings())
    for place in dict.fromkeys(
        words[:start].count(BETWEEN)
        for start, three in enumerate(zip(words, words[1:], words[2:], strict=False))
        if three in said
    ):
        yield strings[place][0], "three words in a row that stand in a private transcript"


def personal_text(shared: Candidate) -> Found:
    """No telephone number, e-mail, address, card, account or secret of anybody."""
    redactors = [_redactor(shared.policy.identities, region) for region in shared.policy.regions]
    for where, whole in shared.artifact.strings(*_STARTS):
        text = _DIGEST.sub(" ", whole)
        if len(text) < 6:
            continue
        found = {
            name
            for redactor in redactors
            for said in _said(text)
            for name in _PLACEHOLDER.findall(redactor.redact(said).redacted)
            if name in _OF_A_PERSON and f"[{name}]" not in text
        }
        for name in sorted(found):
            yield where, f"what a phone redacts as {name}"


def small_cell(shared: Candidate) -> Found:
    """No figure of fewer people than the policy's `k_min`."""
    for where, row, keys in shared.artifact.objects_with(_counts_people):
        for key in keys:
            if _number(row[key]) and row[key] < shared.policy.k_min:
                yield (
                    f"{where}.{key}".lstrip("."),
                    (f"a figure must be of at least {shared.policy.k_min} people"),
                )
    for where, rows in shared.artifact.shown:
        for number, shown in enumerate(rows, 1):
            for key, text in shown.items():
                plain = text.strip().replace(",", "")
                if _counts_people(key) and plain.isdecimal() and int(plain) < shared.policy.k_min:
                    yield (
                        f"{where}, row {number}, {key}",
                        f"a figure must be of at least {shared.policy.k_min} people",
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
        for key in sorted(filter(_counts_people, columns_of(rows))):
            yield from _by_subtraction(f"{where}[].{key}", rows, key, shared.policy.k_min)
    for where, found, keys in shared.artifact.objects_with(lambda key: key.lower() in TOTALS):
        totals = [key for key in keys if _number(found[key])]
        parts = [value for key, value in found.items() if key not in totals]
        if len(totals) == 1 and len(parts) > 1 and all(v is None or _number(v) for v in parts):
            rows = [{"part": key, "people": value} for key, value in found.items()]
            yield from _by_subtraction(where or "document", rows, "people", shared.policy.k_min)
    for release in cells_of(shared.artifact):
        yield from followed(release, shared.policy.k_min)


def rate_without_count(shared: Candidate) -> Found:
    """No rate without the number of people or observations behind it."""
    for where, row, keys in shared.artifact.objects_with(_tells_a_rate):
        is_rate = row.get("unit") in {"share", "probability", "%"} and _number(row.get("value"))
        rates = [
            key for key in keys if key != "unit" and _number(row[key]) and not _counts(row, key)
        ]
        if not is_rate and not rates:
            continue
        if not any(key.lower() in OBSERVED and _number(row[key]) for key in row):
            yield (
                f"{where}.{rates[0] if rates else 'value'}".lstrip("."),
                ("a rate must stand beside the number of people or observations behind it"),
            )


def row_per_person(shared: Candidate) -> Found:
    """No table with a row for each person."""
    people = shared.manifest.contributors if shared.manifest else 0
    for where, rows in shared.artifact.tables():
        named = sorted(
            key for key in columns_of(rows)
            if key.lower() in ONE_PERSON and any(row.get(key) is not None for row in rows)
        )  # fmt: skip
        if named:
            yield f"{where}[].{named[0]}", "rows of single people"
        elif len(rows) > 1 and len(rows) == people:
            yield where, f"one row for each of {people} contributors"
    for where, row, keys in shared.artifact.objects_with(lambda key: key.lower() in ONE_PERSON):
        for key in keys if "[" not in where else ():
            if row[key] is None:
                continue
            yield f"{where}.{key}".lstrip("."), "a figure of one person"


def _by_subtraction(where: str, rows: Sequence[Mapping[str, Any]], key: str, k_min: int) -> Found:
    """Sums in which one unknown is left, or too few people."""
    columns = columns_of(rows)
    names = [
        name
        for name in columns
        if {str, type(None)}.issuperset(type(row.get(name)) for row in rows)
    ]
    for table in _tables(rows, names, columns):
        cells = {tuple(_part(row.get(name)) for name in names): row.get(key) for row in table}
        yield from _of_totals(where, cells, k_min)


def _tables(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], columns: Sequence[str]
) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Rows in which no cell stands twice: of one round each, and as they come."""
    cells = [tuple(row.get(name) for name in names) for row in rows]
    if len(set(cells)) == len(cells):
        yield rows
        return
    whole = [
        name for name in columns
        if name.lower() not in OBSERVED and {type(row.get(name)) for row in rows} == {int}
    ]  # fmt: skip
    for when in ([tuple(row[name] for name in whole) for row in rows], [()] * len(rows)):
        apart: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        times = Counter[Any]()
        for row, cell, at in zip(rows, cells, when, strict=True):
            apart[at, times[at, cell]].append(row)
            times[at, cell] += 1
        yield from apart.values()


def _of_totals(where: str, cells: Mapping[tuple[str | None, ...], Any], k_min: int) -> Found:
    """What follows from totals of one table; a part of a cell is None where it is of all."""
    parts_of = defaultdict(list)
    for cell in cells:
        for place, part in enumerate(cell):
            if part is not None:
                parts_of[place, _without(cell, place)].append(cell)
    equations = []
    for total, value in cells.items():
        for place, part in enumerate(total):
            parts = parts_of.get((place, _without(total, place)), ()) if part is None else ()
            if not parts:
                continue
            unknown = [cell for cell in parts if cells[cell] is None]
            if value is None or unknown:
                equations.append((unknown, (total,) if value is None else ()))
            if value is None:
                continue
            left = value - sum(cells[cell] for cell in parts if cells[cell] is not None)
            if 0.5 < abs(left) < k_min:
                yield (
                    where,
                    (
                        f"{'withheld' if unknown else 'missing'} parts of a total have fewer than "
                        f"{k_min} people together, by subtraction"
                    ),
                )
    for cell in _determined(equations):
        named = ", ".join(part or "all" for part in cell)
        yield where, f"the withheld cell ({named}) follows from published ones"


_Equation = tuple[Sequence[tuple[str | None, ...]], Sequence[tuple[str | None, ...]]]


def _determined(equations: Sequence[_Equation]) -> Iterator[tuple[str | None, ...]]:
    """Unknowns that equations fix: those in which no solution of zero moves.

    Equations that share no unknown are solved apart.
    """
    cells = list(dict.fromkeys(cell for one, other in equations for cell in (*one, *other)))
    if not cells:
        return
    place = {cell: number for number, cell in enumerate(cells)}
    signs = [(number, place[cell], sign) for number, (parts, totals) in enumerate(equations)
             for sign, side in ((1.0, parts), (-1.0, totals)) for cell in side]  # fmt: skip
    rows, columns, values = (np.array(each) for each in zip(*signs, strict=True))
    system = sparse.csr_array((values, (rows, columns)), shape=(len(equations), len(cells)))
    _, part = sparse.csgraph.connected_components(abs(system).T @ abs(system), directed=False)
    for members in np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part))[:-1]):
        require(len(members) <= _MOST_UNKNOWN, "too many withheld cells hang together to be read",
                cells=len(members), most=_MOST_UNKNOWN)  # fmt: skip
        dense = system[:, members].toarray()
        _, sizes, solutions = np.linalg.svd(dense[np.any(dense, axis=1)])
        free = solutions[int(np.sum(sizes > 1e-9)) :]
        moves = np.abs(free).max(axis=0, initial=0.0)
        yield from (cells[member] for member, by in zip(members, moves, strict=True) if by < 1e-9)


@functools.lru_cache(maxsize=4096)
def _part(value: str | None) -> str | None:
    """A value of a column; None where the row is of all."""
    return None if value is None or value.strip().lower() in TOTALS else value


def _without(cell: tuple[str | None, ...], place: int) -> tuple[str | None, ...]:
    return cell[:place] + cell[place + 1 :]


def _number(value: object) -> bool:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@functools.lru_cache(maxsize=4096)
def _counts_people(key: str) -> bool:
    return key.lower() in PEOPLE


@functools.lru_cache(maxsize=4096)
def _tells_a_rate(key: str) -> bool:
    """Whether a key names a rate, or the unit of a value that may be one."""
    return key == "unit" or bool(_RATE.search(key))


def _counts(row: Mapping[str, Any], key: str) -> bool:
    """Whether a number under a key counts an operator of a graph, as MEAN is the name of one."""
    return key.isupper() and type(row[key]) is int


def _said(text: str) -> Iterator[str]:
    """A text; of code its comments, literals and names, each alone: slices are no addresses."""
    if "def " not in text:
        yield text
        return
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        yield text
        return
    yield from (token.string for token in tokens if token.type in _READ_IN_CODE)


_READ_IN_CODE = frozenset((tokenize.COMMENT, tokenize.STRING, tokenize.NUMBER, tokenize.NAME))


@functools.lru_cache(maxsize=8)
def _redactor(identities: tuple[str, ...], region: str) -> Redactor:
    return Redactor(identities, region)


def spelled_together(text: str) -> str:
    """A name without case, accents, separators and hidden characters."""
    return "".join(re.findall(r"[^\W_]+", folded(text)))


def _naming(words: Sequence[str], people: frozenset[str], begun: frozenset[str]) -> Iterator[int]:
    """Places of words from which on words in a row, written as one, are somebody.

    Words with digits are cut where letters end, and their pieces are looked at alike.

    Args:
      words: of texts, folded.
      people: names, spelled together.
      begun: what any of them begins with.
    """
    for start in [place for place, word in enumerate(words) if word in begun]:
        if _somebody(words, start, people, begun):
            yield start
    mixed = (place for place, word in enumerate(words) if not (word.isalpha() or word.isdecimal()))
    for start in mixed:
        pieces = re.findall(r"\d+|[^\W\d_]+", words[start])
        if len(pieces) > 1 and any(
            piece in begun and _somebody(pieces, place, people, begun)
            for place, piece in enumerate(pieces)
        ):
            yield start


def _somebody(
    words: Sequence[str], start: int, people: frozenset[str], begun: frozenset[str]
) -> bool:
    """Whether words from a place on, written as one, are somebody."""
    together = ""
    for place in range(start, len(words)):
        together += words[place]
        if together in people:
            return True
        if together not in begun:
            return False
    return False


@functools.lru_cache(maxsize=8)
def _registry(
    identities: tuple[str, ...],
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Identities, spelled together; what they begin with; starts of their unsalted hashes."""
    squashed = {spelled_together(each) for each in identities}
    spelled = {form for each in identities for form in (each, each.lower(), each.upper())}
    digests = {
        hashlib.new(name, form.encode()).hexdigest()[:12]
        for form in spelled | squashed
        for name in _HASHES
    }
    people = frozenset(each for each in squashed if len(each) >= 2)
    begun = frozenset(each[:end] for each in people for end in range(1, len(each) + 1))
    return people, begun, frozenset(digests)


@functools.lru_cache(maxsize=8)
def _trigrams(transcripts: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return trigrams_of(transcripts)


def trigrams_of(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Three words in a row, of every text."""
    return frozenset(three for text in texts for three in _of_three(text))


def _of_three(text: str) -> Iterator[tuple[str, ...]]:
    words = _words(text)
    yield from zip(words, words[1:], words[2:], strict=False)


def _words(text: str) -> list[str]:
    """Words as they are said, and what stands between texts."""
    found = _WORD.findall(text.replace("_", " "))
    return " ".join(found).casefold().replace("’", "'").split(" ") if found else []

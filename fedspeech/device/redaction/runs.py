"""Numbers that are said or written in one breath, as digits.

"five five five double oh seven" is the run 555007, "twenty one" 21, "eight hundred five five five"
800555, "two hundred and five" the cardinal 205.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedspeech.device.redaction.draft import Draft
from fedspeech.device.redaction.vocabulary import FILLERS, REPEATS, compound_numbers, number_words

_BETWEEN_WORDS = re.compile(r"[ \-,.()/]{0,4}")
_BETWEEN_DIGITS = re.compile(r"[ \-.()/]{0,4}")
_ORDINALS = frozenset({"st", "nd", "rd", "th"})
_BEFORE_A_SCALE = frozenset({"a", "couple", "few", "several", "of"})
_MOST_GROUPS = 48  # so that a rule that asks at every word takes time that grows with the text
_SILENT = FILLERS | {"dash", "hyphen", "space", "bindestrich", "tiret"}


@dataclass(frozen=True)
class Run:
    """Numbers beside one another.

    Attributes:
      first: its first word in the draft.
      after: the word behind its last.
      groups: digits as they were grouped: ("20", "25") for "twenty twenty five".
      cardinal: it is one quantity, or holds a thousand or more by name.
      written: its digits are written as digits.
    """

    first: int
    after: int
    groups: tuple[str, ...]
    cardinal: bool
    written: bool

    @property
    def digits(self) -> str:
        """All of its digits."""
        return "".join(self.groups)


def runs(draft: Draft, start: int = 0) -> Iterator[Run]:
    """Runs of open words, in order."""
    index = start
    while index < len(draft.words):
        run = run_at(draft, index)
        if run:
            yield run
        index = run.after if run else index + 1


def run_at(draft: Draft, first: int) -> Run | None:
    """The longest run that begins at a word, or None."""
    groups: list[str] = []
    large, written, index, after = False, False, first, first
    while len(groups) < _MOST_GROUPS and (one := _group_at(draft, index)) is not None:
        digits, behind, is_large = one
        groups.append(digits)
        large, written = large or is_large, written or draft.word(index).isdigit()
        after = index = behind
        while draft.word(index) in _SILENT and index < after + 2:  # "five five, um, five"
            index += 1
        if not all(_flows(draft, place) for place in range(after - 1, index)):
            break
    if not groups:
        return None
    whole = large or (len(groups) == 1 and not written)
    return Run(first, after, tuple(groups), whole, written)


def is_number(draft: Draft, index: int) -> bool:
    """Whether an open word is a number, or begins one."""
    return _group_at(draft, index) is not None


def _flows(draft: Draft, index: int) -> bool:
    """Whether one breath leads from a word to the next."""
    gap = draft.gap(index)
    digits = draft.word(index), draft.word(index + 1)
    both = all(word.isdigit() for word in digits) and max(map(len, digits)) > 1
    return bool((_BETWEEN_DIGITS if both else _BETWEEN_WORDS).fullmatch(gap))


def _group_at(draft: Draft, index: int) -> tuple[str, int, bool] | None:
    """Digits of one number, the word behind it, and whether it names thousands."""
    if not draft.is_open_word(index):
        return None
    word = draft.word(index)
    if word in REPEATS:
        value = _value(draft, index + 1)
        single = value is not None and value < 10
        return (str(value) * REPEATS[word], index + 2, False) if single else None
    if word.isdigit():
        if draft.is_glued(index) and draft.word(index + 1) in _ORDINALS:
            return None
        large = _value(draft, index + 1) or 0
        if large >= 100 and not draft.word(index + 1).isdigit():
            return _scaled(draft, int(word[:18]), index + 1)
        return word, index + 1, False
    whole = compound_numbers(draft.region).get(word)
    value = _value(draft, index)
    if value is None and whole is not None:
        return str(whole), index + 1, whole >= 1000
    if value is None:
        return None
    if value >= 100:  # "hundred": a number only behind another, or "a", or "couple"
        return _scaled(draft, 1, index) if draft.word(index - 1) in _BEFORE_A_SCALE else None
    value, behind = _below_hundred(draft, index)
    if (_value(draft, behind) or 0) >= 100 and _flows(draft, behind - 1):
        return _scaled(draft, value, behind)
    return str(value), behind, False


def _scaled(draft: Draft, value: int, index: int) -> tuple[str, int, bool]:
    """A number before "hundred", "thousand" and so on, with what belongs to it."""
    total, large = 0, False
    while (scale := _value(draft, index) or 0) >= 100 and not draft.word(index).isdigit():
        if scale == 100:
            value *= scale
        else:
            total, value, large = total + value * scale, 0, True
        index += 1
        skip = index + 1 if draft.word(index) == "and" else index
        if _continues(draft, skip, explicit=skip > index):
            more, index = _below_hundred(draft, skip)
            value += more
    return str(total + value), index, large


def _continues(draft: Draft, index: int, *, explicit: bool) -> bool:
    """Whether a number below hundred ends a larger one and does not begin a string of digits."""
    value = _value(draft, index)
    if value is None or value >= 100 or draft.word(index).isdigit():
        return False
    _, behind = _below_hundred(draft, index)
    follows = _value(draft, behind)
    return explicit or value >= 10 or (value > 0 and (follows is None or follows >= 100))


def _below_hundred(draft: Draft, index: int) -> tuple[int, int]:
    """As in "twenty" and "twenty one"; in French also "soixante douze", "quatre vingt dix"."""
    value = _value(draft, index) or 0
    behind = index + 1
    if value == 4 and draft.word(behind) in ("vingt", "vingts"):
        value, behind = 80, behind + 1
    if value < 20 or value % 10:
        return value, behind
    if draft.word(behind) == "et" and (_value(draft, behind + 1) or 0) in (1, 11):
        behind += 1
    unit = _value(draft, behind) or 0
    last = 19 if value in (60, 80) and draft.word(index) in ("soixante", "quatre") else 9
    if draft.word(behind).isdigit() or not _flows(draft, behind - 1) or not 0 < unit <= last:
        return value, behind
    if unit == 10 and 7 <= (_value(draft, behind + 1) or 0) <= 9:  # soixante dix sept
        return value + 10 + (_value(draft, behind + 1) or 0), behind + 2
    return value + unit, behind + 1


def _value(draft: Draft, index: int) -> int | None:
    """What a single open word is worth."""
    if not draft.is_open_word(index):
        return None
    word = draft.word(index)
    if word.isdigit():
        return int(word[:18])
    return number_words(draft.region).get(word)

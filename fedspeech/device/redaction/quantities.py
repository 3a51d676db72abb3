"""Sums of money, which go, and quantities, dates and times, which stay."""

from __future__ import annotations

import re

from phonenumbers.shortnumberinfo import is_emergency_number

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.runs import Run, run_at, runs
from fedspeech.device.redaction.vocabulary import listed, words

_CURRENCIES = words("currencies")
_CODES = "usd|eur|gbp|inr|chf|jpy|cad|aud|rs|₹"
_SIGN = "[$€£¥₹]"
_NUMBER = r"\d{1,15}(?:[.,' ]\d{2,3}(?!\d)){0,5}(?:\.\d{1,2})?"
_SCALE = r"(?:\s?(?:k|m|bn|thousand|million|billion|lakhs?|crores?|mio|tsd)\b)?"
_AMOUNT = re.compile(
    rf"{_SIGN}\s?{_NUMBER}{_SCALE}|\b(?:{_CODES})\.?\s?{_NUMBER}{_SCALE}"
    rf"|(?<![\d.,]){_NUMBER}{_SCALE}\s?(?:{_SIGN}|(?:usd|eur|gbp|inr|chf)\b)"
)
_STAYS = re.compile(
    r"(?<![\d.-])(?:"
    r"\d{4}([-/.])[01]?\d\1[0-3]?\d(?:t\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:z|[+-]\d{2}:?\d{2})?)?"
    r"|[0-3]?\d([-/.])[0-3]?\d\2(?:\d{4}|\d{2})"  # dates
    r"|\d{1,2}[:h.]\d{2}(?::\d{2})?\s?(?:am|pm|uhr|a\.m|p\.m)\b|\d{1,2}:\d{2}(?::\d{2})?"  # times
    r"|\d{1,2}/\d{1,4}"
    r"|[1-9]\d{0,2}(?:,\d{3}){1,5}(?:\.\d{1,9})?|[1-9]\d{0,2}(?:\.\d{3}){2,5}(?:,\d{1,9})?"
    r"|\d{1,9}[.,]\d{1,40}"  # thousands and decimals
    r")(?!\d|[-.,/:]\d)"
)
_UNITS = words("quantity units")
_CUES = words("quantity cues")
_MONTHS = words("months")
_SKIPPED = frozenset({"to", "at", "of", "the", "is", "by", "number", "on", "in", "auf", "a", "um"})
_OPERATORS = listed(
    """times plus minus divided multiplied percent over squared cubed mod root prozent"""
)
_SIGNS = re.compile(r"\s*[%°×*=^]")
_POUNDS = frozenset({"pound", "pounds"})
_OF_WEIGHT = listed("""weigh weighs weighed weight lose lost gain gained lift lifted heavy""")
_PAYING = listed(
    """pay paid pays transfer venmo paypal zelle owe owes lend wire gpay paytm phonepe bezahl
    uberweise"""
)
_COUNTING = frozenset({"count", "counting", "countdown"})
_MOST_QUANTITY = 6  # digits of what is said digit by digit and still is a quantity
# Everywhere: numbers of help that a phone dials in any country, and lines for people in crisis.
EMERGENCY = listed(
    """911 112 999 000 110 119 111 101 100 102 103 108 1091 1098 115 114 15 17 18 116000 116006
    116111 116117 116123 3919 181 988 933 995 118 117 122 190 192 193 194 105"""
)


def is_emergency(digits: str, region: str | None) -> bool:
    """Whether digits reach help: in this region, or nearly everywhere."""
    return digits in EMERGENCY or bool(region and is_emergency_number(digits, region))


def amounts(draft: Draft) -> None:
    """Takes sums of money with a sign, a currency, or where somebody pays."""
    for found in _AMOUNT.finditer(draft.text):
        start, end = found.span()
        while end < len(draft.text) and draft.text[end - 1] in " .,":
            end -= 1
        draft.take(start, end, Kind.AMOUNT)
    for run in list(runs(draft)):
        if draft.is_open_word(run.first):
            _amount(draft, run)


def quantities(draft: Draft) -> None:
    """Keeps dates, times, decimals, and numbers with a unit or beside what is set or counted."""
    for found in _STAYS.finditer(draft.text):
        if draft.is_open(*found.span()) and not _is_dialed(draft, found.start()):
            draft.keep(*found.span())
    _decimals(draft)
    for run in list(runs(draft)):
        if _is_quantity(draft, run):
            draft.keep_words(run.first, run.after)


def _amount(draft: Draft, run: Run) -> None:
    after = _fraction(draft, run.after)
    unit = draft.word(after)
    if unit in _CURRENCIES and not draft.ends_sentence(after - 1):
        if unit in _POUNDS and _is_weight(draft, run, after):
            draft.keep_words(run.first, after + 1)
            return
        after = _rest_of_amount(draft, after + 1)
        draft.take_words(_before_amount(draft, run.first), after, Kind.AMOUNT)
    elif len(run.digits) <= _MOST_QUANTITY and unit not in _UNITS and _is_paid(draft, run):
        draft.take_words(run.first, after, Kind.AMOUNT)


def _fraction(draft: Draft, after: int) -> int:
    """The word behind "point five million" and the like."""
    if draft.word(after) in ("point", "komma", "virgule") and (run := run_at(draft, after + 1)):
        after = run.after
    if draft.word(after) in (
        "hundred",
        "thousand",
        "million",
        "billion",
        "k",
        "m",
        "lakh",
        "crore",
    ):
        after += 1
    return after


def _rest_of_amount(draft: Draft, after: int) -> int:
    """The word behind "and twenty cents", or behind the "fifty" of "two dollars fifty"."""
    start = after + 1 if draft.word(after) == "and" else after
    run = run_at(draft, start)
    if run is None or draft.ends_sentence(after - 1):
        return after
    if draft.word(run.after) in _CURRENCIES:
        return run.after + 1
    return run.after if start == after and len(run.digits) == 2 else after


def _before_amount(draft: Draft, first: int) -> int:
    """The word "minus" or a currency before a number."""
    return first - 1 if draft.word(first - 1) in ("minus", "rs", "rupees") else first


def _is_weight(draft: Draft, run: Run, unit: int) -> bool:
    before = {draft.word(index) for index in range(run.first - 4, run.first)}
    return draft.word(unit + 1) == "of" or bool(before & _OF_WEIGHT)


def _is_paid(draft: Draft, run: Run) -> bool:
    if draft.word(run.first - 1) in ("send", "give") and draft.word(run.after) == "to":
        return True
    for index in range(run.first - 1, max(run.first - 6, -1), -1):
        if draft.ends_sentence(index):
            return False
        if draft.word(index) in _PAYING:
            return True
    return False


def _decimals(draft: Draft) -> None:
    """Keeps "three point one four"."""
    for run in list(runs(draft)):
        points = draft.word(run.after) in ("point", "komma", "virgule", "dot", "decimal")
        if points and (behind := run_at(draft, run.after + 1)) and draft.is_open_word(run.first):
            draft.keep_words(run.first, behind.after)


def _is_quantity(draft: Draft, run: Run) -> bool:
    if not draft.is_open_word(run.first):
        return False
    if is_emergency(run.digits, draft.region):
        draft.emergencies.add(run.first)
        return True
    if _is_date(draft, run):
        return True
    if draft.word(run.first - 1) in _COUNTING:
        return True
    if len(run.digits) > _MOST_QUANTITY and not run.cardinal:
        return False
    return _has_unit(draft, run) or _has_cue(draft, run.first) or _is_calculated(draft, run)


def _has_unit(draft: Draft, run: Run) -> bool:
    last = draft.words[run.after - 1].end
    if _SIGNS.match(draft.text[last : last + 3]):
        return True
    return draft.word(run.after) in _UNITS and not draft.ends_sentence(run.after - 1)


def _has_cue(draft: Draft, first: int) -> bool:
    index = first - 1
    while index > first - 4 and draft.word(index) in _SKIPPED:
        index -= 1
    return draft.word(index) in _CUES and not draft.ends_sentence(index)


def _is_calculated(draft: Draft, run: Run) -> bool:
    return draft.word(run.after) in _OPERATORS or (
        draft.word(run.first - 1) in _OPERATORS and draft.word(run.first - 1) != "plus"
    ) or (draft.word(run.first - 1) == "plus" and draft.word(run.first - 2).isdigit())  # fmt: skip


def _is_date(draft: Draft, run: Run) -> bool:
    """A year behind a month's name or day, and "five twelve twenty twenty five"."""
    values = [int(group[:9]) for group in run.groups]
    year = run.digits[-4:]
    if not ("1900" <= year <= "2099") or run.cardinal:
        return False
    if len(run.digits) == 4 and len(values) <= 2:
        return True
    before = {draft.word(index) for index in range(run.first - 3, run.first)}
    day = values[0] if before & _MONTHS else None
    if day is not None and day <= 31 and run.digits[:-4] in (str(day), ""):
        return True
    spoken = len(values) in (3, 4) and values[0] <= 31 and values[1] <= 31
    return spoken and min(values[:2]) in range(1, 13) and len(run.digits) <= 8 and (
        "".join(run.groups[2:]) == year
    )  # fmt: skip


def _is_dialed(draft: Draft, start: int) -> bool:
    """Whether "call" or "number is" stands right before: 555.1234 is no decimal there."""
    before = re.findall(r"[^\W\d_]+", draft.text[max(start - 24, 0) : start])[-2:]
    return bool({"call", "dial", "phone", "number", "text", "fax"} & set(before))

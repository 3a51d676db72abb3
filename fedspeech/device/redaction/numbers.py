"""Strings of digits that nothing before has explained: phones, cards, postcodes, other numbers."""

from __future__ import annotations

import re

from phonenumbers import (
    Leniency,
    NumberParseException,
    PhoneNumberMatcher,
    is_possible_number,
    parse,
)

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.quantities import is_emergency
from fedspeech.device.redaction.runs import Run, run_at, runs
from fedspeech.device.redaction.slots import find_slots
from fedspeech.device.redaction.vocabulary import COMMON, listed
from fedspeech.device.redaction.written import is_card

_SHORTEST_PHONE, _LONGEST_PHONE = 7, 15  # E.164 allows 15
_SHORTEST_DIALED = 3
_EXTENSIONS = listed("extension ext x durchwahl poste xtn")
_PHONES = listed(
    """number phone mobile cell fax telephone landline whatsapp nummer telefonnummer
    handynummer handy numero portable extension cellphone hotline"""
)
_REACHING = listed("""me us him her them back on at under is to it's its ist auf unter est au""")
_POSTCODES = listed("zip zipcode postcode plz postleitzahl pincode postal")
_NEAR_A_PLACE = listed("in near at to around from for of code is")
_VANITY = re.compile(r"\b1?[ -]?8(?:00|88|77|66|55|44|33)[ -][a-z]{2,10}(?:-[a-z0-9]{1,7}){0,2}\b")
_TOLL_FREE = ("800", "888", "877", "866", "855", "844", "833")
_POSTCODE_DIGITS = {"US": 5, "DE": 5, "FR": 5, "IN": 6, "AT": 4, "CH": 4, "ES": 5, "IT": 5}


def numbers(draft: Draft) -> None:
    """Takes strings of digits as what they are, and as numbers where that cannot be told."""
    slots = {place for slot in find_slots(draft) for place in range(slot.first, slot.start + 1)}
    for run in list(runs(draft)):
        if draft.is_open_word(run.first):
            _number(draft, run, run.first in slots)
    _matched(draft)
    for found in _VANITY.finditer(draft.text):
        draft.take(*found.span(), Kind.PHONE)


def _matched(draft: Draft) -> None:
    """Takes what libphonenumber finds beside, such as a number in one piece with letters."""
    open_text = "".join(
        one if draft.is_open(place, place + 1) else " " for place, one in enumerate(draft.text)
    )
    for found in PhoneNumberMatcher(open_text, draft.region, leniency=Leniency.POSSIBLE):
        if sum(map(str.isdigit, found.raw_string)) >= _SHORTEST_PHONE:
            draft.take(found.start, found.end, Kind.PHONE)


def _number(draft: Draft, run: Run, in_slot: bool) -> None:
    kind = _kind(draft, run, in_slot)
    if kind is None:
        return
    start, end = draft.words[run.first].start, draft.words[run.after - 1].end
    if kind is Kind.PHONE:
        start, end = _with_plus(draft, run.first, end), _with_extension(draft, run)
    draft.take(start, end, kind)


def _kind(draft: Draft, run: Run, in_slot: bool) -> Kind | None:
    digits = run.digits
    dialed = in_slot or _is_dialed(draft, run.first)
    plus = _has_plus(draft, run.first)
    if is_card(digits):
        return Kind.CARD
    if _is_postcode(draft, run):
        return Kind.POSTCODE
    if run.cardinal and not dialed:
        return None
    if _SHORTEST_PHONE <= len(digits) <= _LONGEST_PHONE:
        return Kind.PHONE if dialed or plus or _is_possible(digits, draft.region) else Kind.NUMBER
    if dialed and _SHORTEST_DIALED <= len(digits) < _SHORTEST_PHONE:
        return None if is_emergency(digits, draft.region) else Kind.PHONE
    return Kind.NUMBER if _identifies(draft, run) else None


def _identifies(draft: Draft, run: Run) -> bool:
    """Whether digits look like somebody's number and not like a quantity."""
    digits = run.digits
    if len(digits) > _LONGEST_PHONE:
        return True
    if draft.is_glued(run.after - 1) or (run.first and draft.is_glued(run.first - 1)):
        return len(digits) >= 5  # "B12", "10k"
    single = sum(len(set(group)) == 1 for group in run.groups) >= 3
    if len(run.groups) == 1:
        return len(digits) >= 5 and not digits.endswith("000")
    return len(digits) >= 5 or (len(digits) == 4 and single)


def _is_dialed(draft: Draft, first: int) -> bool:
    """Whether "my number is" or "reach me at" stands before a number."""
    index = first - 1
    if draft.word(index) == "plus":
        index -= 1
    while index > first - 5 and draft.word(index) in _REACHING:
        index -= 1
    word = draft.word(index)
    if draft.ends_sentence(first - 1):
        return False
    return word in _PHONES or (
        index < first - 1 and word in ("reach", "call", "text", "dial", "ring", "phone", "message")
    )


def _is_possible(digits: str, region: str | None) -> bool:
    if region is None:
        return True
    try:
        return is_possible_number(parse(digits, region))
    except NumberParseException:
        return False


def _has_plus(draft: Draft, first: int) -> bool:
    start = draft.words[first].start
    return draft.text[max(start - 2, 0) : start].rstrip(" (").endswith("+") or (
        draft.word(first - 1) == "plus" and draft.is_open_word(first - 1)
    )


def _with_plus(draft: Draft, first: int, end: int) -> int:
    """Where a number starts, with its plus or opening parenthesis."""
    start = draft.words[first].start
    if draft.word(first - 1) == "plus" and draft.is_open_word(first - 1):
        return draft.words[first - 1].start
    while start and draft.text[start - 1] in "+(" and draft.is_open(start - 1, start):
        if draft.text[start - 1] == "(" and ")" not in draft.text[start:end]:
            break
        start -= 1
    return start


def _with_extension(draft: Draft, run: Run) -> int:
    """Where a number ends, with its extension, or the name of a toll-free one."""
    after = run.after
    further = run_at(draft, after + 1) if draft.word(after) in _EXTENSIONS else None
    if further and not draft.ends_sentence(after - 1):
        return draft.words[further.after - 1].end
    if run.digits.endswith(_TOLL_FREE) and len(run.digits) <= 4:
        while draft.is_open_word(after) and draft.word(after) not in COMMON:
            after += 1
    return draft.words[after - 1].end


def _is_postcode(draft: Draft, run: Run) -> bool:
    """Whether digits are a postcode by a word before them, or by where they stand."""
    before = [draft.word(index) for index in range(run.first - 5, run.first)]
    if _POSTCODES & set(before) or (
        before[-2:] == ["pin", "code"] or before[-3:-1] == ["pin", "code"]
    ):
        return 4 <= len(run.digits) <= 6
    if len(run.digits) != _POSTCODE_DIGITS.get(draft.region or "", 0) or run.cardinal:
        return False
    if draft.region in ("AT", "CH"):
        return False
    address = any(
        draft.kind_at(index) is Kind.ADDRESS for index in range(max(run.first - 6, 0), run.first)
    )
    near = before[-1] in _NEAR_A_PLACE - {"for", "code", "is"} and not run.digits.endswith("000")
    return address or near

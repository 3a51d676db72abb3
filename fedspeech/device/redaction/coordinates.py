"""Coordinates as they are said: "fifty one point five north zero point one west"."""

from __future__ import annotations

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.runs import run_at
from fedspeech.device.redaction.vocabulary import listed

_LATITUDE = frozenset({"north", "south", "n", "s", "nord", "sud"})
_LONGITUDE = frozenset({"east", "west", "e", "w", "ost", "est", "ouest", "o"})
_AXES = listed(
    """latitude longitude lat lon lng long coordinates coordinate breitengrad langengrad
    koordinaten coordonnees"""
)
_BETWEEN = listed("""degrees degree comma and by minus negative is are the at grad point komma""")


def spoken_coordinates(draft: Draft) -> None:
    """Takes two numbers that are a latitude and a longitude by their words."""
    if not any(word.text in _AXES | _LATITUDE for word in draft.words):
        return
    for index in range(len(draft.words)):
        first = _signed(draft, index)
        if first is None or not draft.is_open_word(index):
            continue
        after, is_latitude = _coordinate(draft, index, first, _LATITUDE)
        cue = any(draft.word(place) in _AXES for place in range(index - 4, index))
        second = after
        while draft.word(second) in _BETWEEN | _AXES and second < after + 5:
            second += 1
        number = _signed(draft, second)
        if number is not None:
            end, is_longitude = _coordinate(draft, second, number, _LONGITUDE)
            if cue or (is_latitude and is_longitude):
                draft.take_words(index, end, Kind.LOCATION)
                continue
        if cue and draft.word(index - 1) in _AXES | {"is"}:
            draft.take_words(index, after, Kind.LOCATION)


def _signed(draft: Draft, index: int) -> int | None:
    """The word behind a number, its decimals included, that begins at a word."""
    start = index + 1 if draft.word(index) in ("minus", "negative") else index
    run = run_at(draft, start)
    if run is None:
        return None
    if draft.word(run.after) in ("point", "dot") and (more := run_at(draft, run.after + 1)):
        return more.after
    return run.after


def _coordinate(draft: Draft, first: int, after: int, compass: frozenset[str]) -> tuple[int, bool]:
    """The word behind a coordinate and its compass word, and whether there was one."""
    place = after + 1 if draft.word(after) in ("degrees", "degree", "grad") else after
    if draft.word(place) in compass and draft.is_open_word(place):
        return place + 1, True
    return place, False

"""Names that no contact bears, where one is expected: they go, and the label says OTHER."""

from __future__ import annotations

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.runs import is_number
from fedspeech.device.redaction.slots import Action, Slot, find_slots
from fedspeech.device.redaction.vocabulary import COMMON, listed, words

_STOP = listed(
    """on at about that saying using via with when in tomorrow now please back again for if
    before after because to i i'm we tonight today later as from who it this an uhr auf mit
    dass en sur que and or und et"""
)
_TITLES = listed("""mr mrs ms miss dr doctor prof professor herr frau monsieur madame""")
_NAMES = words("names that are words")
_LONGEST_NAME = 4
_FARTHEST = 6


def unknown_names(draft: Draft) -> frozenset[int]:
    """Takes what stands for a name behind "call" or "text" and is no everyday word.

    Returns:
      Words that were taken.
    """
    taken: set[int] = set()
    for slot in find_slots(draft):
        if slot.is_command:
            first, after = _name(draft, slot)
            if first < after and draft.take_words(first, after, Kind.CONTACT):
                taken |= set(range(first, after))
    return frozenset(taken)


def _name(draft: Draft, slot: Slot) -> tuple[int, int]:
    """Words of the first name in a slot; an empty range where there is none."""
    first = slot.start
    if draft.words[first - 1].text in _TITLES and draft.is_open_word(first):  # "call Dr Young"
        named = draft.word(first) in _NAMES or draft.word(first) not in COMMON | _STOP
        return first, first + named
    if slot.action is Action.CALL:  # "call the nearest Zorblatt branch"
        while first < slot.start + _FARTHEST and _is_everyday(draft, first):
            if draft.word(first) in _STOP or draft.ends_sentence(first):
                return first, first
            first += 1
    after = first
    while after < first + _LONGEST_NAME and _is_unknown(draft, after):
        after += 1
        if draft.ends_sentence(after - 1):
            break
    return first, after


def _is_everyday(draft: Draft, index: int) -> bool:
    return draft.is_open_word(index) and draft.word(index) in COMMON


def _is_unknown(draft: Draft, index: int) -> bool:
    if not draft.is_open_word(index) or is_number(draft, index):
        return False
    word = draft.word(index)
    return word not in COMMON and (len(word) > 1 or not word.isascii())

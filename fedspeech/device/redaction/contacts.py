"""Names of the user's contacts, however they are written or said.

A part of a name that is no everyday word goes wherever it stands. One that is ("Will", "May") goes
with another part of the same name beside it, behind a title, or in a slot (`slots`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.folding import fold, words_of
from fedspeech.device.redaction.slots import RELATIONS, find_slots
from fedspeech.device.redaction.vocabulary import KIN, ambiguous_words, words

_PARTICLES = words("particles")
_TITLES = words("titles")
_NOTES = words("contact notes")
_JOINED = re.compile(r"[ \-.'_]{0,2}")
_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "å": "aa", "ø": "oe"}
)
# Scripts that put no space between words.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f]")
_MC = re.compile(r"\bmc(?=\w{3})")
_SHORTEST_REVERSED = 5
_LONGEST_NAME = 8


class Contacts:
    """Names to look for, of one phone.

    Attributes:
      names: of each contact, the ways of writing it, as words.
      unspaced: names in scripts that put no space between words.
    """

    def __init__(self, names: Iterable[str], region: str | None) -> None:
        """Reads names as an address book holds them, with notes, titles and emoji."""
        self._ambiguous = ambiguous_words(region)
        self.names: list[set[tuple[str, ...]]] = []
        self.unspaced: list[str] = []
        self._parts: dict[str, set[int]] = defaultdict(set)
        for name in names:
            if _UNSPACED.search(name):
                self.unspaced += _without_spaces(name)
            spelled = _spellings(name)
            for part in {part for parts in spelled for part in parts}:
                self._parts[part].add(len(self.names))
            self.names.append(spelled)

    def of(self, word: str) -> set[int]:
        """Numbers of the contacts whose name a word is a part of, possessive or not."""
        plain = word.replace("'", "")
        found = self._parts.get(plain, set())
        if not found and plain.endswith("s") and len(plain) > 3:
            found = self._parts.get(plain[:-1], set())
        return found

    def is_sure(self, word: str) -> bool:
        """Whether a word alone is a contact, wherever it stands."""
        plain = word.replace("'", "")
        for one in (plain, plain[:-1] if plain.endswith("s") and len(plain) > 3 else plain):
            if one in self._parts:
                return self._is_sure(one)
        return False

    def _is_sure(self, part: str) -> bool:
        if len(part) < 2 or not part.isalpha() or part in self._ambiguous:
            return False
        return part not in _PARTICLES | _TITLES and part not in _NOTES - KIN


def known_contacts(draft: Draft, contacts: Contacts) -> None:
    """Takes every name that is one of the contacts."""
    _unspaced(draft, contacts)
    slots = _places(draft)
    index = 0
    while index < len(draft.words):
        after = _name_at(draft, contacts, index, slots)
        if after:
            _take(draft, index, after)
            if (
                draft.word(after) in ("and", "or", "und", "et", "ya")
                or draft.gap(after - 1) == ", "
            ):
                slots |= (
                    {after + 1 if draft.word(after) in ("and", "or", "und", "et") else after}
                    if (index in slots)
                    else set()
                )
        index = after or index + 1
    _spelled(draft, contacts)


def _places(draft: Draft) -> set[int]:
    """Words that may be a name although they are everyday words."""
    found: set[int] = set()
    for slot in find_slots(draft):
        found |= set(range(slot.first, slot.start + 1))
    titled = RELATIONS - {"lord", "lady", "sir", "son"}
    found |= {
        index + 1
        for index in range(len(draft.words))
        if draft.word(index) in titled and draft.gap(index) in (" ", ". ")
    }
    return found


def _name_at(draft: Draft, contacts: Contacts, first: int, slots: set[int]) -> int | None:
    """The word behind the longest name that begins at a word."""
    common: set[int] | None = None
    longest, index = None, first
    while draft.is_open_word(index) and index < first + _LONGEST_NAME:
        if index > first and not _JOINED.fullmatch(draft.gap(index - 1)):
            break
        own = contacts.of(draft.word(index))
        if draft.word(index).removesuffix("s") in map(draft.word, range(first, index)):
            break  # "call Will will you", "send Rose roses"
        common = own if common is None else common & own
        if not common:
            break
        index += 1
        if _is_name(draft, contacts, first, index, common, slots):
            longest = index
    return longest


def _is_name(
    draft: Draft, contacts: Contacts, first: int, after: int, names: set[int], slots: set[int]
) -> bool:
    said = [draft.word(index).replace("'", "") for index in range(first, after)]
    if any(contacts.is_sure(word) for word in said):
        return True
    if first in slots:
        return said[0] not in _PARTICLES or len(said) > 1 or any(
            (said[0],) in contacts.names[name] for name in names
        )  # fmt: skip
    telling = sum(word not in _PARTICLES for word in said)
    return telling > 1 and any(
        _in_order(said, spelled) for name in names for spelled in contacts.names[name]
    )


def _take(draft: Draft, first: int, after: int) -> None:
    """Takes a name and leaves the "'s" behind it."""
    end = draft.words[after - 1].end
    if draft.words[after - 1].text.endswith("'s"):
        end -= 2
    draft.take(draft.words[first].start, end, Kind.CONTACT)


def _in_order(said: Sequence[str], name: Sequence[str]) -> bool:
    place = 0
    for word in said:
        for candidate in (word, word.removesuffix("s")):
            if candidate in name[place:]:
                place = name.index(candidate, place) + 1
                break
        else:
            return False
    return True


def _spellings(name: str) -> set[tuple[str, ...]]:
    """Orders of words that a name may be said in, and written by a recognizer."""
    bare = re.sub(r"\([^)]{0,40}\)|\[[^\]]{0,40}\]", " ", name)
    found: set[tuple[str, ...]] = set()
    for variant in {bare, bare.translate(_UMLAUTS)}:
        folded = fold(variant).text
        joined = folded.replace("-", "")
        for text in {folded, folded.replace("'", " "), joined, _MC.sub("mc ", folded)}:
            found.add(tuple(word.text.replace("'", "") for word in words_of(text)))
    found |= {tuple(map(_without_digraphs, spelled)) for spelled in found}
    return {spelled for spelled in found if spelled}


def _without_digraphs(word: str) -> str:
    """Writes "mueller" as "muller", which is how "Müller" folds."""
    if len(word) < _SHORTEST_REVERSED:
        return word
    return word.replace("ae", "a").replace("oe", "o").replace("ue", "u")


def _without_spaces(name: str) -> list[str]:
    """A name and, of three or four characters, the given name: the last two."""
    folded = "".join(fold(name).text.split())
    return [folded, folded[-2:]] if 3 <= len(folded) <= 4 else [folded]


def _unspaced(draft: Draft, contacts: Contacts) -> None:
    for name in sorted(contacts.unspaced, key=len, reverse=True):
        for found in re.finditer(re.escape(name), draft.text):
            draft.take(*found.span(), Kind.CONTACT)


def _spelled(draft: Draft, contacts: Contacts) -> None:
    """Takes "a n n a"."""
    index = 0
    while index < len(draft.words):
        after = index
        while draft.is_open_word(after) and len(draft.word(after)) == 1 and (
            after == index or _JOINED.fullmatch(draft.gap(after - 1))
        ):  # fmt: skip
            after += 1
        letters = "".join(draft.word(place) for place in range(index, after))
        if after - index >= 3 and contacts.of(letters):
            draft.take_words(index, after, Kind.CONTACT)
        index = max(after, index + 1)

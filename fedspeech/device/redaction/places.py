"""Houses and homes: a number with its street, in the orders of several countries."""

from __future__ import annotations

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.runs import Run, is_number, run_at, runs
from fedspeech.device.redaction.vocabulary import COMMON, listed, words

_TYPES = words("street types")
# Also words of their own: a street only where a name stands before them that is no everyday word.
_WEAK = (
    listed(
        """way drive court park walk place close hill rise square row green view path circle line
    loop mall gardens grove heights trail cross dr st pl sq ct crossing broadway la sector"""
    )
    & _TYPES
)
_DIRECTIONS = listed(
    """north south east west n s e w ne nw se sw northeast northwest southeast southwest"""
)
_NO_NAME = words("quantity units") - {"mile", "stone", "page", "point", "yard", "cup"} | listed(
    """to and is at in for on the of or with from my me i you it are was do does did will can
    way please call text message play set turn times more um uh star stars that this your by
    a an o'clock percent dollars"""
)
_SUFFIXES = tuple(words("street suffixes"))
_PREFIXES = words("street prefixes")
_PARTICLES = listed("""de la le les du des d l a aux au saint sainte von van der den""")
_UNITS = words("unit words")
_HOMES = listed("""apartment apt flat suite ste wohnung appartement plot hausnummer""")
_NUMBER = frozenset({"number", "no", "nummer", "numero", "nr"})
_GERMAN = ("DE", "AT", "CH", "LI", "LU")
_FRENCH = ("FR", "BE", "CH", "CA", "LU", "MC")
_LONGEST_NAME = 4
_HOUSE_DIGITS = 5
_LIVING = listed("""live lives living address deliver pick wohne wohnt habite adresse""")


def addresses(draft: Draft) -> None:
    """Takes a house number with its street, in any of the orders, and the number of a home."""
    _boxes(draft)
    for run in list(runs(draft)):
        if draft.is_open_word(run.first):
            _beside_number(draft, run)
    for index in range(len(draft.words)):
        if draft.is_open_word(index):
            _home(draft, index)
            _lives_on(draft, index)


def _beside_number(draft: Draft, run: Run) -> None:
    if len(run.digits) > _HOUSE_DIGITS + (2 if not run.written else 0):
        return
    start = _behind_letter(draft, run.after)
    end = _block(draft, run.after) or _street(draft, start) or _rue(draft, start)
    if end:
        draft.take_words(_number_sign(draft, run.first), _with_unit(draft, end), Kind.ADDRESS)
        return
    first = _german(draft, run)
    if first is not None:
        draft.take_words(first, _with_unit(draft, start), Kind.ADDRESS)


def _number_sign(draft: Draft, first: int) -> int:
    """The first of "flat 3, 21" and "number 10" before a street."""
    for _ in range(2):
        before = draft.word(first - 1)
        if before not in _NUMBER | _HOMES | {"unit", "house", "room"} or not draft.is_open_word(
            first - 1
        ):  # fmt: skip
            break
        first -= 1
    return first


def _behind_letter(draft: Draft, after: int) -> int:
    """The word behind the "b" of 221b, and of "bis" and "ter"."""
    word = draft.word(after)
    if word in ("bis", "ter", "quater") or (
        len(word) == 1 and word.isalpha() and word not in _DIRECTIONS - {"n", "s", "e", "w"}
    ):
        return after + 1 if draft.is_open_word(after) else after
    return after


def _street(draft: Draft, first: int) -> int | None:
    """The word behind a street's type that names before it make a street; None if there is none."""
    name: list[str] = []
    index = first
    while index < first + _LONGEST_NAME + 1 and draft.is_open_word(index):
        if index > first and draft.ends_sentence(index - 1):
            return None
        word = draft.word(index)
        if word in _TYPES and (name or word not in _WEAK) and _is_street(draft, name, word, index):
            after = index + 1
            return after + 1 if draft.word(after) in _DIRECTIONS else after
        if word in _NO_NAME and not _is_ordinal(draft, index):
            return None
        name.append(word)
        index += 1
    return None


def _is_ordinal(draft: Draft, index: int) -> bool:
    """Whether "th" stands behind digits, or "second" before a street: names of streets."""
    word = draft.word(index)
    behind_digits = draft.is_glued(index - 1) and draft.word(index - 1).isdigit()
    return (word in ("st", "nd", "rd", "th") and behind_digits) or (
        word == "second" and draft.word(index + 1) in _TYPES
    )


def _is_street(draft: Draft, name: list[str], kind: str, index: int) -> bool:
    named = [word for word in name if word not in _DIRECTIONS]
    if not named:
        return False
    behind = draft.word(index + 1)
    if behind in _TYPES - {"park", "view"} and draft.gap(index) == " ":
        return False  # "oak hill road": the last word is the type
    return kind not in _WEAK or any(w not in COMMON or w in _STREET_NAMES for w in named)


_STREET_NAMES = listed(
    """main church park high station mill school hill spring river lake forest garden king
    queen london york north south first second third fourth fifth sixth seventh eighth ninth
    tenth center market bridge water state"""
) & (COMMON | listed("fourth fifth sixth seventh eighth ninth tenth"))


def _rue(draft: Draft, first: int) -> int | None:
    """The word behind "rue de la Paix", whose number stands before it."""
    word = draft.word(first)
    if word != "rue" and not (word in _PREFIXES and draft.region in _FRENCH):
        return None
    index, named = first + 1, 0
    while draft.is_open_word(index) and index < first + 7 and not draft.ends_sentence(index - 1):
        word = draft.word(index)
        if word not in _PARTICLES:
            if named and (
                is_number(draft, index)
                or word in COMMON
                or "," in draft.gap(index - 1)
                or named >= 3
            ):
                break
            named += 1
        index += 1
    while index > first + 1 and draft.word(index - 1) in _PARTICLES:
        index -= 1
    return index if named else None


def _german(draft: Draft, run: Run) -> int | None:
    """The first word of "Hauptstraße 12" and "Unter den Linden 77" before a number."""
    last = run.first - 1
    if draft.word(last) in _NUMBER:
        last -= 1
    if not draft.is_open_word(last) or len(run.digits) > 4 or draft.ends_sentence(last):
        return None
    if draft.word(run.after) in ("uhr", "grad", "prozent", "minuten", "stunden"):
        return None
    word = draft.word(last)
    german = draft.region in _GERMAN
    whole = word not in _SUFFIXES and len(word) > 5
    if whole and word.endswith(_SUFFIXES) and (german or "str" in word[3:]):
        return last
    if not german:
        return None
    if word in _SUFFIXES and draft.is_open_word(last - 1) and draft.word(last - 1) not in COMMON:
        return last - 1
    before = draft.word(last - 1), draft.word(last - 2)
    if word not in COMMON and not is_number(draft, last):
        if before in (("den", "unter"), ("der", "an"), ("der", "auf"), ("dem", "auf")):
            return last - 2
        if before[0] in ("am", "im", "zum", "zur") and word not in words("months"):
            return last - 1
    return None


def _block(draft: Draft, index: int) -> int | None:
    """The word behind "block of Elm Street"."""
    if draft.word(index) != "block":
        return None
    if draft.word(index + 1) in ("of", "on"):
        name = index + 3 if draft.word(index + 2) == "the" else index + 2
        return _street(draft, name) or index + 1
    return _street(draft, index + 1) or index + 1


def _with_unit(draft: Draft, after: int) -> int:
    """The word behind ", apartment 4b" where that follows an address."""
    word = draft.word(after)
    if word not in _UNITS or draft.ends_sentence(after - 1) or not draft.is_open_word(after):
        return after
    return _unit_value(draft, after + 1) or after


def _unit_value(draft: Draft, index: int) -> int | None:
    """The word behind the number or letter of a home."""
    while draft.word(index) in _NUMBER | {"is"}:
        index += 1
    run = run_at(draft, index)
    if run and len(run.digits) <= 5:
        letter = draft.word(run.after)
        apart = draft.is_glued(run.after - 1) or letter not in ("a", "i")
        return run.after + 1 if len(letter) == 1 and letter.isalpha() and apart and (
            draft.is_open_word(run.after)) else run.after  # fmt: skip
    word = draft.word(index)
    if len(word) == 1 and word.isalpha() and draft.is_open_word(index):
        more = run_at(draft, index + 1)
        if more:
            return more.after
        return None if word in ("a", "i") else index + 1
    return None


def _home(draft: Draft, index: int) -> None:
    """Takes "apartment 4b" and "house number 12", with the street that follows."""
    word = draft.word(index)
    house = word == "house" and draft.word(index + 1) in _NUMBER
    if word not in _HOMES and not house:
        return
    after = _unit_value(draft, index + 1)
    if after is None:
        return
    unit = draft.word(after) in _UNITS and draft.is_open_word(after)
    end = _unit_value(draft, after + 1) if unit else None
    end = end or _street(draft, after) or after
    draft.take_words(index, end, Kind.ADDRESS)


def _lives_on(draft: Draft, index: int) -> None:
    """Takes the street of "I live on elm street" without a number."""
    if draft.word(index) not in _LIVING:
        return
    for place in range(index + 1, index + 5):
        if draft.word(place) in ("on", "at", "in", "is", "to", "from") and (
            end := _street(draft, place + 1)
        ):
            draft.take_words(place + 1, end, Kind.ADDRESS)
            return


def _boxes(draft: Draft) -> None:
    """Takes "PO box 12", "Postfach 12" and "BP 12"."""
    for index in range(len(draft.words)):
        pair = (draft.word(index), draft.word(index + 1))
        long = (*pair, draft.word(index + 2)) == ("p", "o", "box")
        if long or pair == ("po", "box") or pair[0] in ("postfach", "bp"):
            number = index + (3 if long else 2 if pair == ("po", "box") else 1)
            if (run := run_at(draft, number)) and draft.is_open_word(index):
                draft.take_words(index, run.after, Kind.ADDRESS)

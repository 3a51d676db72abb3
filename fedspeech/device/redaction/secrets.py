"""Passwords, PINs and codes: what follows the word for one, or comes before it."""

from __future__ import annotations

import re

from fedspeech.device.redaction.codes import code_at, has_number
from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.runs import run_at
from fedspeech.device.redaction.vocabulary import COMMON, FILLERS, listed

_PHRASES = listed("""password passwords passphrase passwort kennwort mdp wifi-key pass-phrase""")
_NUMERIC = listed(
    """pin passcode code otp cvv cvc cvv2 csc geheimzahl geheimnummer combination pincode
    passkey passcodes pins codes tan"""
)
_TWO_WORDS = {
    ("pass", "word"): True, ("pass", "phrase"): True, ("pass", "code"): False,
    ("mot", "passe"): True, ("wifi", "key"): True, ("security", "answer"): True,
    ("api", "key"): True, ("access", "token"): True, ("private", "key"): True,
    ("seed", "phrase"): True, ("recovery", "phrase"): True, ("recovery", "key"): True,
    ("secret", "word"): True, ("maiden", "name"): True,
    ("code", "word"): True, ("safe", "word"): True,
}  # fmt: skip
# A code that is none of these is nobody's secret.
_OPEN_CODES = listed(
    """zip postal post area country city dialing dial dress error qr bar source morse promo
    discount coupon voucher status color colour genetic tax building airport sort swift bic
    ifsc branch plus currency reference product booking confirmation tracking gift bus
    flight reservation"""
)
_IS = listed("""is was equals are ist lautet war est it's its be sind should""")
_TO = frozenset({"to", "as", "auf", "en", "using", "with"})
_SETTING = listed(
    """set change changed make update updated reset save saved store remember replace setze
    andere stell"""
)
_ENTERING = listed("use enter try type with using says")
_FOR = frozenset(
    {"for", "of", "to", "on", "at", "fur", "vom", "von", "zum", "pour", "de", "du", "ka"}
)
# What is said of a secret without saying it.
_SAID_OF_IT = listed(
    """not too the same no what how being needed a in on about that this it there where
    somewhere my your our nicht pas really also always never still already now due written
    working"""
)
_JUDGED = listed(
    """wrong incorrect broken expired invalid missing correct weak strong required reset saved
    stored changed compromised safe secure secret lost forgotten hard easy falsch long short"""
)
_AFTER_A_JUDGMENT = listed(
    """and but because so i now anymore again for on please today enough too or to when if it
    here there i'm"""
)
_ENDING = frozenset({"please", "thanks", "thank", "bitte", "merci", "then"})
_GOING_ON = listed(
    """send call text tell open remind set turn play my the then message email save write
    please i you we it don't do"""
)
_CLAUSE_END = re.compile(r"[.?!;,](?:\s|$)|\n")
_PARTS = frozenset({"and", "but", "or", "with", "und", "et"})
_FARTHEST = 9


def secrets(draft: Draft) -> None:
    """Takes what a secret is said to be; of "the code is not working" nothing."""
    for index in range(len(draft.words)):
        found = _cue(draft, index)
        if found is None:
            continue
        after, is_phrase = found
        if not _value_behind(draft, index, after, is_phrase):
            _value_before(draft, index, is_phrase)


def _cue(draft: Draft, index: int) -> tuple[int, bool] | None:
    """The word behind a word for a secret, and whether it may be words; None if it is no such."""
    word = draft.word(index)
    for gap in (1, 2):
        pair = (word, draft.word(index + gap))
        if pair in _TWO_WORDS and (gap == 1 or pair[0] == "mot"):
            return index + gap + 1, _TWO_WORDS[pair]
    if word in _PHRASES:
        return index + 1, True
    if word not in _NUMERIC or {draft.word(index - 1), draft.word(index + 1)} & _OPEN_CODES:
        return None
    if word == "pin" and draft.word(index + 1) == "code":
        return index + 2, False
    behind = index + 1
    if draft.word(behind) in ("number", "nummer", "no"):
        behind += 1
    return behind, False


def _value_behind(draft: Draft, cue: int, after: int, is_phrase: bool) -> bool:
    start = _after_link(draft, cue, after)
    if start is None:
        first = _skip_fillers(draft, after)
        if draft.ends_sentence(after - 1):
            return False
        end, text = code_at(draft, first)
        if is_phrase and _is_entered(draft, cue, first):
            return draft.take(
                draft.words[first].start, _chunk_end(draft, max(first, end - 1)), Kind.SECRET
            )
        return _is_code(draft, first, end, text) and draft.take(
            draft.words[first].start, _chunk_end(draft, end - 1), _kind(draft, cue, text)
        )
    start = _skip_fillers(draft, start)
    if not draft.is_open_word(start) or _is_said_of_it(draft, start):
        return False
    end, text = code_at(draft, start)
    if is_phrase or not _is_code(draft, start, end, text):
        end = _clause_end(draft, start)
    kind = _kind(draft, cue, text)
    return draft.take(draft.words[start].start, _chunk_end(draft, end - 1), kind)


def _is_entered(draft: Draft, cue: int, first: int) -> bool:
    """Whether a word is the one of "use password admin"."""
    verbs = {draft.word(index) for index in range(max(cue - 3, 0), cue)}
    word = draft.word(first)
    return bool(verbs & _ENTERING) and draft.is_open_word(first) and word not in COMMON


def _kind(draft: Draft, cue: int, text: str) -> Kind:
    """In India a PIN code is a postcode: six digits."""
    postal = draft.word(cue) == "pincode" or draft.word(cue + 1) == "code"
    six = len(text) == 6 and text.isdigit()
    return Kind.POSTCODE if draft.region == "IN" and postal and six else Kind.SECRET


def _is_said_of_it(draft: Draft, index: int) -> bool:
    """Whether words judge a secret: "wrong" does, "correct horse battery staple" does not."""
    word = draft.word(index)
    if word in _JUDGED:
        return draft.ends_sentence(index) or draft.word(index + 1) in _AFTER_A_JUDGMENT
    return word in _SAID_OF_IT


def _after_link(draft: Draft, cue: int, after: int) -> int | None:
    """The word behind "is" or behind the "to" of "set it to"; None where nothing links."""
    if draft.words[after - 1].text.endswith("'s"):
        return after
    if re.search(r"[:=]", draft.gap(after - 1)):
        return after
    for index in range(after, after + _FARTHEST):
        if index >= len(draft.words) or draft.ends_sentence(index - 1):
            break
        if draft.word(index) in _IS:
            return index + 1
    verbs = {draft.word(index) for index in range(max(cue - 6, 0), cue)}
    if verbs & _SETTING:
        for index in range(after, after + _FARTHEST):
            if index >= len(draft.words) or draft.ends_sentence(index - 1):
                break
            if draft.word(index) in _TO:
                return index + 1
    if draft.word(after) in _FOR:
        return _number_near(draft, after)
    return None


def _number_near(draft: Draft, after: int) -> int | None:
    """The first number of "the code for the garage four five six seven"."""
    for index in range(after + 1, after + 6):
        if index >= len(draft.words) or draft.ends_sentence(index - 1):
            return None
        run = run_at(draft, index)
        if run and len(run.digits) >= 3:
            return index
    return None


def _value_before(draft: Draft, cue: int, is_phrase: bool) -> None:
    """Takes the value of "4821 is my pin" and of "use 4821 as the code"."""
    index = cue - 1
    while index > cue - 5 and draft.word(index) not in _IS | {"as", "for"}:
        if draft.word(index) in _PARTS:
            return
        index -= 1
    if index < 1 or index <= cue - 5 or any(map(draft.ends_sentence, range(index - 1, cue))):
        return
    first = index
    while draft.is_open_word(first - 1) and not draft.ends_sentence(first - 1):
        before = draft.word(first - 1)
        number = run_at(draft, first - 1) is not None or before.isdigit()
        glued = draft.is_glued(first - 1)
        word = is_phrase and before not in COMMON
        if not (
            number or word or (glued and first < index) or (len(before) == 1 and first < index)
        ):
            break
        first -= 1
    if first < index and (is_phrase or has_number(draft, first, index)):
        draft.take(draft.words[first].start, _chunk_end(draft, index - 1), Kind.SECRET)


def _is_code(draft: Draft, first: int, after: int, text: str) -> bool:
    digits = sum(map(str.isdigit, text))
    return after > first and (digits >= 2 or (digits >= 1 and len(text) >= 3) or len(text) >= 4)


def _skip_fillers(draft: Draft, index: int) -> int:
    while draft.word(index) in FILLERS | {"number", "just", "simply", "hai"}:
        index += 1
    return index


def _clause_end(draft: Draft, first: int) -> int:
    """The word behind a clause; whoever says on goes on with "and" and a verb."""
    index = first + 1
    while draft.is_open_word(index):
        if _CLAUSE_END.search(draft.gap(index - 1) + "x"):
            break
        word, behind = draft.word(index), draft.word(index + 1)
        if word in _ENDING or (word == "and" and behind in _GOING_ON):
            break
        index += 1
    return index


def _chunk_end(draft: Draft, last: int) -> int:
    """The end of what is written in one piece with a word: the "#1" of pass#1."""
    end = draft.words[last].end
    while end < len(draft.text) and not draft.text[end].isspace() and draft.is_open(end, end + 1):
        end += 1
    piece = draft.text[draft.words[last].end : end]
    return end - (len(piece) - len(piece.rstrip(".,?;:)]\"'")))

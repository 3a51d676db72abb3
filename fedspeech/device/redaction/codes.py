"""Strings of digits and letters that are said one by one, as codes, ids and accounts are."""

from __future__ import annotations

from fedspeech.device.redaction.draft import Draft
from fedspeech.device.redaction.runs import is_number, run_at
from fedspeech.device.redaction.vocabulary import FILLERS, NATO

_JOINTS = FILLERS | {"dash", "hyphen", "slash", "space", "underscore", "bindestrich", "tiret"}
_LONGEST_CAPITALS = 4


def code_at(draft: Draft, first: int) -> tuple[int, str]:
    """The word behind a code that begins at a word, and its digits and letters; (first, "")."""
    index, after, squashed = first, first, ""
    while draft.is_open_word(index):
        if run := run_at(draft, index):
            squashed, index = squashed + run.digits, run.after
        elif letters := _letters(draft, index):
            squashed, index = squashed + letters, index + 1
        elif draft.word(index) in _JOINTS and squashed:
            index += 1
            continue
        else:
            break
        after = index
        if not _goes_on(draft, after - 1):
            break
    return after, squashed


def spelled_from(draft: Draft, first: int) -> tuple[int, str]:
    """As `code_at`, of single letters and numbers alone."""
    index, squashed = first, ""
    while draft.is_open_word(index):
        if run := run_at(draft, index):
            squashed, index = squashed + run.digits, run.after
        elif len(draft.word(index)) == 1:
            squashed, index = squashed + draft.word(index), index + 1
        else:
            break
        if not _goes_on(draft, index - 1):
            break
    return index, squashed


def _letters(draft: Draft, index: int) -> str:
    """What a word adds to a code: a letter, a letter by its name, letters beside digits."""
    word = draft.word(index)
    if len(word) == 1 or _touches_digits(draft, index) or _is_capital(draft, index):
        return word
    return word[0] if word in NATO else ""


def _touches_digits(draft: Draft, index: int) -> bool:
    signs = ("", "-") if len(draft.word(index)) <= _LONGEST_CAPITALS else ("",)  # 4b, abc-123
    before = draft.gap(index - 1) in signs and draft.word(index - 1).isdigit()
    return before or (draft.gap(index) in signs and draft.word(index + 1).isdigit())


def _is_capital(draft: Draft, index: int) -> bool:
    """Whether a short word is all capitals in a text that is not."""
    start, end = draft.folded.place(draft.words[index].start, draft.words[index].end)
    said = draft.folded.said
    return said[start:end].isupper() and end - start <= _LONGEST_CAPITALS and not said.isupper()


def _goes_on(draft: Draft, index: int) -> bool:
    """Whether a code may go on behind a word: only spaces and signs of codes stand there."""
    return set(draft.gap(index)) <= set(" -/._,") and not draft.ends_sentence(index)


def has_number(draft: Draft, first: int, after: int) -> bool:
    """Whether one of these words is a number."""
    return any(is_number(draft, index) for index in range(first, after))

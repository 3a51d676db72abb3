"""Addresses of the net as they are said: "john dot smith at example dot com"."""

from __future__ import annotations

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.runs import is_number, run_at
from fedspeech.device.redaction.vocabulary import COMMON, listed, words

_AT = frozenset({"at", "arobase", "klammeraffe", "aroba"})
_DOTS = frozenset({"dot", "punkt", "point"})
_JOINTS = _DOTS | {
    "underscore", "dash", "hyphen", "minus", "plus", "unterstrich", "tiret", "bindestrich", "under",
}  # fmt: skip
_SIGNS = frozenset({".", "_", "-", "+"})
_ENDINGS = words("top level domains")
# "point" and "Punkt" are words of their own: behind them "in" or "me" ends no site's name.
_CLEAR_ENDINGS = _ENDINGS - listed("in us me it is at be no de tv news site store shop cloud")
_PROVIDERS = words("mail providers")
_NAMES = words("names that are words")
# Before "at" they tell a place of the net and no mailbox.
_TO_A_SITE = listed(
    """look shop buy order find available check visit sign log arrive meet me it us this that
    them him her you page site website live only"""
)
# Where the name of a mailbox cannot reach back over.
_STOP = listed(
    """email mail e to is my the send message at it's its address for and a an text contact
    write me from with cc bcc invite add on or login username account in under via as of was
    use ist meine mon est"""
) | {"e-mail"}  # fmt: skip
_BEFORE_A_SITE = listed("w www triple http https colon slash h t p s")
_LONGEST_LABEL = 4
_LONGEST_MAILBOX = 14


def spoken_emails(draft: Draft) -> None:
    """Takes mailboxes whose "at" is a word; the site may be a provider's bare name."""
    for at in range(1, len(draft.words) - 1):
        if draft.word(at) in _AT and draft.is_open_word(at) and draft.is_open_word(at - 1):
            after = _domain_after(draft, at)
            if after and draft.word(at - 1) not in _TO_A_SITE:
                draft.take_words(_mailbox(draft, at), after, Kind.EMAIL)


def spoken_urls(draft: Draft) -> None:
    """Takes "example dot com slash news" and "www dot example dot org"."""
    for index in range(len(draft.words)):
        if not draft.is_open_word(index):
            continue
        after = _ending_after(draft, index, 1) if draft.word(index + 1) in _DOTS else None
        if after and draft.word(index) not in _STOP:
            draft.take_words(_site(draft, index), _path(draft, after), Kind.URL)


def spoken_ips(draft: Draft) -> None:
    """Takes "one nine two dot one six eight dot one dot one"."""
    index = 0 if any(word.text in _DOTS for word in draft.words) else len(draft.words)
    while index < len(draft.words):
        after, parts = index, 0
        if (long := run_at(draft, index)) and len(long.digits) > 3:
            index = long.after
            continue
        while (run := run_at(draft, after)) and len(run.digits) <= 3 and int(run.digits) <= 255:
            after, parts = run.after, parts + 1
            if draft.word(after) not in _DOTS or parts == 4:
                break
            after += 1
        if parts == 4:
            draft.take_words(index, after, Kind.IP)
        index = max(after, index + 1)


def _dot_after(draft: Draft, index: int) -> int | None:
    """The word behind the dot that follows a word, written or said."""
    if draft.gap(index) == ".":
        return index + 1
    said = draft.word(index + 1) in _DOTS and not draft.ends_sentence(index)
    return index + 2 if said and draft.is_open_word(index + 2) else None


def _ending_after(draft: Draft, first: int, longest: int) -> int | None:
    """The word behind a site's name that begins at a word; None if none is there."""
    index = first
    for _ in range(longest):
        if (behind := _dot_after(draft, index)) is not None:
            break
        if not draft.is_open_word(index) or draft.ends_sentence(index):
            return None
        index += 1
    else:
        return None
    for _ in range(5):
        if _is_ending(draft, behind):
            further = _dot_after(draft, behind)
            if further is None or not _is_ending(draft, further):
                return behind + 1
            behind = further
        elif (further := _dot_after(draft, behind)) is None:
            return None
        else:
            behind = further
    return None


def _is_ending(draft: Draft, index: int) -> bool:
    said = draft.word(index - 1)
    if said == "punkt" and draft.word(index) == "de":
        return True
    return draft.word(index) in (_CLEAR_ENDINGS if said in _DOTS - {"dot"} else _ENDINGS)


def _domain_after(draft: Draft, at: int) -> int | None:
    if draft.ends_sentence(at):
        return None
    after = _ending_after(draft, at + 1, _LONGEST_LABEL)
    if after is None and draft.word(at + 1) in _PROVIDERS:
        return at + 2
    return after


def _mailbox(draft: Draft, at: int) -> int:
    """The first word of the mailbox before "at"."""
    first = at - 1
    while first > 0 and at - first < _LONGEST_MAILBOX and draft.is_open_word(first - 1):
        word, before = draft.word(first), draft.word(first - 1)
        if draft.ends_sentence(first - 1):
            break
        joined = before in _JOINTS or word in _JOINTS or draft.gap(first - 1) in _SIGNS
        if not joined and not _names_a_mailbox(draft, first - 1):
            break
        if not joined and before in _STOP:
            break
        first -= 1
    return first


def _names_a_mailbox(draft: Draft, index: int) -> bool:
    word = draft.word(index)
    return len(word) == 1 or is_number(draft, index) or word not in COMMON or word in _NAMES


def _site(draft: Draft, index: int) -> int:
    """The first word of a site: names before it belong to it, and "www dot"."""
    first = index
    for _ in range(3):
        before = draft.word(first - 1)
        if not draft.is_open_word(first - 1) or draft.ends_sentence(first - 1):
            break
        if before not in _JOINTS and (before in COMMON or before in _STOP):
            break
        first -= 2 if before in _JOINTS and draft.is_open_word(first - 2) else 1
    while draft.is_open_word(first - 1) and draft.word(first - 1) in _BEFORE_A_SITE:
        first -= 1
    return first


def _path(draft: Draft, after: int) -> int:
    """The word behind "slash news slash today"."""
    while draft.word(after) in ("slash", "schragstrich") and draft.is_open_word(after + 1):
        after += 2
        while draft.word(after) in ("dash", "hyphen", "underscore", "dot"):
            after += 2
    return min(after, len(draft.words))

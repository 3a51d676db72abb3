"""A transcript while rules take parts of it: what is taken, what stays, what is still open."""

from __future__ import annotations

import re
from enum import StrEnum

from fedspeech.device.redaction.folding import Word, fold, words_of


class Kind(StrEnum):
    """What a part of a transcript was; the placeholder that stands for it bears this name."""

    PHONE = "PHONE"
    EMAIL = "EMAIL"
    ADDRESS = "ADDRESS"
    CONTACT = "CONTACT"
    CARD = "CARD"
    ACCOUNT = "ACCOUNT"
    ID_NUMBER = "ID_NUMBER"
    AMOUNT = "AMOUNT"
    SECRET = "SECRET"
    IP = "IP"
    URL = "URL"
    LOCATION = "LOCATION"
    POSTCODE = "POSTCODE"
    NUMBER = "NUMBER"


_PLACEHOLDER = re.compile(r"\[(" + "|".join(Kind) + r")\]")
_SENTENCE_END = re.compile(r"[.?!;](?:\s|$)|\n")
_KEPT = 1
_CODES = {kind: code for code, kind in enumerate(Kind, _KEPT + 1)}
_KINDS = {code: kind for kind, code in _CODES.items()}


class Draft:
    """A folded transcript and what rules decided about its characters; each is decided once.

    Attributes:
      folded: the transcript, folded.
      words: of it.
      region: ISO 3166 code of the phone's owner, or None.
      spans: (start, end, kind) of what goes, in folded characters.
      emergencies: words at which a number of help begins, which stays.
    """

    def __init__(self, text: str, region: str | None) -> None:
        """Placeholders that stand in the text stay: what was redacted is not redacted again."""
        self.folded = fold(text)
        self.text = self.folded.text
        self.words: list[Word] = words_of(self.text)
        self.region = region
        self.spans: list[tuple[int, int, Kind]] = []
        self.emergencies: set[int] = set()
        self._decided = bytearray(len(self.text))
        for found in _PLACEHOLDER.finditer(text):
            start, end = self.folded.found(*found.span())
            self._decide(start, end, _CODES[Kind(found[1])])

    def is_open(self, start: int, end: int) -> bool:
        """Whether no rule has decided about any of these characters."""
        return self._decided.count(0, start, end) == end - start

    def is_open_word(self, index: int) -> bool:
        """Whether there is such a word and no rule has decided about it."""
        return 0 <= index < len(self.words) and not self._decided[self.words[index].start]

    def take(self, start: int, end: int, kind: Kind) -> bool:
        """Replaces characters that are open; False where they are not."""
        if start >= end or not self.is_open(start, end):
            return False
        self.spans.append((start, end, kind))
        self._decide(start, end, _CODES[kind])
        return True

    def take_words(self, first: int, after: int, kind: Kind) -> bool:
        """Replaces words `first` to `after`, without the latter, and what is between them."""
        return self.take(self.words[first].start, self.words[after - 1].end, kind)

    def keep(self, start: int, end: int) -> None:
        """Decides that what is open of these characters stays."""
        for place in range(start, end):
            self._decided[place] = self._decided[place] or _KEPT

    def keep_words(self, first: int, after: int) -> None:
        """Decides that words `first` to `after`, without the latter, stay."""
        self.keep(self.words[first].start, self.words[after - 1].end)

    def word(self, index: int) -> str:
        """The word at a place, without the "'s" behind it; "" where there is none."""
        if not 0 <= index < len(self.words):
            return ""
        text = self.words[index].text
        return text[:-2] if text.endswith("'s") else text

    def gap(self, index: int) -> str:
        """What stands between a word and the next; a line's end behind the last."""
        if not 0 <= index < len(self.words) - 1:
            return "\n"
        return self.text[self.words[index].end : self.words[index + 1].start]

    def ends_sentence(self, index: int) -> bool:
        """Whether a sentence ends behind a word."""
        return bool(_SENTENCE_END.search(self.gap(index) + "x" * (index < len(self.words) - 1)))

    def is_glued(self, index: int) -> bool:
        """Whether nothing stands between a word and the next, as in 4b."""
        return self.gap(index) == ""

    def kind_at(self, index: int) -> Kind | None:
        """What a word was taken for, now or in an earlier pass."""
        if not 0 <= index < len(self.words):
            return None
        return _KINDS.get(self._decided[self.words[index].start])

    def redacted(self) -> str:
        """The text as it came, with placeholders for what was taken."""
        pieces, end = [], 0
        for start, after, kind in sorted(self.spans):
            first, last = self.folded.place(start, after)
            pieces += [self.folded.said[end:first], f"[{kind}]"]
            end = last
        return "".join(pieces) + self.folded.said[end:]

    def _decide(self, start: int, end: int, code: int) -> None:
        self._decided[start:end] = bytes([code]) * (end - start)

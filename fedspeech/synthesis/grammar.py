"""Sentences said to a phone: digit strings, spelled words, commands with slots, names.

    grammar = Grammar(people=tuple(PEOPLE), places=tuple(PLACES), contacts=8)
    contacts = grammar.draw_contacts(rng)                # ("arun", "vera", ..., "harbour")
    grammar.draw_sentence(rng, contacts)                 # "send a message to arun"

A sentence is its transcript: lower-case words separated by single spaces, spelled letters as words
of one letter. Every word has a pronunciation in `lexicon` or `names`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero", "oh")
TEENS = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
ORDINALS = ("first", "second", "third", "fifth", "ninth", "twelfth", "fifteenth", "thirtieth")

COMMANDS = (
    *("set a timer for {number} minutes", "set an alarm for {number}", "cancel the timer"),
    *("cancel the alarm", "turn on the lights", "turn off the lights", "turn the volume {way}"),
    *("play the next song", "stop the music", "pause the song", "start the timer", "yes", "no"),
    *("remind me in {number} minutes", "wake me at {number} tomorrow", "what time is it"),
    *("what is {number} and {number}", "start over", "go back home", "read my message", "help"),
    *("close the window in the kitchen", "open the window", "repeat", "stop", "go", "start"),
    *("the {ordinal} of {month}", "{month} {number}", "turn left", "turn right", "no not {number}"),
)
CODES = (
    *("enter {number}", "enter {letters} {digits}", "erase {letters} {number}", "rubout {digits}"),
    *("rubout {letters} {number}", "{letters}", "{letters}", "{letters}", "{letters} {digits}"),
    *("{thousands}", "enter {thousands}"),
)
TO_PEOPLE = (
    *("call {person}", "call {person} please", "send a message to {person}", "text {person}"),
    *("read the message from {person}", "call {person} at home", "meet {person} at {number}"),
    *("remind me to call {person}", "no i said {person}", "play the song with {person}"),
)
TO_PLACES = ("drive to the {place}", "is it far to the {place}", "meet me at the {place}")
KINDS = ("digits", "codes", "commands", "names")


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A distribution over the sentences of a group of speakers.

    Attributes:
      people: the names from which contact lists are drawn.
      places: the places from which they are drawn.
      contacts: names in a speaker's own list, a quarter of them places; 0: the list holds all.
      shares: of `KINDS`, relative to each other.

    Raises:
      ValueError: if shares or names cannot be used.
    """

    people: tuple[str, ...]
    places: tuple[str, ...]
    contacts: int = 0
    shares: tuple[float, float, float, float] = (0.2, 0.2, 0.3, 0.3)

    def __post_init__(self) -> None:
        """Checks shares and names."""
        if min(self.shares) < 0 or not sum(self.shares) > 0:
            raise ValueError(f"shares of {KINDS} must not be negative or all 0, got {self.shares}")
        if not 0 <= self.contacts <= len(self.people) or (
            self.shares[3] > 0 and not (self.people and self.places)
        ):
            raise ValueError(
                f"contacts={self.contacts} need as many people, and names need people and places, "
                f"got {len(self.people)} and {len(self.places)}"
            )

    def draw_contacts(self, rng: np.random.Generator) -> tuple[str, ...]:
        """Draws one speaker's contact list, in alphabetical order."""
        if not self.contacts:
            return tuple(sorted((*self.people, *self.places)))
        num_places = min(max(1, self.contacts // 4), len(self.places))
        people = rng.choice(len(self.people), max(1, self.contacts - num_places), replace=False)
        places = rng.choice(len(self.places), num_places, replace=False)
        return tuple(sorted((*(self.people[i] for i in people), *(self.places[i] for i in places))))

    def draw_sentence(self, rng: np.random.Generator, contacts: Sequence[str]) -> str:
        """Draws a sentence of a speaker with these contacts."""
        kind = KINDS[int(rng.choice(len(KINDS), p=np.array(self.shares) / sum(self.shares)))]
        if kind == "digits":
            return _digits(rng, int(rng.integers(2, 6)))
        if kind == "names":
            name = _one_of(contacts, rng)
            frame = _one_of(TO_PLACES if name in self.places else TO_PEOPLE, rng)
            return _fill(frame.replace("{person}", name).replace("{place}", name), rng)
        return _fill(_one_of(COMMANDS if kind == "commands" else CODES, rng), rng)


def _fill(frame: str, rng: np.random.Generator) -> str:
    words = []
    for word in frame.split():
        match word:
            case "{number}":
                words.append(_number(rng))
            case "{digits}":
                words.append(_digits(rng, int(rng.integers(1, 4))))
            case "{letters}":
                words += [_one_of(LETTERS, rng) for _ in range(rng.integers(2, 7))]
            case "{thousands}":
                thousands = f"{_one_of(DIGITS[:9], rng)} thousand " * bool(rng.random() < 0.5)
                words.append(f"{thousands}{_one_of(DIGITS[:9], rng)} hundred and {_number(rng)}")
            case "{way}":
                words.append(_one_of(("up", "down"), rng))
            case "{month}":
                words.append(_one_of(MONTHS, rng))
            case "{ordinal}":
                words.append(_one_of(ORDINALS, rng))
            case _:
                words.append(word)
    return " ".join(words)


def _digits(rng: np.random.Generator, count: int) -> str:
    return " ".join(_one_of(DIGITS, rng) for _ in range(count))


def _number(rng: np.random.Generator) -> str:
    """A number from 1 to 99, as it is said."""
    kind = rng.random()
    if kind < 0.25:
        return _one_of(DIGITS[:9], rng)
    if kind < 0.5:
        return _one_of(TEENS, rng)
    tens = _one_of(TENS, rng)
    return tens if kind < 0.7 else f"{tens} {_one_of(DIGITS[:9], rng)}"


def _one_of(values: Sequence[str], rng: np.random.Generator) -> str:
    return str(values[int(rng.integers(len(values)))])

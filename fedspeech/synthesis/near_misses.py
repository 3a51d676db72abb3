"""Near misses of a word: what sounds almost like it and is another word.

Distances are counted in phonemes, stress left out: an insertion or a deletion costs 1, and so does
a substitution, but for pairs that accents or careless speech take for each other, which cost 1/2.
What is closer than 1 counts as the word itself: "sero" is a "zero" that somebody devoiced, and
training against it would teach a model to reject an accent.

    >>> zero = ("Z", "IH1", "R", "OW0")
    >>> distance(zero, ("HH", "IH1", "R", "OW0")), distance(zero, ("S", "IY1", "R", "OW0"))
    (1.0, 1.0)
    >>> ("Z", "IH1") in parts(zero)
    True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from fedspeech.seeds import stream
from fedspeech.synthesis.lexicon import (
    CONSONANTS,
    PRONUNCIATIONS,
    VOWELS,
    parse_phones,
    pronunciation,
    speakable,
)

Phonemes = tuple[str, ...]

FARTHEST = 2.0
"""Distance up to which another word is a near miss."""

MARK = "~"
"""In the name of a near miss, and in no word of a corpus."""

NAMED_DRAWS = 96

_CONFUSED = frozenset(
    frozenset(pair.split())
    for pair in (
        *("IH IY", "UH UW", "AE EH", "EH IH", "AA AO", "AA AH", "AH UH", "AH ER", "AO OW", "EH EY"),
        *("S Z", "T D", "P B", "K G", "F V", "TH DH", "SH ZH", "CH JH", "N NG", "TH T", "DH D"),
    )
)


def distance(one: Phonemes, other: Phonemes) -> float:
    """Weighted edit distance of two pronunciations (Levenshtein 1966; see the module)."""
    before = [float(column) for column in range(len(other) + 1)]
    for row, left in enumerate(one, start=1):
        now = [float(row)]
        for column, right in enumerate(other, start=1):
            now.append(
                min(
                    before[column] + 1,
                    now[-1] + 1,
                    before[column - 1] + _substitution(_bare(left), _bare(right)),
                )
            )
        before = now
    return before[-1]


def parts(phones: Phonemes) -> tuple[Phonemes, ...]:
    """Beginnings and ends that hold a vowel, the two halves among them, without the word itself."""
    cuts = range(1, len(phones))
    found = (*(phones[:cut] for cut in cuts), *(phones[cut:] for cut in cuts))
    return tuple(dict.fromkeys(part for part in found if _spoken(part, phones)))


def edits(phones: Phonemes) -> tuple[Phonemes, ...]:
    """Pseudo-words at one edit: each phoneme left out, or another of its class in its place."""
    found: dict[Phonemes, None] = {}
    for place, phone in enumerate(phones):
        kind = VOWELS if _bare(phone) in VOWELS else CONSONANTS
        stress = phone[len(_bare(phone)) :]
        for instead in ((), *((other + stress,) for other in sorted(kind))):
            edited = (*phones[:place], *instead, *phones[place + 1 :])
            if _spoken(edited, phones):
                found[edited] = None
    return tuple(found)


def neighbors(phones: Phonemes, words: Mapping[str, str]) -> tuple[Phonemes, ...]:
    """Pronunciations of words (word to ARPAbet) at a distance of 1 to `FARTHEST`."""
    said = (parse_phones(word, spelled) for word, spelled in sorted(words.items()))
    return tuple(other for other in said if 1 <= distance(phones, other) <= FARTHEST)


def draws(
    phones: Phonemes, words: Mapping[str, str], rng: np.random.Generator
) -> Iterator[Phonemes]:
    """Yields near misses without end: parts, one edit, two edits and words, each as often."""
    once = edits(phones)
    kinds = [kind for kind in (parts(phones), once, neighbors(phones, words)) if kind]
    while True:
        kind = int(rng.integers(len(kinds) + 1))
        if kind < len(kinds):
            yield kinds[kind][rng.integers(len(kinds[kind]))]
            continue
        twice = edits(once[rng.integers(len(once))])
        chosen = twice[rng.integers(len(twice))]
        if 1 <= distance(phones, chosen) <= FARTHEST:
            yield chosen


def named(targets: Sequence[str], lexicon: Mapping[str, str]) -> dict[str, str]:
    """Near misses of target words as words of a lexicon: name to ARPAbet string.

    The same for everybody, whatever the run's seed. A target without a pronunciation has none, and
    what is a near miss of one target but sounds like another is left out.
    """
    said = {word: pronunciation(word, lexicon) for word in speakable(targets, lexicon)}
    found: dict[str, str] = {}
    for target, phones in said.items():
        rng = stream(0, "near misses", target)
        drawn = dict.fromkeys(islice(draws(phones, PRONUNCIATIONS, rng), NAMED_DRAWS))
        apart = [one for one in drawn if all(distance(one, other) >= 1 for other in said.values())]
        found |= {f"{target}{MARK}{number:03d}": " ".join(one) for number, one in enumerate(apart)}
    return found


def is_near_miss(word: str) -> bool:
    """Whether `named` gave a word its name."""
    return MARK in word


def _spoken(part: Phonemes, phones: Phonemes) -> bool:
    """Whether it can be said by itself and is another word."""
    return any(_bare(one) in VOWELS for one in part) and distance(part, phones) >= 1


def _substitution(one: str, other: str) -> float:
    if one == other:
        return 0.0
    return 0.5 if frozenset((one, other)) in _CONFUSED else 1.0


def _bare(phone: str) -> str:
    return phone.rstrip("012")

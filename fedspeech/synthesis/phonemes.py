"""Phonemes as acoustic segments: for each pronunciation, a table of targets.

A segment is a stretch of steady targets: a vowel is one, a diphthong two, a stop three (closure,
burst, puff). The synthesizer smooths the targets over time; transitions, coarticulation and the
undershoot of short vowels (Lindblom 1963) follow from that.

Vowels: formants and durations of Hillenbrand et al. 1995 (J. Acoust. Soc. Am. 97, 3099), Table V,
men. Glides of diphthongs follow Holbrook and Fairbanks 1962; consonants the loci of Delattre,
Liberman and Cooper 1955 and the durations and amplitudes of Klatt 1976, 1980 (J. Acoust. Soc. Am.
59, 1208 and 67, 971), rounded; durations are those of words said alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from fedspeech.synthesis.lexicon import CONSONANTS, VOWELS
from fedspeech.synthesis.voices import ACCENTS, Accent

SYMBOLS = (*sorted(VOWELS), *sorted(CONSONANTS))
"""Phones in the order of their numbers."""

HISSES = ("none", "s", "sh", "f", "th", "t", "k_front", "k_back", "p", "click")
"""Kinds of frication in the order of their numbers; `formants` draws their spectra."""

COLUMNS = (
    *("f1", "f2", "f3", "b1", "b2", "b3"),
    *("voicing", "breath", "hiss", "hiss_kind", "ms", "tempo", "stress", "release", "symbol"),
)
"""Columns of a segment table: Hz; linear amplitudes; the number of the hiss; duration in ms; how
much of a tempo change it takes (1 all, 0 none); stress 0 or 1; 1 if a word-final release; phone."""

_Formants = tuple[float, float, float]

_VOWEL_TARGETS: dict[str, tuple[_Formants, _Formants | None, int]] = {
    "IY": ((342, 2322, 3000), None, 243),
    "IH": ((427, 2034, 2684), None, 192),
    "EH": ((580, 1799, 2605), None, 189),
    "AE": ((588, 1952, 2601), (640, 1780, 2550), 278),
    "AA": ((768, 1333, 2522), None, 267),
    "AO": ((652, 997, 2538), None, 283),
    "UH": ((469, 1122, 2434), None, 192),
    "UW": ((378, 997, 2343), None, 237),
    "AH": ((623, 1200, 2550), None, 188),
    "ER": ((474, 1379, 1710), None, 263),
    "EY": ((500, 2020, 2650), (370, 2280, 2850), 267),
    "OW": ((530, 950, 2460), (400, 820, 2400), 265),
    "AY": ((740, 1260, 2520), (420, 2080, 2680), 300),
    "AW": ((750, 1350, 2520), (440, 950, 2400), 300),
    "OY": ((540, 880, 2480), (420, 2000, 2650), 310),
}
_SCHWA = (500, 1500, 2500)
_BANDWIDTHS = (70.0, 90.0, 130.0)

# Place of articulation: the locus its formants point to, and the vowel's share in it.
_LIPS = ((250, 850, 2250), 0.5)
_TEETH = ((280, 1350, 2550), 0.4)
_RIDGE = ((280, 1780, 2700), 0.3)
_PALATE = ((280, 2000, 2600), 0.25)
_VELUM = ((280, 1900, 2200), 0.7)

_STOPS = {
    # place, voiced, hiss, amplitude of the burst, ms of the burst, ms of the puff
    "P": (_LIPS, False, "p", 0.22, 9, 42),
    "T": (_RIDGE, False, "t", 0.40, 14, 48),
    "K": (_VELUM, False, "k", 0.36, 18, 52),
    "B": (_LIPS, True, "p", 0.16, 8, 4),
    "D": (_RIDGE, True, "t", 0.24, 10, 6),
    "G": (_VELUM, True, "k", 0.22, 14, 10),
}
_CONTINUANTS = {
    # formants, the vowel's share, ms, factor on ms at the end of a word, tempo, voicing, hiss, its
    # kind, damping; murmur spectra of nasals after Fujimura 1962
    "S": (*_RIDGE, 125, 1.3, 0.7, 0.0, 0.42, "s", 1.5),
    "Z": (*_RIDGE, 90, 1.3, 0.7, 0.30, 0.22, "s", 1.5),
    "SH": (*_PALATE, 125, 1.3, 0.7, 0.0, 0.45, "sh", 1.5),
    "ZH": (*_PALATE, 85, 1.3, 0.7, 0.30, 0.22, "sh", 1.5),
    "F": (*_LIPS, 115, 1.3, 0.7, 0.0, 0.13, "f", 1.5),
    "V": (*_LIPS, 70, 1.3, 0.7, 0.40, 0.06, "f", 1.5),
    "TH": (*_TEETH, 105, 1.3, 0.7, 0.0, 0.10, "th", 1.5),
    "DH": (*_TEETH, 55, 1.3, 0.7, 0.45, 0.05, "th", 1.5),
    "M": ((260, 1050, 2200), 0.15, 80, 1.35, 0.7, 0.55, 0.0, "none", 2.6),
    "N": ((270, 1550, 2600), 0.15, 75, 1.35, 0.7, 0.55, 0.0, "none", 2.6),
    "NG": ((280, 2050, 2550), 0.3, 85, 1.35, 0.7, 0.55, 0.0, "none", 2.6),
    "W": ((300, 680, 2250), 0.1, 70, 1.4, 0.8, 0.6, 0.0, "none", 1.2),
    "Y": ((280, 2280, 3000), 0.1, 65, 1.4, 0.8, 0.6, 0.0, "none", 1.2),
    "R": ((340, 1200, 1600), 0.15, 75, 1.4, 0.8, 0.7, 0.0, "none", 1.2),
    "L": ((370, 1080, 2650), 0.2, 75, 1.4, 0.8, 0.6, 0.0, "none", 1.2),
}


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """One row before the formants of consonants are filled in from their neighbors."""

    formants: tuple[float, ...]
    vowel_share: float
    ms: float
    tempo: float
    voicing: float = 0.0
    breath: float = 0.0
    hiss: float = 0.0
    hiss_kind: str = "none"
    damping: float = 1.0
    stress: float = 0.0
    release: float = 0.0
    symbol: int = 0


@lru_cache(maxsize=4096)
def word_segments(accent_name: str, phones: tuple[str, ...]) -> NDArray[np.float64]:
    """Returns the segment table of one word in one accent, shape (segments, columns); read-only."""
    accent = ACCENTS[accent_name]
    spoken = accent.realize(phones)
    segments: list[_Segment] = []
    for index in range(len(spoken)):
        segments.extend(_phone_segments(accent, spoken, index))
    return _table(_coarticulate(segments))


@cache
def gap_segments() -> NDArray[np.float64]:
    """Returns the segment table of a pause within a sentence, shape (1, columns); read-only."""
    return _table([_Segment(formants=_SCHWA, vowel_share=0, ms=70, tempo=1)])


@cache
def noise_segments() -> tuple[NDArray[np.float64], ...]:
    """Returns tables of recordings without speech: nothing, a breath, clicks."""
    rest = _Segment(formants=_SCHWA, vowel_share=0, ms=120, tempo=1)
    breath = replace(rest, ms=350, breath=0.10)
    click = replace(rest, ms=9, tempo=0, hiss=0.25, hiss_kind="click")
    tap = replace(rest, ms=16, tempo=0, hiss=0.3, hiss_kind="p")
    knock = replace(rest, ms=16, tempo=0, hiss=0.3, hiss_kind="k_back")
    return tuple(
        _table(rows)
        for rows in (
            [rest],
            [rest, breath, rest],
            [breath, rest, replace(breath, ms=500)],
            [click, rest, click],
            [tap, rest, rest, knock, rest, tap],
        )
    )


def _phone_segments(accent: Accent, phones: tuple[str, ...], index: int) -> list[_Segment]:
    """Segments of the phone at `index`, with what its neighbors decide."""
    phone = phones[index]
    bare = phone.rstrip("012")
    following = phones[index + 1].rstrip("012") if index + 1 < len(phones) else None
    previous = phones[index - 1].rstrip("012") if index else None
    if bare in VOWELS:
        made = _vowel(accent, bare, phone[-1] != "0", following)
    elif bare in _STOPS:
        made = _stop(accent, bare, previous, following)
    elif bare in ("CH", "JH"):
        made = _affricate(bare, following)
    elif bare == "HH":
        made = [_Segment(formants=_SCHWA, vowel_share=1, ms=65, tempo=0.6, breath=0.55)]
    else:
        made = [_continuant(accent, bare, following)]
    return [replace(segment, symbol=SYMBOLS.index(bare)) for segment in made]


def _vowel(accent: Accent, bare: str, stressed: bool, following: str | None) -> list[_Segment]:
    """One or two targets; shorter before voiceless sounds and longer at the end (Klatt 1976)."""
    first, second, usual_ms = _VOWEL_TARGETS[bare]
    low, high = accent.shifts.get(bare, (1.0, 1.0))
    length = usual_ms * 0.78 if stressed else 85 + 0.12 * usual_ms
    length += accent.even_timing * (150 - length)
    length *= accent.vowel_length
    if following is None:
        length *= 1.3
    elif following in {"P", "T", "K", "F", "TH", "S", "SH", "CH"}:
        length *= 0.78
    usual = _Segment(
        formants=(),
        vowel_share=0,
        ms=length,
        tempo=1,
        voicing=1.0 if stressed else 0.75,
        stress=1.0 if stressed else 0.0,
    )
    targets = [np.array(first, dtype=float)]
    if second is not None:
        targets.append(targets[0] + accent.glides.get(bare, 1.0) * (second - targets[0]))
    reduction = 0.0 if stressed else (0.45 if bare in ("AH", "IH", "EH", "AE") else 0.2)
    return [
        replace(
            usual,
            ms=length / len(targets),
            formants=tuple(
                (1 - reduction) * factor * hertz + reduction * schwa
                for hertz, factor, schwa in zip(target, (low, high, 1.0), _SCHWA, strict=True)
            ),
        )
        for target in targets
    ]


def _stop(accent: Accent, bare: str, previous: str | None, following: str | None) -> list[_Segment]:
    """Closure (a voice bar if voiced), burst, and a puff that depends on the place in a word."""
    (formants, share), voiced, hiss_kind, amplitude, burst_ms, puff_ms = _STOPS[bare]
    if hiss_kind == "k":
        front = following in {"IY", "IH", "EY", "EH", "AE", "Y"}
        hiss_kind = "k_front" if front else "k_back"
    final = following is None
    if previous == "S":
        puff_ms = 12
    elif final or following in CONSONANTS - {"R", "L", "W", "Y"}:
        puff_ms = 30 if not voiced else 8
    flap = bare in ("T", "D") and previous in VOWELS | {"R", "N"} and following in ("ER", "IY")
    closure_ms = 30 if flap else (55 if previous is None else 72) * accent.consonant_length
    usual = _Segment(formants=formants, vowel_share=share, ms=closure_ms, tempo=0.6)
    release = 1.0 if final else 0.0
    loudness = accent.final_release if final else 1.0
    return [
        replace(usual, voicing=0.16 if voiced or flap else 0.0, damping=3.0),
        replace(
            usual,
            ms=burst_ms,
            tempo=0.0,
            hiss=amplitude * loudness * (0.5 if flap else 1.0),
            hiss_kind=hiss_kind,
            voicing=0.1 if voiced else 0.0,
            release=release,
        ),
        replace(
            usual,
            ms=puff_ms * (accent.aspiration if not voiced else 1.0),
            tempo=0.4,
            vowel_share=min(1.0, share + 0.3),
            breath=0.5 * loudness if not voiced else 0.1,
            voicing=0.5 if voiced and not final else 0.0,
            release=release,
        ),
    ]


def _affricate(bare: str, following: str | None) -> list[_Segment]:
    """A closure and a short hiss."""
    formants, share = _PALATE
    voiced = bare == "JH"
    usual = _Segment(formants=formants, vowel_share=share, ms=60, tempo=0.6)
    return [
        replace(usual, voicing=0.14 if voiced else 0.0, damping=3.0),
        replace(
            usual,
            ms=(60 if voiced else 85) * (1.3 if following is None else 1),
            hiss=0.28 if voiced else 0.48,
            hiss_kind="sh",
            voicing=0.25 if voiced else 0.0,
        ),
    ]


def _continuant(accent: Accent, bare: str, following: str | None) -> _Segment:
    """A fricative, nasal or approximant: one target, longer at the end of a word."""
    formants, share, ms, at_end, tempo, voicing, hiss, hiss_kind, damping = _CONTINUANTS[bare]
    final = following is None
    if bare == "L" and following in VOWELS:  # clear before a vowel, dark elsewhere
        formants = (370, 1250, 2650)
    return _Segment(
        formants=formants,
        vowel_share=share,
        ms=ms * accent.consonant_length * (at_end if final else 1),
        tempo=tempo,
        voicing=voicing * (0.6 if final and hiss else 1),  # final fricatives lose their voice
        hiss=hiss,
        hiss_kind=hiss_kind,
        damping=damping,
    )


def _coarticulate(segments: list[_Segment]) -> list[_Segment]:
    """Moves consonants towards the vowels beside them, by each one's share."""
    filled = []
    for index, segment in enumerate(segments):
        beside = [
            next((other.formants for other in side if other.stress or other.tempo == 1), None)
            for side in (segments[index + 1 :], segments[:index][::-1])
        ]
        vowels = [formants for formants in beside if formants is not None]
        if segment.vowel_share and vowels:
            mean = np.mean(vowels, axis=0)
            share = np.array((0.3 * segment.vowel_share, segment.vowel_share, 0.5))
            if segment.vowel_share >= 0.8:
                share = np.full(3, segment.vowel_share)
            mixed = (1 - share) * np.array(segment.formants) + share * mean
            segment = replace(segment, formants=tuple(float(hertz) for hertz in mixed))
        filled.append(segment)
    return filled


def _table(segments: list[_Segment]) -> NDArray[np.float64]:
    """Rows of `COLUMNS`; shared by everybody, hence read-only."""
    rows = [
        (
            *segment.formants,
            *(width * segment.damping for width in _BANDWIDTHS),
            *(segment.voicing, segment.breath, segment.hiss, HISSES.index(segment.hiss_kind)),
            *(segment.ms, segment.tempo, segment.stress, segment.release, segment.symbol),
        )
        for segment in segments
    ]
    table = np.array(rows, dtype=np.float64)
    table.setflags(write=False)
    return table

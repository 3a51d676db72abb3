"""Voices drawn at random, and their accents.

An accent is a fixed set of shifts of vowels, consonants and timing, so a model's gain for an accent
can be traced to these shifts. The accents combine features reported of Englishes (Wells 1982,
"Accents of English"); none is a portrait of a place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from fedspeech.limits import NotNegative, check_limits

SEXES = ("female", "male")
AGE_BANDS = ("child", "young", "middle", "senior")


@dataclass(frozen=True, kw_only=True)
class Accent:
    """Differences of a group of speakers from the accent "plain".

    Attributes:
      replaced: phone (without stress) to the phones spoken instead.
      final: the same for the last phone of a word, applied after `replaced`.
      shifts: vowel to factors on its first and second formant.
      glides: diphthong to the share of its glide, by default 1.
      vowel_length, consonant_length: factors on durations.
      even_timing: shift of vowel durations to one common value, 0 to 1 (syllable timing).
      aspiration: factor on the puff after voiceless stops.
      final_release: factor on the release of word-final stops.
      pitch_swing: factor on the size of pitch movements.
    """

    name: str
    replaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    final: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shifts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    glides: Mapping[str, float] = field(default_factory=dict)
    vowel_length: float = 1.0
    consonant_length: float = 1.0
    even_timing: float = 0.0
    aspiration: float = 1.0
    final_release: float = 1.0
    pitch_swing: float = 1.0

    def realize(self, phones: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the spoken phones of a word's dictionary phones."""
        spoken = [new for phone in phones for new in _substitute(phone, self.replaced)]
        return (*spoken[:-1], *_substitute(spoken[-1], self.final)) if spoken else ()


def _substitute(phone: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Looks a phone up without its stress digit and passes the digit on to vowels."""
    bare = phone.rstrip("012")
    stress = phone[len(bare) :]
    if bare not in table:
        return (phone,)
    return tuple(new + stress if new[0] in "AEIOU" else new for new in table[bare])


PLAIN = Accent(name="plain")

_RAISED = Accent(
    # A chain shift of the front vowels, as in accents of the southern hemisphere: dress towards
    # kit, kit centralized, trap towards dress; price starts back, goat and mouth start open.
    name="raised",
    replaced={"AY": ("OY",)},
    final={"ER": ("AH",)},
    shifts={
        "EH": (0.62, 1.21), "AE": (0.73, 1.16), "IH": (1.17, 0.77), "AH": (1.3, 1.15),
        "AA": (0.75, 0.88), "AO": (0.62, 0.8), "AW": (0.9, 1.35), "OW": (1.38, 1.35),
        "UW": (1.0, 1.56),
    },
    vowel_length=1.05,
    pitch_swing=1.3,
)  # fmt: skip

_LEVELLED = Accent(
    # Diphthongs lose most of their glides and vowels are drawn out; back vowels merge towards open.
    name="levelled",
    glides={"AY": 0.1, "OW": 0.0, "EY": 0.0, "AW": 0.1, "OY": 0.1},
    shifts={
        "AY": (1.10, 1.10), "OW": (0.80, 0.84), "AW": (1.0, 1.32), "EY": (0.86, 1.06),
        "EH": (0.86, 1.12), "AO": (1.22, 1.24), "AA": (1.05, 1.12), "AH": (0.86, 1.20),
        "IH": (0.88, 1.12),
    },
    vowel_length=1.25,
    consonant_length=0.95,
    final_release=0.35,
)  # fmt: skip

_FIVE_VOWEL = Accent(
    # The vowels of a five-vowel system, every syllable as long as the next, no puff after p, t, k,
    # a tapped r, final consonants without voice.
    name="five_vowel",
    replaced={
        "IH": ("IY",), "UH": ("UW",), "AH": ("AA",), "AE": ("AA",), "ER": ("EH", "R"),
        "TH": ("T",), "DH": ("D",), "Z": ("S",), "V": ("B",), "R": ("D",),
    },
    final={"D": ("T",), "B": ("P",), "G": ("K",), "N": ("NG",), "M": ("N",), "ZH": ("SH",)},
    glides={"OW": 0.4, "EY": 0.5},
    shifts={
        "AA": (1.15, 1.17), "AO": (0.7, 0.8), "EH": (0.8, 1.15), "OW": (1.06, 0.9),
        "UW": (0.85, 0.75),
    },
    vowel_length=0.9,
    even_timing=0.7,
    aspiration=0.25,
    final_release=0.5,
    pitch_swing=0.7,
)  # fmt: skip

_FRONTED = Accent(
    # Back vowels move forward, l becomes a vowel, final t, p, k are swallowed, everything is short.
    name="fronted",
    replaced={"TH": ("F",)},
    final={"L": ("W",)},
    shifts={
        "OW": (1.08, 1.65), "UW": (1.0, 1.88), "UH": (1.0, 1.44), "AO": (0.85, 1.27),
        "AA": (0.82, 1.22), "AH": (0.73, 1.27), "AW": (0.8, 1.27), "AY": (0.85, 0.8),
        "EH": (1.22, 0.9), "AE": (1.15, 0.85),
    },
    vowel_length=0.82,
    consonant_length=0.92,
    final_release=0.1,
    pitch_swing=1.2,
)  # fmt: skip

ACCENTS: Mapping[str, Accent] = MappingProxyType(
    {accent.name: accent for accent in (PLAIN, _RAISED, _LEVELLED, _FIVE_VOWEL, _FRONTED)}
)
"""Accents by name. A base that is to be surprised by the others hears only "plain"."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How widely speakers, and the takes of one speaker, differ.

    Attributes:
      tract: standard deviation of the formant scale within a sex and age band, as a ratio.
      pitch_st: of the mean pitch, in semitones.
      rate: of the speaking rate, as a log ratio.
      vowels: of a speaker's own formants of each phoneme, as a ratio; the same in all takes.
      quality: of breathiness, spectral tilt, sibilants and clarity, relative to the usual.
      takes: factor on everything that differs from take to take.

    Raises:
      ValueError: if one is negative.
    """

    tract: NotNegative = 0.045
    pitch_st: NotNegative = 2.2
    rate: NotNegative = 0.16
    vowels: NotNegative = 0.06
    quality: NotNegative = 1.0
    takes: NotNegative = 1.0

    def __post_init__(self) -> None:
        """Checks the signs."""
        check_limits(self)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The acoustic figures of a speaker, the same in every take.

    Attributes:
      seed: of what has no field of its own (the place of each vowel).
      accent, sex, age_band: of `ACCENTS`, `SEXES` and `AGE_BANDS`.
      tract_scale: factor on formants; 1 is an adult man, a shorter vocal tract is above 1.
      sibilant_scale: factor on the frequencies of hissing sounds.
      pitch_hz: mean fundamental frequency.
      pitch_swing_st: size of a pitch accent, semitones.
      rate: speaking rate, 1 is usual.
      breathiness: breath noise relative to the usual amount.
      tilt: pole of the low-pass that softens the voice, 0 (bright) to below 1.
      jitter: standard deviation of pitch from frame to frame, as a ratio.
      clarity: 1 reaches every vowel's target, 0 says schwa for all.
      vowels, takes: see `Spread`.
    """

    seed: int
    accent: str
    sex: str
    age_band: str
    tract_scale: float
    sibilant_scale: float
    pitch_hz: float
    pitch_swing_st: float
    rate: float
    breathiness: float
    tilt: float
    jitter: float
    clarity: float
    vowels: float
    takes: float


def draw_voice(rng: np.random.Generator, accent: str, spread: Spread) -> Voice:
    """Draws a voice of an accent, which is a key of `ACCENTS`.

    Formant scales and pitches by sex and age: Hillenbrand et al. 1995 (J. Acoust. Soc. Am. 97,
    3099), Table V: women's formants about 1.16 times men's, children's about 1.26 times; 131, 220
    and 237 Hz. Rates and jitter by age are rounder figures.

    Raises:
      ValueError: if there is no such accent.
    """
    if accent not in ACCENTS:
        raise ValueError(f"accent must be one of {tuple(ACCENTS)}, got {accent!r}")
    sex = SEXES[rng.integers(2)]
    age_band = AGE_BANDS[np.searchsorted((0.12, 0.48, 0.82), rng.random())]
    scale, pitch_hz = (1.16, 208.0) if sex == "female" else (1.0, 122.0)
    rate, jitter = 1.0, 0.006
    if age_band == "child":
        scale, pitch_hz, rate = 1.26, 248.0, 0.92
    elif age_band == "senior":
        pitch_hz, rate, jitter = pitch_hz * (0.93 if sex == "female" else 1.05), 0.88, 0.015
    normal = rng.standard_normal(8).tolist()
    quality = spread.quality
    tract_scale = _within(scale * (1 + spread.tract * normal[0]), 0.82, 1.42)
    sibilant = 0.5 + 0.5 * tract_scale
    return Voice(
        seed=int(rng.integers(2**63)),
        accent=accent,
        sex=sex,
        age_band=age_band,
        tract_scale=tract_scale,
        sibilant_scale=_within(sibilant * (1 + 0.07 * quality * normal[1]), 0.75, 1.35),
        pitch_hz=_within(pitch_hz * 2 ** (spread.pitch_st * normal[2] / 12), 65, 400),
        pitch_swing_st=_within(3.0 + 1.5 * quality * normal[3], 0, 8),
        rate=rate * math.exp(spread.rate * normal[4]),
        breathiness=math.exp(0.6 * quality * normal[5]),
        tilt=_within(0.45 + 0.22 * quality * normal[6], 0, 0.88),
        jitter=jitter,
        clarity=_within(0.92 + 0.08 * quality * normal[7], 0.6, 1.0),
        vowels=spread.vowels,
        takes=spread.takes,
    )


def _within(value: float, low: float, high: float) -> float:
    """Limits a figure; quicker than NumPy for single numbers."""
    return min(max(value, low), high)

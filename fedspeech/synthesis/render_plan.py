"""The segments of a block of clips: words become segments, varied by speaker and by take.

`formants` turns segments into waveforms. Durations are whole samples, so that their sums are exact
and the bits of a clip do not depend on the clips before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ
from fedspeech.audio.draws import mix, normals, uniforms
from fedspeech.synthesis.lexicon import pronunciation
from fedspeech.synthesis.phonemes import COLUMNS, gap_segments, noise_segments, word_segments
from fedspeech.synthesis.voices import Voice

HOP = 128
"""Samples between two frames of the synthesizer: 8 ms."""

REST_FRAMES = 4
"""Frames of silence before and after each clip: as far as smoothing and overlap reach."""

TAKE_DRAWS = 20
COLUMN = {name: index for index, name in enumerate(COLUMNS)}

Table = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Take:
    """One utterance to be synthesized.

    Attributes:
      words: dictionary phones of each word; empty for silence.
      seed: of everything that differs from take to take, 0 to 2**64 - 1.
    """

    voice: Voice
    words: tuple[tuple[str, ...], ...]
    seed: int

    @classmethod
    def of(cls, voice: Voice, words: Iterable[str], rng: np.random.Generator) -> Take:
        """Says words of the lexicon, with a seed that is drawn."""
        spoken = tuple(pronunciation(str(word), {}) for word in words)
        return cls(voice=voice, words=spoken, seed=int(rng.integers(2**62)))


@dataclass(frozen=True)
class Score:
    """The segments of a block of takes, one clip after another.

    Attributes:
      segments: shape (s, columns), with each clip's variations applied.
      samples: length of each segment, shape (s,), integer.
      clip: index of each segment's clip, shape (s,).
      counts: segments per clip, shape (n,).
      draws: uniforms of each take, shape (n, TAKE_DRAWS): 1 and 2 place the clip, 3 and 4 its final
        release, 5 chooses a silence, 6 to 13 gaps, 15 to 17 breath, jitter and pulse.
      normals: standard normals of each take, shape (n, TAKE_DRAWS): 0 loudness, 1 rate, 2 hiss,
        3 breath, 5 tilt, 6 to 8 pitch.
    """

    segments: Table
    samples: NDArray[np.int64]
    clip: NDArray[np.intp]
    counts: NDArray[np.intp]
    draws: Table
    normals: Table


def lay_out(takes: Sequence[Take], longest: int) -> Score:
    """Lays out the segments of a block and applies the variation of each take."""
    seeds = np.array([take.seed for take in takes], dtype=np.uint64)
    # Two keys, since normals are quantiles of uniforms: of one key, each would follow from the
    # other.
    draws = uniforms(mix(seeds ^ np.uint64(0xA5)), TAKE_DRAWS)
    gauss = normals(mix(seeds ^ np.uint64(0x5A)), TAKE_DRAWS)
    tables = [_take_table(take, draw) for take, draw in zip(takes, draws, strict=True)]
    counts = np.array([len(table) for table in tables])
    clip = np.repeat(np.arange(len(takes)), counts)
    segments = np.concatenate(tables)
    place = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
    own = mix(seeds[clip] + np.uint64(977) * (place + 1).astype(np.uint64))
    wobble = normals(own, 4)
    variation = _variation(takes)[clip]
    _vary_formants(segments, takes, clip, wobble, variation)

    rate = np.array([take.voice.rate for take in takes])
    rate *= 1 + 0.11 * _variation(takes) * np.clip(gauss[:, 1], -2.5, 2.5)
    # Durations are those of words said alone; words in a sentence are shorter.
    rate[[len(take.words) > 1 for take in takes]] *= 1.35
    tempo = segments[:, COLUMN["tempo"]]
    stretch = 1 + tempo * (1 / np.maximum(rate[clip], 0.4) - 1)
    stretch *= 1 + 0.13 * variation * np.clip(wobble[:, 3], -2.5, 2.5)
    samples = np.rint(segments[:, COLUMN["ms"]] * stretch * (RATE_HZ / 1000)).astype(np.int64)
    # Rests of silence frames stand on either side.
    limit = longest - 2 * REST_FRAMES * HOP
    total = np.add.reduceat(samples, np.cumsum(counts) - counts)
    shrink = np.minimum(1.0, limit / total)
    # Rounded down, since segments rounded to the nearest could exceed the limit in their sum.
    samples = np.floor(samples * shrink[clip]).astype(np.int64)

    # A final release may be swallowed; effort, breath and hiss differ from take to take.
    swallowed = np.where(draws[:, 3] < 0.3, 0.1, 0.4 + 0.6 * draws[:, 4])[clip]
    release = segments[:, COLUMN["release"]] > 0
    for name, draw in (("hiss", 2), ("breath", 3)):
        column = segments[:, COLUMN[name]]
        column *= 10 ** (0.2 * np.clip(variation * gauss[clip, draw], -2.5, 2.5))  # +-4 dB
        column[release] *= swallowed[release]
    return Score(segments, samples, clip, counts, draws, gauss)


def _variation(takes: Sequence[Take]) -> Table:
    return np.array([take.voice.takes for take in takes])


def _take_table(take: Take, draws: Table) -> Table:
    """Segments of a take's words with gaps between them, or one of the noises of a silence."""
    if not take.words:
        noises = noise_segments()
        # Six silences in ten hold nothing, and one in ten each of the other noises.
        return noises[max(0, int(draws[5] * 10) - 5)]
    tables = []
    for index, phones in enumerate(take.words):
        if index and draws[6 + index % 8] < 0.6:
            tables.append(gap_segments() * (0.3 + draws[6 + (index + 3) % 8]))
        tables.append(word_segments(take.voice.accent, phones))
    return np.concatenate(tables)


def _vary_formants(
    segments: Table,
    takes: Sequence[Take],
    clip: NDArray[np.intp],
    wobble: Table,
    variation: Table,
) -> None:
    """Applies each speaker's vowels, clarity and tract length and each take's wobble, in place."""
    voice_seeds = np.array([take.voice.seed for take in takes], dtype=np.uint64)[clip]
    symbol = segments[:, COLUMN["symbol"]].astype(np.uint64)
    stressed = segments[:, COLUMN["stress"]].astype(np.uint64)
    own = mix(voice_seeds + np.uint64(31) * symbol + np.uint64(7_919) * stressed)
    idiolect = normals(own, 3)
    spread = np.array([take.voice.vowels for take in takes])[clip]
    clarity = np.array([take.voice.clarity for take in takes])[clip]
    scale = np.array([take.voice.tract_scale for take in takes])[clip]
    for column, schwa in enumerate((500.0, 1500.0, 2500.0)):
        hertz = segments[:, column]
        hertz += (1 - clarity) * (schwa - hertz)
        hertz *= 1 + np.clip(spread * idiolect[:, column], -0.2, 0.2)
        hertz *= 1 + np.clip(0.02 * variation * wobble[:, column], -0.1, 0.1)
        hertz *= scale

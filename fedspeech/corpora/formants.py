"""A formant synthesiser in NumPy: many clips at once, frame by frame, by FFT.

Each frame of 8 ms is a glottal or noise spectrum times the spectrum of an all-pole vocal tract (the
cascade of Klatt 1980, J. Acoust. Soc. Am. 67, 971), plus a hiss of its own shape; frames overlap
and add. The frames of all clips of a block stand one after another in one array, padded so that
every array operation takes the same path whoever else is in the block: the bits of a clip depend
on its `Take` alone.

    clips = word_clips([Take(voice=voice, words=(("G", "OW1"),), seed=1)], 16_000)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fedspeech.audio.devices import SPEECH_RMS
from fedspeech.audio.draws import mix, normals, uniforms
from fedspeech.corpora.phones import COLUMNS, HISSES, gap_segments, noise_segments, word_segments
from fedspeech.corpora.voices import ACCENTS, Voice
from fedspeech.seeds import stream

SYNTHESISER_VERSION = 1
"""Part of every fingerprint: raise it whenever the same take gives another waveform."""

RATE_HZ = 16_000
_HOP = 128
_FFT = 512
_BINS = _FFT // 2 + 1
_BLOCK_CLIPS = 24
_ROWS = 16  # arrays of frames are padded to a multiple of this
_REST = 4  # frames of silence before and after each clip: what smoothing and overlap reach
_HIGHER_HZ = (3_500.0, 4_500.0, 5_450.0, 6_400.0)  # fourth formant and up, at tract scale 1
_HIGHER_BANDWIDTHS = (220.0, 300.0, 400.0, 500.0)
_TAKE_DRAWS = 20
_NOISE_FRAMES = 2_048
_PULSE_POINTS = 2_048
_PULSE_HARMONICS = (64, 40, 24)
_USUAL_PEAK = 7.0  # of speech before scaling
_LOUDNESS = 0.377  # brings the median clip to `SPEECH_RMS`
_LONGEST_SHARE = 0.94  # of a clip that a word may fill
_COLUMN = {name: index for index, name in enumerate(COLUMNS)}

Table = NDArray[np.float64]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Take:
    """One recording to be made: who says what, and which of their ways of saying it.

    Attributes:
      voice: who speaks.
      words: dictionary phones of each word; empty for a recording in which nobody speaks.
      seed: everything that differs from take to take, 0 to 2**64 - 1.
    """

    voice: Voice
    words: tuple[tuple[str, ...], ...]
    seed: int


def word_clips(takes: Sequence[Take], num_samples: int) -> FloatArray:
    """Synthesises clips of one length, each utterance at a random place in it.

    An utterance that is longer than the clip is spoken faster.

    Args:
      takes: n of them.
      num_samples: length of a clip at 16 kHz, at least 4,000.

    Returns:
      Shape (n, num_samples), float32, speech at about `SPEECH_RMS` times its take's loudness.

    Raises:
      ValueError: if the clip is too short to hold a word.
    """
    if num_samples < 4_000:
        raise ValueError(f"num_samples must be at least 4000, got num_samples={num_samples}")
    longest = int(_LONGEST_SHARE * num_samples)
    clips = np.zeros((len(takes), num_samples), dtype=np.float32)
    for start in range(0, len(takes), _BLOCK_CLIPS):
        block = takes[start : start + _BLOCK_CLIPS]
        for row, (sound, place) in enumerate(_speak(block, longest)):
            slack = num_samples - len(sound)
            onset = int(place * slack)
            clips[start + row, onset : onset + len(sound)] = sound
    return clips


def sentences(takes: Sequence[Take]) -> list[FloatArray]:
    """Synthesises utterances of any number of words, each as long as it takes.

    Args:
      takes: n of them.

    Returns:
      n arrays of shape (samples,), float32, with 32 to 300 ms of silence at either end.
    """
    spoken = []
    for start in range(0, len(takes), _BLOCK_CLIPS):
        for sound, place in _speak(takes[start : start + _BLOCK_CLIPS], None):
            lead, trail = int(4_300 * place), int(4_300 * (1 - place))
            spoken.append(np.pad(sound, (lead, trail)))
    return spoken


@dataclass(frozen=True)
class _Score:
    """What a block of takes plays: segments of all clips one after another.

    Attributes:
      segments: shape (s, columns), with each clip's variations applied.
      samples: length of each segment, shape (s,), integer.
      clip: which clip each segment belongs to, shape (s,).
      counts: segments per clip, shape (n,).
      draws: uniforms of each take, shape (n, _TAKE_DRAWS).
      normals: standard normals of each take, shape (n, _TAKE_DRAWS).
    """

    segments: Table
    samples: NDArray[np.int64]
    clip: NDArray[np.intp]
    counts: NDArray[np.intp]
    draws: Table
    normals: Table


def _speak(takes: Sequence[Take], longest: int | None) -> list[tuple[FloatArray, float]]:
    """Synthesises one block; returns each clip's sound and where (0 to 1) it wants to stand."""
    score = _score(takes, longest)
    frames = _Frames.of(score)
    voices = [take.voice for take in takes]
    sound = _render(frames, score, voices)
    ends = np.cumsum(frames.per_clip)
    spoken = []
    for clip, end in enumerate(ends):
        piece = sound[end - frames.per_clip[clip] : end].reshape(-1)
        # +-3.5 dB around nominal. Peaks, unlike sums, do not depend on the order of adding.
        level = SPEECH_RMS * 10 ** (0.175 * voices[clip].takes * score.normals[clip, 0])
        peak = max(float(np.max(np.abs(piece))), 1e-3)
        # Utterances of equal peak differ less in loudness than in peak, hence the power.
        reference = _LOUDNESS * (peak if takes[clip].words else _USUAL_PEAK) ** 0.8
        spoken.append((piece * np.float32(level / reference), _place(score.draws[clip])))
    return spoken


def _place(draws: Table) -> float:
    """Where a clip's sound stands in its slack: mostly near the middle, sometimes anywhere."""
    spread = 1.0 if draws[1] < 0.25 else 0.5
    return float(0.5 + spread * (draws[2] - 0.5))


def _score(takes: Sequence[Take], longest: int | None) -> _Score:
    """Lays out segments and lets each take vary them."""
    seeds = np.array([take.seed for take in takes], dtype=np.uint64)
    draws = uniforms(mix(seeds ^ np.uint64(0xA5)), _TAKE_DRAWS)
    gauss = normals(mix(seeds ^ np.uint64(0x5A)), _TAKE_DRAWS)
    tables = [_take_table(take, draw) for take, draw in zip(takes, draws, strict=True)]
    counts = np.array([len(table) for table in tables])
    clip = np.repeat(np.arange(len(takes)), counts)
    segments = np.concatenate(tables)
    place = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
    own = mix(seeds[clip] + np.uint64(977) * (place + 1).astype(np.uint64))
    wobble = normals(own, 4)
    variation = _variation(takes)[clip]
    _vary_formants(segments, takes, clip, wobble, variation)

    rate = np.array([take.voice.rate for take in takes]) * (
        1 + 0.11 * _variation(takes) * np.clip(gauss[:, 1], -2.5, 2.5)
    )
    tempo = segments[:, _COLUMN["tempo"]]
    stretch = 1 + tempo * (1 / np.maximum(rate[clip], 0.4) - 1)
    stretch *= 1 + 0.13 * variation * np.clip(wobble[:, 3], -2.5, 2.5)
    samples = np.rint(segments[:, _COLUMN["ms"]] * stretch * (RATE_HZ / 1000)).astype(np.int64)
    if longest is not None:
        # Rests of silence frames stand on either side.
        limit = longest - 2 * _REST * _HOP
        total = np.add.reduceat(samples, np.cumsum(counts) - counts)
        shrink = np.minimum(1.0, limit / total)
        samples = np.floor(samples * shrink[clip]).astype(np.int64)

    # A final release may be swallowed; effort, breath and hiss differ from take to take.
    swallowed = np.where(draws[:, 3] < 0.3, 0.1, 0.4 + 0.6 * draws[:, 4])[clip]
    release = segments[:, _COLUMN["release"]] > 0
    for name, draw in (("hiss", 2), ("breath", 3)):
        column = segments[:, _COLUMN[name]]
        column *= 10 ** (0.2 * np.clip(variation * gauss[clip, draw], -2.5, 2.5))  # +-4 dB
        column[release] *= swallowed[release]
    return _Score(segments, samples, clip, counts, draws, gauss)


def _variation(takes: Sequence[Take]) -> Table:
    """How much each take of a block may vary, shape (n,)."""
    return np.array([take.voice.takes for take in takes])


def _take_table(take: Take, draws: Table) -> Table:
    """Segments of a take's words with gaps between them, or one of the noises of a silence."""
    if not take.words:
        noises = noise_segments()
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
    """Applies the speaker's vowel places, clarity and tract and the take's wobble, in place."""
    voice_seeds = np.array([take.voice.seed for take in takes], dtype=np.uint64)[clip]
    symbol = segments[:, _COLUMN["symbol"]].astype(np.uint64)
    stressed = segments[:, _COLUMN["stress"]].astype(np.uint64)
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


@dataclass(frozen=True)
class _Frames:
    """Tracks of all clips of a block, one row per frame of 8 ms, padded to whole blocks of rows.

    Attributes:
      clip: which clip each frame belongs to, shape (f,); padding belongs to the last.
      per_clip: frames of each clip, shape (n,).
      first: the first frame of each clip, shape (n,).
      place: of each frame in its clip, 0 at the start of speech to 1 at its end, shape (f,).
      tracks: segment columns by frame, shape (f, columns), formants smoothed.
      speech: 1 within speech and 0 in rests and padding, shape (f,).
    """

    clip: NDArray[np.intp]
    per_clip: NDArray[np.intp]
    first: NDArray[np.intp]
    place: Table
    tracks: Table
    speech: Table

    @classmethod
    def of(cls, score: _Score) -> _Frames:
        """Cuts segments into frames and smooths their targets."""
        ends = np.cumsum(score.samples)
        last_segment = np.cumsum(score.counts) - 1
        first_segment = last_segment + 1 - score.counts
        base = ends[first_segment] - score.samples[first_segment]
        local_end = ends - base[score.clip]
        frame_end = (local_end + _HOP // 2) // _HOP
        frame_start = np.concatenate(([0], frame_end[:-1]))
        frame_start[first_segment] = 0
        lengths = frame_end - frame_start
        spoken = frame_end[last_segment]
        lengths[first_segment] += _REST
        lengths[last_segment] += _REST
        per_clip = spoken + 2 * _REST
        total = int(per_clip.sum())
        padding = -total % _ROWS
        lengths[-1] += padding
        segment = np.repeat(np.arange(len(lengths)), lengths)
        clip = score.clip[segment]
        first = np.cumsum(per_clip) - per_clip
        within = np.arange(total + padding) - first[clip] - _REST
        speech = ((within >= 0) & (within < spoken[clip])).astype(np.float64)
        place = np.clip(within / np.maximum(spoken[clip], 1), 0, 1)
        tracks = score.segments[segment]
        smooth = slice(0, _COLUMN["b3"] + 1)
        tracks[:, smooth] = _smoothed(tracks[:, smooth], (1, 2, 3, 4, 3, 2, 1))
        return cls(clip, per_clip, first, place, tracks, speech)

    def column(self, name: str) -> Table:
        """One track, shape (f,)."""
        return self.tracks[:, _COLUMN[name]]


def _smoothed(tracks: Table, weights: tuple[int, ...]) -> Table:
    """Weighted moving mean over frames; reaches no further than a clip's own rests."""
    reach = len(weights) // 2
    padded = np.pad(tracks, ((reach, reach), (0, 0)), mode="edge")
    smooth = np.zeros_like(tracks)
    for shift, weight in enumerate(weights):
        smooth += (weight / sum(weights)) * padded[shift : shift + len(tracks)]
    return smooth


def _render(frames: _Frames, score: _Score, voices: Sequence[Voice]) -> FloatArray:
    """Sources through filters, overlapped and added; returns sound by frame, shape (f, hop)."""
    figures = np.array([(v.breathiness, v.tilt, v.tract_scale) for v in voices])[frames.clip]
    variation = np.array([v.takes for v in voices])[frames.clip]
    gauss = score.normals[frames.clip]
    speech = frames.speech[:, None]
    smoothed = _smoothed(
        np.stack([frames.column("voicing"), frames.column("breath")], axis=1) * speech, (1, 2, 1)
    )
    voicing = smoothed[:, 0]
    # The voice fades over the last frames of an utterance.
    voicing = voicing * (1 - 0.7 * frames.place**6)
    breath = 0.30 * smoothed[:, 1] + 0.018 * figures[:, 0] * voicing
    hiss = frames.column("hiss") * frames.speech * 1.0
    tilt = np.clip(figures[:, 1] + 0.1 * variation * gauss[:, 5], 0, 0.92)

    gain = _tract_spectra(frames, figures[:, 2], tilt)
    voice_spectra = _voice_spectra(frames, score, voices)
    noise = _noise_spectra()
    start = (score.draws[:, 15] * _NOISE_FRAMES).astype(np.intp)[frames.clip]
    where = (start + np.arange(len(start)) - frames.first[frames.clip]) % _NOISE_FRAMES
    noise_spectra = noise[where]

    # Real factors work on the interleaved view: (f, 2 * bins) float32.
    voiced = voice_spectra.view(np.float32)
    voiced *= voicing.astype(np.float32)[:, None]
    noisy = noise_spectra.view(np.float32)
    voiced += noisy * breath.astype(np.float32)[:, None]
    voice_spectra *= gain
    scale_row = _sibilant_rows(voices)[frames.clip]
    kind = frames.column("hiss_kind").astype(np.intp)
    shape = _hiss_spectra()[kind, scale_row]
    shape *= hiss.astype(np.float32)[:, None]
    noisy *= shape
    voiced += noisy
    pieces = scipy.fft.irfft(voice_spectra, _FFT, axis=1)
    sound: FloatArray = pieces[:, :_HOP].copy()
    for lag in range(1, _FFT // _HOP):
        sound[lag:] += pieces[:-lag, lag * _HOP : (lag + 1) * _HOP]
    return sound


def _voice_spectra(
    frames: _Frames, score: _Score, voices: Sequence[Voice]
) -> NDArray[np.complex64]:
    """Spectra of the glottal source, shape (f, bins).

    The phase is a 32-bit integer that wraps once a period, so that its sum over frames is exact
    and a clip's phases do not depend on the clips before it.
    """
    pitch = np.array([(v.pitch_hz, v.pitch_swing_st, v.jitter) for v in voices])
    variation = np.array([v.takes for v in voices])
    swing = np.array([ACCENTS[v.accent].pitch_swing for v in voices])
    gauss = score.normals
    start_st = 1.6 * variation * gauss[:, 6]
    slope_st = -2.5 + 2.5 * variation * gauss[:, 7]
    bump_st = pitch[:, 1] * swing * (1 + 0.4 * gauss[:, 8])
    accent = _smoothed((frames.column("stress") * frames.speech)[:, None], (1,) * 7)[:, 0]
    clip = frames.clip
    semitones = start_st[clip] + slope_st[clip] * frames.place + bump_st[clip] * accent
    seeds = np.round(score.draws[:, 16] * 2.0**52).astype(np.uint64)
    own = mix(seeds[clip] + (np.arange(len(clip)) - frames.first[clip]).astype(np.uint64))
    shake = (uniforms(own, 1)[:, 0] - 0.5) * 3.46
    hertz = pitch[clip, 0] * np.exp2(np.clip(semitones, -14, 14) / 12)
    hertz *= 1 + pitch[clip, 2] * shake
    step = np.rint(hertz * (2.0**32 / RATE_HZ)).astype(np.uint64)
    turns = np.cumsum(step * np.uint64(_HOP), dtype=np.uint64)
    begin = turns - step * np.uint64(_HOP)
    begin = (begin - begin[frames.first][clip]).astype(np.uint32)
    phase = begin[:, None] + step.astype(np.uint32)[:, None] * np.arange(_HOP, dtype=np.uint32)
    # Which pulse: rich in harmonics for a low voice, poor for a high one, so that few alias.
    rich = np.searchsorted((125.0, 205.0), pitch[:, 0])
    quality = (score.draws[:, 17] * 3).astype(np.intp)
    table = ((rich * 3 + quality) * _PULSE_POINTS).astype(np.uint32)[clip]
    index = (phase >> np.uint32(32 - 11)) + table[:, None]
    samples = _pulses().take(index)
    window = _window()
    buffer = np.zeros((len(clip), _FFT), dtype=np.float32)
    np.multiply(samples, window[:_HOP], out=buffer[:, :_HOP])
    np.multiply(samples[1:], window[_HOP:], out=buffer[:-1, _HOP : 2 * _HOP])
    spectra: NDArray[np.complex64] = scipy.fft.rfft(buffer, axis=1)
    return spectra


def _tract_spectra(frames: _Frames, scale: Table, tilt: Table) -> NDArray[np.complex64]:
    """Spectra of the all-pole vocal tract, gain 1 at 0 Hz, shape (f, bins).

    The product of all second-order sections is one polynomial in the delay; its FFT is the
    denominator at every bin.
    """
    num_frames = len(scale)
    cosine, radius = _pole_tables()
    polynomial = np.zeros((2 + 2 * (3 + len(_HIGHER_HZ)), num_frames))
    polynomial[0] = 1
    polynomial[1] = -tilt
    level = 1 - tilt
    for pole in range(3 + len(_HIGHER_HZ)):
        if pole < 3:
            hertz = np.clip(frames.tracks[:, pole], 150, 7_900)
            width = np.minimum(frames.tracks[:, 3 + pole], 1_000)
        else:
            hertz = np.minimum(_HIGHER_HZ[pole - 3] * scale, 7_900)
            width = np.full(num_frames, _HIGHER_BANDWIDTHS[pole - 3])
        r = radius[np.rint(width).astype(np.intp)]
        first = 2 * r * cosine[np.rint(hertz).astype(np.intp)]
        second = -(r * r)
        level *= 1 - first - second
        top = 2 + 2 * pole
        grown = polynomial[: top + 2].copy()
        grown[1:] -= first * polynomial[: top + 1]
        grown[2:] -= second * polynomial[:top]
        polynomial[: top + 2] = grown
    taps = np.zeros((num_frames, _FFT), dtype=np.float32)
    taps[:, : len(polynomial)] = polynomial.T
    spectra: NDArray[np.complex64] = scipy.fft.rfft(taps, axis=1)
    inverse = level.astype(np.float32)[:, None] / (spectra.real**2 + spectra.imag**2)
    spectra.real *= inverse
    inverse *= np.float32(-1)
    spectra.imag *= inverse
    return spectra


def _sibilant_rows(voices: Sequence[Voice]) -> NDArray[np.intp]:
    """Row of the hiss tables nearest to each voice's sibilant scale, shape (n,)."""
    scales = np.array([voice.sibilant_scale for voice in voices])
    rows: NDArray[np.intp] = np.rint((np.clip(scales, 0.75, 1.35) - 0.75) / 0.05).astype(np.intp)
    return rows


@lru_cache(maxsize=1)
def _window() -> FloatArray:
    """Periodic Hann window of two hops: shifted copies add up to one."""
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * _HOP) / _HOP)).astype(np.float32)


@lru_cache(maxsize=1)
def _pole_tables() -> tuple[Table, Table]:
    """Cosine of the angle of a pole and its radius, by hertz in steps of one."""
    hertz = np.arange(RATE_HZ // 2)
    return np.cos(2 * np.pi * hertz / RATE_HZ), np.exp(-np.pi * hertz / RATE_HZ)


@lru_cache(maxsize=1)
def _pulses() -> FloatArray:
    """Derivatives of the glottal flow over one period, unit energy, shape (9 * points,).

    The flow is the polynomial pulse of Klatt and Klatt 1990 (J. Acoust. Soc. Am. 87, 820, Fig. 12)
    at open quotients .45, .58 and .7, limited to a number of harmonics with a cosine taper.
    """
    time = np.arange(_PULSE_POINTS) / _PULSE_POINTS
    tables = []
    for harmonics in _PULSE_HARMONICS:
        for quotient in (0.45, 0.58, 0.7):
            opened = time / quotient
            flow = np.where(opened < 1, 2 * opened - 3 * opened**2, 0.0)
            spectrum = np.fft.rfft(flow)
            order = np.arange(len(spectrum)) / harmonics
            spectrum *= np.sqrt(np.cos(0.5 * np.pi * np.minimum(order, 1.0)))
            spectrum[0] = 0
            pulse = np.fft.irfft(spectrum, _PULSE_POINTS)
            tables.append(pulse / np.sqrt(np.mean(pulse**2)))
    return np.concatenate(tables).astype(np.float32)


@lru_cache(maxsize=1)
def _noise_spectra() -> NDArray[np.complex64]:
    """Windowed spectra of sixteen seconds of white noise, shape (frames, bins), on a circle."""
    noise = stream(0, "breath noise").standard_normal((_NOISE_FRAMES, _HOP), dtype=np.float32)
    pairs = np.concatenate([noise, np.roll(noise, -1, axis=0)], axis=1) * _window()
    spectra: NDArray[np.complex64] = scipy.fft.rfft(pairs, _FFT, axis=1)
    return spectra


@lru_cache(maxsize=1)
def _hiss_spectra() -> FloatArray:
    """Magnitudes of each hiss by sibilant scale, unit power, shape (hisses, 13, 2 * bins).

    Peaks as in Jongman, Wayland and Wong 2000 (J. Acoust. Soc. Am. 108, 1252) for fricatives and
    Stevens and Blumstein 1978 (64, 1358) for bursts. Each value stands twice: for the real and the
    imaginary part of its bin.
    """
    # Peaks as (Hz, width in octaves, height); frequencies below the cut fall at 18 dB per octave.
    shapes = {
        "none": ((1_000, 1.0, 1.0),),
        "s": ((5_800, 0.30, 1.0), (7_300, 0.3, 0.6)),
        "sh": ((3_100, 0.30, 1.0), (4_600, 0.45, 0.5)),
        "f": ((7_000, 1.6, 1.0), (1_500, 0.8, 0.35)),
        "th": ((6_300, 1.0, 1.0), (1_700, 0.8, 0.25)),
        "t": ((4_300, 0.45, 1.0), (6_000, 0.6, 0.5)),
        "k_front": ((2_700, 0.28, 1.0), (5_000, 0.6, 0.2)),
        "k_back": ((1_450, 0.28, 1.0), (3_600, 0.6, 0.2)),
        "p": ((700, 1.0, 1.0), (2_000, 1.2, 0.35)),
        "click": ((2_500, 1.5, 1.0),),
    }
    hertz = np.maximum(np.arange(_BINS) * RATE_HZ / _FFT, 30.0)
    tables = np.empty((len(HISSES), 13, _BINS))
    for row, name in enumerate(HISSES):
        for column in range(13):
            octaves = np.log2(hertz / (0.75 + 0.05 * column))
            magnitude = sum(
                height * np.exp(-0.5 * ((octaves - np.log2(peak)) / width) ** 2)
                for peak, width, height in shapes[name]
            )
            tables[row, column] = magnitude / np.sqrt(np.mean(np.square(magnitude)))
    return np.repeat(tables, 2, axis=2).astype(np.float32)

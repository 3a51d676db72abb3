"""A formant synthesizer in NumPy: many clips at once, frame by frame, by FFT.

Each frame of 8 ms is a glottal or noise spectrum times the spectrum of an all-pole vocal tract (the
cascade of Klatt 1980, J. Acoust. Soc. Am. 67, 971), plus a hiss of its own shape; frames overlap
and add. One array holds the frames of all clips of a block, padded so that array operations take
the same path for any other clips: the bits of a clip depend on its `Take` alone.

    clips = word_clips([Take(voice=voice, words=(("G", "OW1"),), seed=1)], 16_000)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ, SPEECH_RMS
from fedspeech.audio.draws import mix, uniforms
from fedspeech.synthesis.excitation import (
    FFT,
    NOISE_FRAMES,
    PULSE_POINTS,
    FloatArray,
    hiss_spectra,
    noise_spectra,
    pole_tables,
    pulses,
    sibilant_rows,
    window,
)
from fedspeech.synthesis.render_plan import COLUMN, HOP, REST_FRAMES, Score, Table, Take, lay_out
from fedspeech.synthesis.voices import ACCENTS, Voice

SYNTHESISER_VERSION = 2
"""Part of every fingerprint: raise it whenever the same take gives another waveform."""

_BLOCK_CLIPS = 24
_ROWS = 16  # arrays of frames are padded to a multiple of this
_HIGHER_HZ = (3_500.0, 4_500.0, 5_450.0, 6_400.0)  # fourth formant and up, at tract scale 1
_HIGHER_BANDWIDTHS = (220.0, 300.0, 400.0, 500.0)
_USUAL_PEAK = 7.0  # of speech before scaling
_LOUDNESS = 0.377  # brings the median clip to `SPEECH_RMS`
_LONGEST_SHARE = 0.94  # of a clip that a word may fill
_MARGIN = 4_300  # samples of silence around a sentence


def word_clips(takes: Sequence[Take], num_samples: int) -> FloatArray:
    """Synthesizes clips of one length at 16 kHz, each utterance at a random place in its clip.

    An utterance that is longer than the clip is spoken faster.

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


def sentences(takes: Sequence[Take], num_samples: int) -> list[FloatArray]:
    """Synthesizes utterances of any number of words and of their natural length.

    An utterance that is longer than `num_samples` is spoken faster.

    Returns:
      n arrays of shape (at most num_samples,), float32, with 32 to 300 ms of silence at either end.
    """
    spoken = []
    longest = num_samples - _MARGIN
    for start in range(0, len(takes), _BLOCK_CLIPS):
        for sound, place in _speak(takes[start : start + _BLOCK_CLIPS], longest):
            lead, trail = int(_MARGIN * place), int(_MARGIN * (1 - place))
            spoken.append(np.pad(sound, (lead, trail)))
    return spoken


def _speak(takes: Sequence[Take], longest: int) -> list[tuple[FloatArray, float]]:
    """Synthesizes one block; returns each clip's waveform and its place in the slack, 0 to 1."""
    score = lay_out(takes, longest)
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
    """Place of a waveform in the slack of its clip: mostly near the middle, a quarter anywhere."""
    spread = 1.0 if draws[1] < 0.25 else 0.5
    return float(0.5 + spread * (draws[2] - 0.5))


@dataclass(frozen=True)
class _Frames:
    """Tracks of all clips of a block, one row per frame of 8 ms, padded to whole blocks of rows.

    Attributes:
      clip: index of each frame's clip, shape (f,); padding belongs to the last.
      per_clip: frames of each clip, shape (n,).
      first: the first frame of each clip, shape (n,).
      place: of each frame, 0 at the start of speech to 1 at its end, shape (f,).
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
    def of(cls, score: Score) -> _Frames:
        """Cuts segments into frames and smooths their targets."""
        ends = np.cumsum(score.samples)
        last_segment = np.cumsum(score.counts) - 1
        first_segment = last_segment + 1 - score.counts
        base = ends[first_segment] - score.samples[first_segment]
        local_end = ends - base[score.clip]
        frame_end = (local_end + HOP // 2) // HOP
        frame_start = np.concatenate(([0], frame_end[:-1]))
        frame_start[first_segment] = 0
        lengths = frame_end - frame_start
        spoken = frame_end[last_segment]
        lengths[first_segment] += REST_FRAMES
        lengths[last_segment] += REST_FRAMES
        per_clip = spoken + 2 * REST_FRAMES
        total = int(per_clip.sum())
        padding = -total % _ROWS
        lengths[-1] += padding
        segment = np.repeat(np.arange(len(lengths)), lengths)
        clip = score.clip[segment]
        first = np.cumsum(per_clip) - per_clip
        within = np.arange(total + padding) - first[clip] - REST_FRAMES
        speech = ((within >= 0) & (within < spoken[clip])).astype(np.float64)
        place = np.clip(within / np.maximum(spoken[clip], 1), 0, 1)
        tracks = score.segments[segment]
        smooth = slice(0, COLUMN["b3"] + 1)
        tracks[:, smooth] = _smoothed(tracks[:, smooth], (1, 2, 3, 4, 3, 2, 1))
        return cls(clip, per_clip, first, place, tracks, speech)

    def column(self, name: str) -> Table:
        """One track, shape (f,)."""
        return self.tracks[:, COLUMN[name]]


def _smoothed(tracks: Table, weights: tuple[int, ...]) -> Table:
    """Weighted moving mean over frames; its reach is shorter than a clip's own rests."""
    reach = len(weights) // 2
    padded = np.pad(tracks, ((reach, reach), (0, 0)), mode="edge")
    smooth = np.zeros_like(tracks)
    for shift, weight in enumerate(weights):
        smooth += (weight / sum(weights)) * padded[shift : shift + len(tracks)]
    return smooth


def _render(frames: _Frames, score: Score, voices: Sequence[Voice]) -> FloatArray:
    """Filters the sources, overlaps and adds; returns the waveform by frame, shape (f, hop)."""
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
    hiss = frames.column("hiss") * frames.speech
    tilt = np.clip(figures[:, 1] + 0.1 * variation * gauss[:, 5], 0, 0.92)

    gain = _tract_spectra(frames, figures[:, 2], tilt)
    voice_spectra = _voice_spectra(frames, score, voices)
    start = (score.draws[:, 15] * NOISE_FRAMES).astype(np.intp)[frames.clip]
    where = (start + np.arange(len(start)) - frames.first[frames.clip]) % NOISE_FRAMES
    breathed = noise_spectra()[where]

    # Real factors work on the interleaved view: (f, 2 * bins) float32.
    voiced = voice_spectra.view(np.float32)
    voiced *= voicing.astype(np.float32)[:, None]
    noisy = breathed.view(np.float32)
    voiced += noisy * breath.astype(np.float32)[:, None]
    voice_spectra *= gain
    scale_row = sibilant_rows(voices)[frames.clip]
    kind = frames.column("hiss_kind").astype(np.intp)
    shape = hiss_spectra()[kind, scale_row]
    shape *= hiss.astype(np.float32)[:, None]
    noisy *= shape
    voiced += noisy
    pieces = scipy.fft.irfft(voice_spectra, FFT, axis=1)
    sound: FloatArray = pieces[:, :HOP].copy()
    for lag in range(1, FFT // HOP):
        sound[lag:] += pieces[:-lag, lag * HOP : (lag + 1) * HOP]
    return sound


def _voice_spectra(frames: _Frames, score: Score, voices: Sequence[Voice]) -> NDArray[np.complex64]:
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
    # The square root of 12 gives a uniform the variance 1, as jitter is a standard deviation.
    shake = (uniforms(own, 1)[:, 0] - 0.5) * 3.46
    hertz = pitch[clip, 0] * np.exp2(np.clip(semitones, -14, 14) / 12)
    hertz *= 1 + pitch[clip, 2] * shake
    step = np.rint(hertz * (2.0**32 / RATE_HZ)).astype(np.uint64)
    turns = np.cumsum(step * np.uint64(HOP), dtype=np.uint64)
    begin = turns - step * np.uint64(HOP)
    begin = (begin - begin[frames.first][clip]).astype(np.uint32)
    phase = begin[:, None] + step.astype(np.uint32)[:, None] * np.arange(HOP, dtype=np.uint32)
    # Pulses of high voices have few harmonics, so that few of them alias.
    rich = np.searchsorted((125.0, 205.0), pitch[:, 0])
    quality = (score.draws[:, 17] * 3).astype(np.intp)
    table = ((rich * 3 + quality) * PULSE_POINTS).astype(np.uint32)[clip]
    # The upper 11 bits of a phase are its place among 2,048 points.
    index = (phase >> np.uint32(32 - 11)) + table[:, None]
    samples = pulses().take(index)
    hann = window()
    buffer = np.zeros((len(clip), FFT), dtype=np.float32)
    np.multiply(samples, hann[:HOP], out=buffer[:, :HOP])
    np.multiply(samples[1:], hann[HOP:], out=buffer[:-1, HOP : 2 * HOP])
    spectra: NDArray[np.complex64] = scipy.fft.rfft(buffer, axis=1)
    return spectra


def _tract_spectra(frames: _Frames, scale: Table, tilt: Table) -> NDArray[np.complex64]:
    """Spectra of the all-pole vocal tract, gain 1 at 0 Hz, shape (f, bins).

    The product of all second-order sections is one polynomial in the delay; its FFT is the
    denominator at every bin.
    """
    num_frames = len(scale)
    cosine, radius = pole_tables()
    polynomial = np.zeros((2 + 2 * (3 + len(_HIGHER_HZ)), num_frames))
    polynomial[0] = 1
    polynomial[1] = -tilt
    level = 1 - tilt
    for pole in range(3 + len(_HIGHER_HZ)):
        if pole < 3:
            # Below half the rate, where the tables of poles end.
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
    taps = np.zeros((num_frames, FFT), dtype=np.float32)
    taps[:, : len(polynomial)] = polynomial.T
    spectra: NDArray[np.complex64] = scipy.fft.rfft(taps, axis=1)
    # The conjugate over the squared magnitude: real arithmetic in place, no complex division.
    inverse = level.astype(np.float32)[:, None] / (spectra.real**2 + spectra.imag**2)
    spectra.real *= inverse
    inverse *= np.float32(-1)
    spectra.imag *= inverse
    return spectra

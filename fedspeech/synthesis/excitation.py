"""Tables of the synthesizer: glottal pulses, white noise, spectra of hisses, poles by frequency."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ
from fedspeech.seeds import stream
from fedspeech.synthesis.phonemes import HISSES
from fedspeech.synthesis.render_plan import HOP
from fedspeech.synthesis.voices import Voice

FFT = 512
BINS = FFT // 2 + 1
NOISE_FRAMES = 2_048
PULSE_POINTS = 2_048
# For voices up to 125 Hz, up to 205 Hz and above: the last harmonics of 125 and 205 Hz are at about
# 8 kHz, half the rate, beyond which they would alias.
_PULSE_HARMONICS = (64, 40, 24)

FloatArray = NDArray[np.float32]
Table = NDArray[np.float64]


def sibilant_rows(voices: Sequence[Voice]) -> NDArray[np.intp]:
    """Row of `hiss_spectra` nearest to each voice's sibilant scale, shape (n,)."""
    scales = np.array([voice.sibilant_scale for voice in voices])
    rows: NDArray[np.intp] = np.rint((np.clip(scales, 0.75, 1.35) - 0.75) / 0.05).astype(np.intp)
    return rows


@cache
def window() -> FloatArray:
    """Periodic Hann window of two hops: shifted copies add up to one."""
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * HOP) / HOP)).astype(np.float32)


@cache
def pole_tables() -> tuple[Table, Table]:
    """Cosine of a pole's angle by frequency, and its radius by bandwidth, in steps of 1 Hz."""
    hertz = np.arange(RATE_HZ // 2)
    return np.cos(2 * np.pi * hertz / RATE_HZ), np.exp(-np.pi * hertz / RATE_HZ)


@cache
def pulses() -> FloatArray:
    """Derivatives of the glottal flow over one period, unit energy, shape (9 * points,).

    The flow is the polynomial pulse of Klatt and Klatt 1990 (J. Acoust. Soc. Am. 87, 820, Fig. 12)
    at open quotients .45, .58 and .7, limited to a number of harmonics with a cosine taper.
    """
    time = np.arange(PULSE_POINTS) / PULSE_POINTS
    tables = []
    for harmonics in _PULSE_HARMONICS:
        for quotient in (0.45, 0.58, 0.7):
            opened = time / quotient
            flow = np.where(opened < 1, 2 * opened - 3 * opened**2, 0.0)
            spectrum = np.fft.rfft(flow)
            order = np.arange(len(spectrum)) / harmonics
            spectrum *= np.sqrt(np.cos(0.5 * np.pi * np.minimum(order, 1.0)))
            spectrum[0] = 0
            pulse = np.fft.irfft(spectrum, PULSE_POINTS)
            tables.append(pulse / np.sqrt(np.mean(pulse**2)))
    return np.concatenate(tables).astype(np.float32)


@cache
def noise_spectra() -> NDArray[np.complex64]:
    """Windowed spectra of sixteen seconds of white noise, shape (frames, bins), on a circle."""
    noise = stream(0, "breath noise").standard_normal((NOISE_FRAMES, HOP), dtype=np.float32)
    pairs = np.concatenate([noise, np.roll(noise, -1, axis=0)], axis=1) * window()
    spectra: NDArray[np.complex64] = scipy.fft.rfft(pairs, FFT, axis=1)
    return spectra


@cache
def hiss_spectra() -> FloatArray:
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
    hertz = np.maximum(np.arange(BINS) * RATE_HZ / FFT, 30.0)
    tables = np.empty((len(HISSES), 13, BINS))
    for row, name in enumerate(HISSES):
        for column in range(13):
            octaves = np.log2(hertz / (0.75 + 0.05 * column))
            magnitude = sum(
                height * np.exp(-0.5 * ((octaves - np.log2(peak)) / width) ** 2)
                for peak, width, height in shapes[name]
            )
            tables[row, column] = magnitude / np.sqrt(np.mean(np.square(magnitude)))
    return np.repeat(tables, 2, axis=2).astype(np.float32)

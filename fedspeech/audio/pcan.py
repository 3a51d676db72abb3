"""The front end of microWakeWord and ESPHome, in the integers that a microcontroller computes.

TensorFlow Lite Micro's audio front end with the settings of microWakeWord: frames of 30 ms every
10 ms, an FFT in 16 bits, 40 triangular bands, less an estimate of the noise in each band, then its
gain normalized by that estimate (PCAN, Wang et al. 2017, arXiv:1607.05666), then a logarithm.

    features = pcan_features(np.zeros((1, 16_000), np.int16))      # (1, 98, 40)

The estimate goes on from frame to frame, so a feature depends on what was heard before: whoever
cuts a clip out of a stream computes the features of the stream first.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE_HZ, WINDOW, HOP, BANDS = 16_000, 480, 160, 40
FEATURE_SCALE = np.float32(10 / 256)
"""From the integers of the front end to the features that models are trained on."""
LARGEST_FEATURE = 26.0
"""What ESPHome takes for the largest input of a model, as eight bits hold it."""

_FFT, _POINTS = 512, 256
_LOW_HZ, _HIGH_HZ = 125.0, 7_500.0
_WINDOW_BITS, _FILTER_BITS, _NOISE_BITS, _ESTIMATE_BITS = 12, 12, 14, 10
_SNR_BITS, _OUTPUT_BITS, _GAIN_BITS = 12, 6, 21
_STRENGTH, _OFFSET = 0.95, 80.0
# Of the square root of an energy, what the transform's own scale took away.
_CORRECTION_BITS = 3
_LOG_BITS, _LOG_SEGMENT_BITS, _LOG_OUTPUT_BITS = 16, 7, 6
_LN_2 = 45_426  # in units of 2^-16
_ONE = 32_767  # of 16 bits

Integers = NDArray[np.int64]
Complex = tuple[Integers, Integers]


def pcan_features(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Features (n, frames, 40) of samples (n, at least 480) after a reset of the front end."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW, axis=1)[:, ::HOP]
    energies = band_amplitudes(windows.reshape(-1, WINDOW)).reshape(*windows.shape[:2], BANDS)
    estimate = np.zeros((len(samples), BANDS), dtype=np.int64)
    features = np.empty(energies.shape, dtype=np.float32)
    for frame in range(energies.shape[1]):
        signal, estimate = _less_noise(energies[:, frame], estimate)
        features[:, frame] = FEATURE_SCALE * _logarithm(_normalized(signal, estimate))
    return features


def band_amplitudes(frames: NDArray[np.int16]) -> Integers:
    """Square roots of the bands' energies, (n, 40), of frames (n, 480)."""
    windowed = (frames.astype(np.int64) * _window()) >> _WINDOW_BITS
    # The largest value fills the 16 bits: what the transform rounds away is small beside it.
    shift = 15 - _bits(np.maximum(_wrapped(np.abs(windowed)), 0).max(axis=1))
    scaled = np.zeros((len(frames), _FFT), dtype=np.int64)
    scaled[:, :WINDOW] = _wrapped(windowed << shift[:, None])
    real, imaginary = _real_transform(scaled)
    # Products of doubles, which hold these integers and have a fast kernel.
    powers = (real**2 + imaginary**2).astype(np.float64)
    rising, falling = (side.astype(np.float64) for side in _filters())
    energies = powers @ falling[:, 1:] + powers @ rising[:, :-1]
    amplitudes: Integers = _root(energies.astype(np.int64)) >> shift[:, None]
    return amplitudes


def _less_noise(signal: Integers, estimate: Integers) -> Complex:
    """Subtracts the estimate of the noise, of which at least a twentieth of the signal is left."""
    # Even and odd bands follow the noise at different speeds.
    smoothing = np.where(np.arange(BANDS) % 2, int(0.06 * 2**14), int(0.025 * 2**14))
    scaled = (signal << _ESTIMATE_BITS) & 0xFFFFFFFF
    estimate = (scaled * smoothing + estimate * (2**_NOISE_BITS - smoothing)) >> _NOISE_BITS
    least = (signal * int(0.05 * 2**14)) >> _NOISE_BITS
    left = (scaled - np.minimum(estimate, scaled)) >> _ESTIMATE_BITS
    return np.maximum(left, least), estimate


def _normalized(signal: Integers, estimate: Integers) -> Integers:
    """The signal times a gain that falls with the noise, compressed near zero."""
    snr = (signal * _gain(estimate)) >> (_GAIN_BITS - _CORRECTION_BITS - _SNR_BITS)
    small = (snr * snr) >> (2 + 2 * _SNR_BITS - _OUTPUT_BITS)
    large = (snr >> (_SNR_BITS - _OUTPUT_BITS)) - (1 << _OUTPUT_BITS)
    shrunk: Integers = np.where(snr < 2 << _SNR_BITS, small, large)
    return shrunk


def _gain(estimate: Integers) -> Integers:
    """2^21 (x + 80)^-0.95 of the estimate, by a parabola over every power of two."""
    table = _gain_table()
    interval = _bits(estimate)
    start, slope, curve = (table[interval, part] for part in range(3))
    left, right = np.maximum(11 - interval, 0), np.maximum(interval - 11, 0)
    place = ((estimate << left) >> right) & 0x3FF
    result = ((curve * place) >> 5) + (slope << 5)
    parabola = ((result * place + (1 << 14)) >> 15) + start
    gain: Integers = np.where(estimate <= 2, start, parabola)
    return gain


def _logarithm(values: Integers) -> Integers:
    """Natural logarithm in units of 1/64, of values in units of 1/8; 0 up to 1."""
    scaled = np.maximum(values << _CORRECTION_BITS, 1)
    whole = _bits(scaled) - 1
    above = scaled - (1 << whole)
    fraction = np.where(
        whole < _LOG_BITS,
        above << np.maximum(_LOG_BITS - whole, 0), above >> np.maximum(whole - _LOG_BITS, 0),
    )  # fmt: skip
    segment = fraction >> (_LOG_BITS - _LOG_SEGMENT_BITS)
    table = _log_table()
    low, high = table[segment], table[segment + 1]
    rest = fraction - (segment << (_LOG_BITS - _LOG_SEGMENT_BITS))
    log2 = (whole << _LOG_BITS) + fraction + low + (((high - low) * rest) >> _LOG_BITS)
    half = 1 << (_LOG_BITS - 1)
    natural = (_LN_2 * log2 + half) >> _LOG_BITS
    written = ((natural << _LOG_OUTPUT_BITS) + half) >> _LOG_BITS
    return np.where(scaled > 1, np.minimum(written, 0xFFFF), 0)


def _real_transform(samples: Integers) -> Complex:
    """FFT of 512 real values of 16 bits, divided by 512: bins 0 to 256, real and imaginary part."""
    real, imaginary = _transform(samples[:, ::2], samples[:, 1::2])
    real, imaginary = _divided(real, 2), _divided(imaginary, 2)
    k = np.arange(1, _POINTS // 2 + 1)
    here, there = (real[:, k], imaginary[:, k]), (real[:, _POINTS - k], -imaginary[:, _POINTS - k])
    even = here[0] + there[0], here[1] + there[1]
    odd = here[0] - there[0], here[1] - there[1]
    turned = _product(odd, _turns(-np.pi * (k / _POINTS + 0.5)))
    found = np.zeros((2, len(samples), _POINTS + 1), dtype=np.int64)
    # Written upwards first: the middle bin is its own mirror, and the mirror's value stays.
    found[0][:, k], found[1][:, k] = (even[0] + turned[0]) >> 1, (even[1] + turned[1]) >> 1
    found[0][:, _POINTS - k] = (even[0] - turned[0]) >> 1
    found[1][:, _POINTS - k] = (turned[1] - even[1]) >> 1
    found[0][:, 0] = real[:, 0] + imaginary[:, 0]
    found[0][:, _POINTS] = real[:, 0] - imaginary[:, 0]
    return _wrapped(found[0]), _wrapped(found[1])


def _transform(real: Integers, imaginary: Integers) -> Complex:
    """Complex FFT by four, each stage divided by four; rounds where a 16-bit machine does."""
    points = real.shape[-1]
    if points == 1:
        return real, imaginary
    quarters = [
        np.moveaxis(x.reshape(*x.shape[:-1], points // 4, 4), -1, -2) for x in (real, imaginary)
    ]
    whole = _transform(quarters[0], quarters[1])
    parts = [(_divided(whole[0][..., i, :], 4), _divided(whole[1][..., i, :], 4)) for i in range(4)]
    k = np.arange(points // 4)
    a = parts[0]
    b, c, d = (_product(parts[turn], _turns(-2 * np.pi * turn * k / points)) for turn in (1, 2, 3))
    minus, plus = _difference(a, c), _sum(a, c)
    both, apart = _sum(b, d), _difference(b, d)
    first, third = _sum(plus, both), _difference(plus, both)
    second = _wrapped(minus[0] + apart[1]), _wrapped(minus[1] - apart[0])
    fourth = _wrapped(minus[0] - apart[1]), _wrapped(minus[1] + apart[0])
    turns = (first, second, third, fourth)
    joined = [np.concatenate([turn[part] for turn in turns], axis=-1) for part in (0, 1)]
    return joined[0], joined[1]


def _turns(phases: NDArray[np.float64]) -> Complex:
    """Cosine and sine of phases in 16 bits."""
    cosine, sine = (np.floor(0.5 + _ONE * wave(phases)) for wave in (np.cos, np.sin))
    return cosine.astype(np.int64), sine.astype(np.int64)


def _product(x: Complex, y: Complex) -> Complex:
    return _rounded(x[0] * y[0] - x[1] * y[1]), _rounded(x[0] * y[1] + x[1] * y[0])


def _sum(x: Complex, y: Complex) -> Complex:
    return _wrapped(x[0] + y[0]), _wrapped(x[1] + y[1])


def _difference(x: Complex, y: Complex) -> Complex:
    return _wrapped(x[0] - y[0]), _wrapped(x[1] - y[1])


def _divided(x: Integers, by: int) -> Integers:
    return _rounded(x * (_ONE // by))


def _rounded(x: Integers) -> Integers:
    return _wrapped((x + (1 << 14)) >> 15)


def _wrapped(x: Integers) -> Integers:
    """What 16 bits hold of integers."""
    return x.astype(np.int16).astype(np.int64)


def _bits(x: Integers) -> Integers:
    """Binary digits of integers that are not negative; 0 of 0."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def _root(x: Integers) -> Integers:
    """Square root, rounded to the nearest integer that 16 or 32 bits hold."""
    root = np.floor(np.sqrt(x.astype(np.float64))).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    largest = np.where(x >> 32 == 0, 0xFFFF, 0xFFFFFFFF)
    rounded: Integers = root + ((x - root * root > root) & (root != largest))
    return rounded


@cache
def _window() -> Integers:
    # In single precision, here and below, as the microcontroller fills its tables: a coefficient
    # that is rounded the other way would change features.
    step = np.float32(np.pi) * np.float32(2) / np.float32(WINDOW)
    phases = step * (np.arange(WINDOW, dtype=np.float32) + np.float32(0.5))
    shape = np.float32(0.5) - np.float32(0.5) * np.cos(phases)
    return _scaled(shape, _WINDOW_BITS)


@cache
def _filters() -> Complex:
    """Rising and falling sides of the bands' triangles, (257, 41): of band i - 1 and of band i.

    A bin between two centers belongs to both bands.
    """
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ], dtype=np.float32))
    spacing = (high - low) / np.float32(BANDS + 1)
    edges = np.concatenate([[low], low + spacing * np.arange(1, BANDS + 2, dtype=np.float32)])
    bin_hz = np.float32(0.5 * RATE_HZ / (_FFT // 2))
    bins = np.arange(int(1.5 + _LOW_HZ / bin_hz), _FFT // 2 + 1)
    place = _mel(bins.astype(np.float32) * bin_hz)
    band = np.searchsorted(edges[1:], place, side="left")
    inside = band <= BANDS
    rows, band, place = bins[inside], band[inside], place[inside]
    share = (edges[band + 1] - place) / (edges[band + 1] - edges[band])
    rising, falling = (np.zeros((_FFT // 2 + 1, BANDS + 1), dtype=np.int64) for _ in range(2))
    falling[rows, band] = _scaled(share, _FILTER_BITS)
    rising[rows, band] = _scaled(np.float32(1) - share, _FILTER_BITS)
    return rising, falling


def _mel(frequency_hz: NDArray[np.float32]) -> NDArray[np.float32]:
    mel: NDArray[np.float32] = np.float32(1127) * np.log1p(frequency_hz / np.float32(700))
    return mel


def _scaled(x: NDArray[np.float32], bits: int) -> Integers:
    """Fractions of 1 in so many bits."""
    whole: Integers = np.floor(x * np.float32(1 << bits) + np.float32(0.5)).astype(np.int64)
    return whole


@cache
def _gain_table() -> Integers:
    """Start, slope and curvature of the gain over each power of two, (33, 3)."""

    def gain(x: int) -> int:
        noise = x / 2 ** (_ESTIMATE_BITS - _CORRECTION_BITS) + _OFFSET
        value = 2.0**_GAIN_BITS * noise**-_STRENGTH
        return 32_767 if value > 32_767 else int(value + 0.5)

    table = np.zeros((33, 3), dtype=np.int64)
    table[0, 0], table[1, 0] = gain(0), gain(1)
    for interval in range(2, 33):
        low = 1 << (interval - 1)
        high = 2 * low - 1 if interval == 32 else 2 * low
        start, middle, end = gain(low), gain(low + low // 2), gain(high)
        slope = 4 * (middle - start) - (end - start)
        table[interval] = start, slope, end - start - slope
    return table


@cache
def _log_table() -> Integers:
    """log2(1 + x) - x over segments of x in [0, 1], in units of 2^-16."""
    x = np.arange((1 << _LOG_SEGMENT_BITS) + 2) / (1 << _LOG_SEGMENT_BITS)
    table = np.floor((np.log2(1 + x) - x) * (1 << _LOG_BITS) + 0.5).astype(np.int64)
    table[-1] = 0
    return table

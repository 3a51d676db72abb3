"""Simulated devices: room, microphone, noise, gain and clipping between a mouth and a recording.

The same chain serves synthetic speech and real recordings (real speakers x simulated devices):

    device = draw_device(stream(seed, "device", phone))
    recorded = apply_devices(waveforms, [device] * len(waveforms), seeds)

A room is an exponentially decaying noise tail behind the direct sound (Polack 1988; Schroeder
1962); a microphone is a band with a slope and one resonance; noise comes from a bank of six kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Annotated, Literal, get_args

import numpy as np
import scipy.fft
from annotated_types import Ge, Le
from numpy.typing import NDArray

from fedspeech.audio.draws import uniforms
from fedspeech.limits import Fraction, check_limits
from fedspeech.seeds import stream

RATE_HZ = 16_000
NoiseKind = Literal["room", "fan", "hum", "street", "babble", "tones"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
NoiseLevel = Literal["quiet", "moderate", "noisy"]

SPEECH_RMS = 0.1
"""Root mean square of speech at nominal loudness while it lasts: SNR is measured against it."""

_TAIL_SAMPLES = 4_000  # 250 ms: beyond it a room of 0.6 s has fallen by 25 dB
_BANK_SAMPLES = 1 << 18
_FRAME_SAMPLES = 320  # 20 ms
_BLOCK_CLIPS = 16  # a whole number of SIMD lanes, so that every clip takes the same arithmetic path


@dataclass(frozen=True, kw_only=True)
class Device:
    """A phone in a room: everything between the speaker's mouth and the samples.

    Attributes:
      kind: device class, a key of `DEVICE_KINDS`.
      low_hz, high_hz: -6 dB edges of the microphone's band.
      slope_db: tilt of the response, dB per octave around 1 kHz.
      resonance_hz, resonance_db: one broad peak (or, if negative, dip) of the case.
      gain_db: level of the recording relative to nominal.
      clip_level: samples are limited to this magnitude, full scale 1.
      rt60_s: time in which the room decays by 60 dB.
      reverb_db: energy of the room's tail relative to the direct sound.
      noise_kind: one of `NOISE_KINDS`.
      snr_db: nominal speech above the noise.
      room_seed: which of the rooms with these figures.

    Raises:
      ValueError: if a figure is outside what the chain can do.
    """

    kind: str
    low_hz: float
    high_hz: float
    slope_db: float
    resonance_hz: float
    resonance_db: float
    gain_db: float
    clip_level: Fraction
    rt60_s: Annotated[float, Ge(0.02), Le(2)]
    reverb_db: float
    noise_kind: NoiseKind
    snr_db: float
    room_seed: int

    def __post_init__(self) -> None:
        """Checks the figures."""
        check_limits(self)
        if not 0 < self.low_hz < self.high_hz:
            raise ValueError(
                f"band must satisfy 0 < low_hz < high_hz, got {self.low_hz}, {self.high_hz}"
            )

    @property
    def noise_level(self) -> NoiseLevel:
        """The segment: "quiet" from 25 dB SNR, "moderate" from 14 dB, else "noisy"."""
        if self.snr_db >= 25:
            return "quiet"
        return "moderate" if self.snr_db >= 14 else "noisy"


@dataclass(frozen=True, kw_only=True)
class DeviceKind:
    """The range from which devices of one class are drawn, each figure as (lowest, highest).

    The resonance is a peak between 800 Hz and 5 kHz; for the other figures see `Device`.
    """

    low_hz: tuple[float, float]
    high_hz: tuple[float, float]
    slope_db: tuple[float, float]
    resonance_db: tuple[float, float]
    gain_db: tuple[float, float]
    clip_level: tuple[float, float]
    rt60_s: tuple[float, float]
    reverb_db: tuple[float, float]
    snr_db: tuple[float, float]


DEVICE_KINDS: Mapping[str, DeviceKind] = MappingProxyType({
    "handset": DeviceKind(
        low_hz=(40, 180), high_hz=(5_500, 7_800), slope_db=(-2.0, 3.0), resonance_db=(-3, 5),
        gain_db=(-6, 8), clip_level=(0.7, 1.0), rt60_s=(0.1, 0.35), reverb_db=(-24, -12),
        snr_db=(18, 42),
    ),
    "headset": DeviceKind(
        low_hz=(30, 200), high_hz=(3_600, 7_000), slope_db=(-2.5, 2.5), resonance_db=(-3, 6),
        gain_db=(-4, 10), clip_level=(0.5, 1.0), rt60_s=(0.08, 0.25), reverb_db=(-32, -18),
        snr_db=(20, 44),
    ),
    "speakerphone": DeviceKind(
        low_hz=(60, 300), high_hz=(4_500, 7_500), slope_db=(-1.0, 3.0), resonance_db=(0, 8),
        gain_db=(-8, 6), clip_level=(0.5, 1.0), rt60_s=(0.2, 0.5), reverb_db=(-14, -4),
        snr_db=(14, 32),
    ),
    "far_field": DeviceKind(
        low_hz=(40, 180), high_hz=(5_000, 7_800), slope_db=(-3.0, 2.0), resonance_db=(-4, 4),
        gain_db=(-14, 0), clip_level=(0.8, 1.0), rt60_s=(0.3, 0.65), reverb_db=(-7, 2),
        snr_db=(9, 26),
    ),
    "cheap_mic": DeviceKind(
        low_hz=(120, 400), high_hz=(3_000, 5_000), slope_db=(-2.0, 4.0), resonance_db=(3, 11),
        gain_db=(-4, 14), clip_level=(0.15, 0.6), rt60_s=(0.1, 0.4), reverb_db=(-22, -8),
        snr_db=(10, 28),
    ),
})  # fmt: skip


def draw_device(rng: np.random.Generator, kind: str | None = None) -> Device:
    """Draws a device: its class unless given, then each figure uniformly in the class's range.

    Raises:
      ValueError: if there is no such class.
    """
    kinds = tuple(DEVICE_KINDS)
    if kind is not None and kind not in DEVICE_KINDS:
        raise ValueError(f"device kind must be one of {kinds}, got {kind!r}")
    chosen = kinds[rng.integers(len(kinds))] if kind is None else kind
    draws = rng.random(10).tolist()
    figures = {
        name: round(low + draw * (high - low), 3)
        for draw, (name, (low, high)) in zip(
            draws, vars(DEVICE_KINDS[chosen]).items(), strict=False
        )
    }
    return Device(
        kind=chosen,
        resonance_hz=round(800 * (5_000 / 800) ** draws[-1], 1),
        noise_kind=NOISE_KINDS[rng.integers(len(NOISE_KINDS))],
        room_seed=int(rng.integers(2**62)),
        **figures,
    )


def speech_rms(clip: NDArray[np.float32]) -> float:
    """Root mean square of speech while it lasts, full scale 1; 0 for digital silence.

    Speech lasts in the 20 ms frames within 20 dB of the loudest. The clip has shape (n,), 16 kHz
    and at least one frame.
    """
    frames = len(clip) // _FRAME_SAMPLES
    power = np.square(clip[: frames * _FRAME_SAMPLES], dtype=np.float64)
    power = power.reshape(frames, _FRAME_SAMPLES).mean(axis=1)
    return float(np.sqrt(power[power >= power.max() / 100].mean()))


def apply_devices(
    waveforms: NDArray[np.float32],
    devices: Sequence[Device],
    seeds: Sequence[int] | NDArray[np.uint64],
) -> NDArray[np.float32]:
    """Records each clip on its device; the bits of a clip do not depend on the others.

    Waveforms have shape (n, samples), float32 at 16 kHz, with speech at about `SPEECH_RMS`; each
    has a device and a seed, below 2**64, of its stretch of noise. Clips of one device should be
    adjacent, since its response is then computed once. The result has the same shape, within each
    device's clip level.

    Raises:
      ValueError: if the numbers of clips, devices and seeds differ, or a clip is longer than the
        noise.
    """
    num_clips, num_samples = waveforms.shape
    if not num_clips == len(devices) == len(seeds):
        raise ValueError(
            "expected as many devices and seeds as clips, got "
            f"{len(devices)} and {len(seeds)} for {num_clips}"
        )
    num_points = _fft_points(num_samples)
    if num_points > _BANK_SAMPLES:
        raise ValueError(
            f"clips must be shorter than {_BANK_SAMPLES - _TAIL_SAMPLES} samples, got {num_samples}"
        )
    draws = uniforms(np.asarray(seeds, dtype=np.uint64), 3)
    recorded = np.empty_like(waveforms)
    dry = np.zeros((_BLOCK_CLIPS, num_points), dtype=np.float32)
    spectra = np.empty((_BLOCK_CLIPS, num_points // 2 + 1), dtype=np.complex64)
    for start in range(0, num_clips, _BLOCK_CLIPS):
        stop = min(start + _BLOCK_CLIPS, num_clips)
        dry[:, :num_samples] = 0
        for row, clip in enumerate(range(start, stop)):
            device = devices[clip]
            # The noise fills the part of the circle behind the clip too, so its reverberation
            # is complete when the clip begins.
            _lay_noise(dry[row], device, draws[clip])
            dry[row, :num_samples] += waveforms[clip]
        spectra[:] = scipy.fft.rfft(dry, axis=1)
        for row, clip in enumerate(range(start, stop)):
            spectra[row] *= _response(devices[clip], num_points)
        wet = scipy.fft.irfft(spectra, num_points, axis=1)
        for row, clip in enumerate(range(start, stop)):
            limit = devices[clip].clip_level
            np.clip(wet[row, :num_samples], -limit, limit, out=recorded[clip])
    return recorded


def _lay_noise(row: NDArray[np.float32], device: Device, draws: NDArray[np.float64]) -> None:
    """Fills the row, shape (points,), with the device's noise; its level wanders by +-3 dB."""
    bank = _noise_bank()[device.noise_kind]
    start = int(draws[0] * (len(bank) - len(row)))
    level = SPEECH_RMS * 10 ** ((6 * draws[1] - 3 - device.snr_db) / 20)
    np.multiply(bank[start : start + len(row)], np.float32(level), out=row)
    if draws[2] < 0.5:
        np.negative(row, out=row)


def _fft_points(num_samples: int) -> int:
    """Length of the circle: the clip, the longest tail, rounded up to a fast even length."""
    points: int = scipy.fft.next_fast_len((num_samples + _TAIL_SAMPLES + 1) // 2, real=True)
    return 2 * points


@lru_cache(maxsize=128)
def _response(device: Device, num_points: int) -> NDArray[np.complex64]:
    """Room, microphone and gain in one spectrum, shape (points / 2 + 1,)."""
    rng = stream(device.room_seed, "room")
    impulse = np.zeros(num_points, dtype=np.float32)
    # -60 dB after rt60 is exp(-6.91) in amplitude. The tail starts some milliseconds late.
    first = int(rng.integers(24, 160))
    tail = rng.standard_normal(_TAIL_SAMPLES - first, dtype=np.float32)
    decay = 6.91 / (device.rt60_s * RATE_HZ)
    tail *= np.exp(-decay * np.arange(len(tail))).astype(np.float32)
    tail *= np.float32(10 ** (device.reverb_db / 20) / np.sqrt(np.sum(tail.astype(float) ** 2)))
    impulse[first:_TAIL_SAMPLES] = tail
    impulse[0] = 1
    hertz = np.maximum(scipy.fft.rfftfreq(num_points, 1 / RATE_HZ), 1.0)
    octaves = np.log2(hertz / 1_000)
    gain_db = device.gain_db + device.slope_db * np.clip(octaves, -3, 3)
    peak = np.log2(hertz / device.resonance_hz) / 0.4
    gain_db += device.resonance_db / (1 + peak**2)
    microphone = 10 ** (gain_db / 20)
    microphone /= 1 + (device.low_hz / hertz) ** 3  # third-order slopes
    microphone /= 1 + (hertz / device.high_hz) ** 6
    response: NDArray[np.complex64] = scipy.fft.rfft(impulse) * microphone.astype(np.float32)
    return response


@cache
def _noise_bank() -> Mapping[str, NDArray[np.float32]]:
    """Sixteen seconds of each kind of noise, unit root mean square, the same in every process."""
    rng = stream(0, "noise bank")
    hertz = np.maximum(np.fft.rfftfreq(_BANK_SAMPLES, 1 / RATE_HZ), 20.0)
    seconds = np.arange(_BANK_SAMPLES) / RATE_HZ

    def colored(magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
        white = rng.standard_normal((2, len(hertz)))
        sound = np.fft.irfft((white[0] + 1j * white[1]) * magnitude, _BANK_SAMPLES)
        scaled: NDArray[np.float64] = sound / np.sqrt(np.mean(sound**2))
        return scaled

    def slow(cutoff_hz: float) -> NDArray[np.float64]:
        return colored(np.exp(-((hertz / cutoff_hz) ** 2)) * (hertz > 20.0))

    def band(center_hz: float, octaves: float) -> NDArray[np.float64]:
        shape: NDArray[np.float64] = np.exp(-0.5 * (np.log2(hertz / center_hz) / octaves) ** 2)
        return shape

    room = colored(hertz**-0.5)
    fan = colored(hertz**-1.0 * (hertz > 40)) + 0.5 * colored(band(1_200, 0.8))
    hum = 0.3 * room
    for harmonic in (1, 2, 3, 4, 5, 7, 9, 12):
        offset = rng.uniform(0, 2 * np.pi)
        hum += np.sin(2 * np.pi * 50 * harmonic * seconds + offset) / harmonic
    street = colored(hertz**-0.9) * (0.5 + np.abs(colored(np.exp(-((hertz / 21.0) ** 8)))))
    # Babble: bands of voices, each with its own syllables of about a quarter of a second.
    babble = 0.2 * colored(hertz**-0.5)
    for center_hz in (300, 500, 800, 1_200, 1_800, 2_500, 3_500, 5_000):
        envelope = np.abs(np.interp(seconds, np.arange(0, 17, 0.12), rng.standard_normal(142)))
        babble += colored(band(center_hz, 0.35)) * envelope * (500 / center_hz) ** 0.6
    # Tones: a television or a neighbor's music, notes of a fifth of a second.
    tones = 0.1 * colored(hertz**-0.5)
    note = np.minimum((seconds * 5).astype(int), 81)
    for _ in range(3):
        pitch = 110 * 2 ** (rng.integers(0, 36, 82) / 12)
        loud = rng.random(82) ** 2
        phase = 2 * np.pi * np.cumsum(pitch[note]) / RATE_HZ
        for harmonic in (1, 2, 3, 4):
            tones += loud[note] * np.sin(harmonic * phase) / harmonic
    noises = (room, fan, hum, street, babble, tones)
    return {
        kind: (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)
        for kind, noise in zip(NOISE_KINDS, noises, strict=True)
    }

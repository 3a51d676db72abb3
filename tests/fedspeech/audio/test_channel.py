"""The device chain."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.audio.channel import (
    DEVICE_KINDS,
    NOISE_KINDS,
    SPEECH_RMS,
    Device,
    apply_devices,
    draw_device,
)
from fedspeech.seeds import stream

TRANSPARENT = Device(
    kind="handset",
    low_hz=1.0,
    high_hz=50_000.0,
    slope_db=0.0,
    resonance_hz=1_000.0,
    resonance_db=0.0,
    gain_db=0.0,
    clip_level=1.0,
    rt60_s=0.1,
    reverb_db=-80.0,
    noise_kind="room",
    snr_db=80.0,
    room_seed=1,
)


def tone(hertz, level=0.1, samples=16_000):
    return (level * np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000)).astype(np.float32)


def record(clip, device, seed=1):
    return apply_devices(clip[None], [device], [seed])[0]


def rms(clip):
    return float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))


def test_a_transparent_device_changes_nothing():
    clip = tone(440)
    assert np.abs(record(clip, TRANSPARENT) - clip).max() < 1e-3


def test_bits_of_a_clip_do_not_depend_on_its_company():
    rng = np.random.default_rng(0)
    clips = rng.normal(0, 0.05, (21, 16_000)).astype(np.float32)
    devices = [draw_device(stream(5, "device", number // 4)) for number in range(21)]
    together = apply_devices(clips, devices, range(21))
    alone = [
        apply_devices(clips[row : row + 1], devices[row : row + 1], [row])[0] for row in range(21)
    ]
    assert np.array_equal(together, np.stack(alone))


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_stands_below_nominal_speech_by_the_snr(kind):
    device = replace(TRANSPARENT, noise_kind=kind, snr_db=15.0)
    silence = np.zeros((60, 16_000), dtype=np.float32)
    noise = apply_devices(silence, [device] * 60, range(60))
    measured = 20 * np.log10(SPEECH_RMS / rms(noise))
    assert measured == pytest.approx(15.0, abs=2.5)
    assert not np.array_equal(noise[0], noise[1])


def test_noise_rings_from_the_first_sample_on():
    device = replace(TRANSPARENT, snr_db=15.0, reverb_db=5.0, rt60_s=0.6)
    noise = apply_devices(np.zeros((200, 16_000), np.float32), [device] * 200, range(200))
    # Without what sounded before the clip, the first 20 ms would lack the room: 6 dB less.
    assert rms(noise[:, :320]) == pytest.approx(rms(noise[:, 8_000:8_320]), rel=0.2)


def test_a_room_adds_its_energy_behind_the_direct_sound():
    device = replace(TRANSPARENT, reverb_db=-3.0, rt60_s=0.3)
    click = np.zeros(16_000, dtype=np.float32)
    click[0] = 0.5
    heard = record(click, device).astype(np.float64)
    tail = np.sum(heard[20:] ** 2)
    assert 10 * np.log10(tail / 0.25) == pytest.approx(-3.0, abs=0.3)
    halves = [np.sum(heard[start : start + 1_600] ** 2) for start in (200, 1_800)]
    assert 10 * np.log10(halves[0] / halves[1]) == pytest.approx(60 * 0.1 / 0.3, abs=4)


def test_a_microphone_passes_its_band():
    device = replace(TRANSPARENT, low_hz=300.0, high_hz=3_000.0)
    low, mid, high = (rms(record(tone(hertz), device)) for hertz in (100, 1_000, 6_000))
    assert mid == pytest.approx(rms(tone(1_000)), rel=0.05)
    assert max(low, high) < 0.06 * mid


def test_gain_and_clipping():
    device = replace(TRANSPARENT, gain_db=20.0, clip_level=0.4)
    heard = record(tone(500), device)
    assert heard.max() == np.float32(0.4)
    assert heard.min() == np.float32(-0.4)


@given(st.integers(0, 2**32), st.sampled_from([None, *DEVICE_KINDS]))
@settings(max_examples=40)
def test_devices_stay_within_the_range_of_their_class(seed, kind):
    device = draw_device(stream(seed, "device"), kind)
    assert kind in (None, device.kind)
    for name, (low, high) in vars(DEVICE_KINDS[device.kind]).items():
        assert low <= getattr(device, name) <= high
    assert device == draw_device(stream(seed, "device"), kind)


def test_noise_levels_are_segments_by_snr():
    levels = [replace(TRANSPARENT, snr_db=snr).noise_level for snr in (25.0, 24.9, 14.0, 13.9)]
    assert levels == ["quiet", "moderate", "moderate", "noisy"]


def test_impossible_figures_are_refused():
    for wrong, rule in (
        ({"low_hz": 5_000.0, "high_hz": 4_000.0}, "low_hz < high_hz"),
        ({"clip_level": 0.0}, "clip_level"),
        ({"rt60_s": 9.0}, "rt60_s"),
        ({"noise_kind": "rain"}, "noise_kind"),
    ):
        with pytest.raises(ValueError, match=rule):
            replace(TRANSPARENT, **wrong)
    with pytest.raises(ValueError, match="device kind"):
        draw_device(stream(1, "device"), "toaster")
    with pytest.raises(ValueError, match="as many devices and seeds"):
        apply_devices(np.zeros((2, 16_000), np.float32), [TRANSPARENT], [1])
    with pytest.raises(ValueError, match="shorter than"):
        apply_devices(np.zeros((1, 300_000), np.float32), [TRANSPARENT], [1])

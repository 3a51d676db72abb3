import numpy as np
import pytest

from fedspeech.audio.alteration import Alteration, altered

RATE_HZ = 16_000
STILL = Alteration(
    noise_db=(200.0, 200.0), noise_slope=(0.0, 0.0), gain_db=(0.0, 0.0), shift_s=0.0, speed=0.0
)


def tone(hz=440.0):
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)


def rng():
    return np.random.default_rng(0)


def test_ranges_of_zero_change_nothing():
    np.testing.assert_allclose(altered(tone(), RATE_HZ, rng(), STILL), tone(), atol=1e-6)


@pytest.mark.parametrize(
    ("ranges", "factor"),
    [({"gain_db": (-10.0, -10.0)}, 10**-0.5), ({"gain_db": (6.0, 6.0)}, 1.995)],
)
def test_gain_is_in_decibel_of_power(ranges, factor):
    spec = Alteration(**{**vars(STILL), **ranges})
    np.testing.assert_allclose(altered(tone(), RATE_HZ, rng(), spec), factor * tone(), atol=1e-4)


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_noise_has_the_stated_power_whatever_its_color(slope):
    spec = Alteration(**{**vars(STILL), "noise_db": (10.0, 10.0), "noise_slope": (slope, slope)})
    noise = altered(tone(), RATE_HZ, rng(), spec) - tone()
    ratio = 10 * np.log10(np.mean(tone() ** 2) / np.mean(noise**2))
    assert ratio == pytest.approx(10.0, abs=0.01)


def test_speed_moves_the_pitch_and_shift_moves_the_onset():
    faster = altered(tone(), RATE_HZ, rng(), Alteration(**{**vars(STILL), "speed": 0.1}))
    peak = np.abs(np.fft.rfft(faster)).argmax()  # one bin is 1 Hz
    assert peak != 440
    assert 440 * 0.9 <= peak <= 440 * 1.1
    click = np.zeros(RATE_HZ, dtype=np.float32)
    click[8_000] = 1
    moved = altered(click, RATE_HZ, rng(), Alteration(**{**vars(STILL), "shift_s": 0.1}))
    assert 0 < abs(int(moved.argmax()) - 8_000) <= 1_600


def test_silence_stays_silent_and_loud_speech_stays_in_range():
    silent = np.zeros(RATE_HZ, dtype=np.float32)
    assert not altered(silent, RATE_HZ, rng(), Alteration()).any()
    assert np.abs(altered(10 * tone(), RATE_HZ, rng(), Alteration())).max() <= 1

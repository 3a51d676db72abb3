import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.anonymization.pitch import F0MeanReversion, f0_contour
from fedspeech.anonymization.voices import METHODS
from fedspeech.anonymization.waveform import McAdams, McAdamsStream, Noise, Resampling
from fedspeech.extras import lacking
from fedspeech.seeds import Keystream

RATE = 16_000
TIMES = np.arange(RATE // 2) / RATE
PULSES = (0.2 * sum(np.sin(2 * np.pi * 150 * k * TIMES) / k for k in range(1, 12))).astype("f4")

needs_world = pytest.mark.skipif(bool(lacking("world")), reason="pyworld is not installed")


class Drawn:
    """Uniform numbers that are given."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, count):
        return np.array([self.values.pop(0) for _ in range(count)])


def streams(number=0):
    return {
        "voice": Keystream(bytes([number]) * 32),
        "noise": Keystream(bytes([number + 100]) * 32),
    }


def through(pieces, alpha=0.7, rate_hz=RATE):
    stream = McAdamsStream(alpha=alpha, rate_hz=rate_hz)
    return np.concatenate([*(stream.push(piece) for piece in pieces), stream.end()])


def resonance(sound):
    """Frequency of the strongest part of a long-term spectrum, Hz."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return np.argmax(np.convolve(power, np.hanning(len(sound) // 160), "same")) * RATE / len(sound)


def test_alpha_of_one_gives_the_recording_back():
    assert np.abs(through([PULSES], alpha=1.0) - PULSES).max() < 1e-9


def test_a_pole_moves_to_the_power_of_its_angle():
    """Patino et al. 2021, section 2.2: 1 kHz at 16 kHz is 0.3927 rad, and 0.3927^0.8 is 1206 Hz."""
    noise = np.random.default_rng(1).standard_normal(4 * RATE)
    angle = 2 * np.pi * 1000 / RATE
    ringing = np.zeros(4 * RATE)
    for t in range(4 * RATE):  # one pole pair, nothing else
        ringing[t] = noise[t] + 2 * 0.98 * np.cos(angle) * ringing[t - 1] - 0.98**2 * ringing[t - 2]
    moved = through([0.01 * ringing], alpha=0.8)
    assert resonance(ringing) == pytest.approx(1000, abs=40)
    expected = angle**0.8 * RATE / (2 * np.pi)
    assert expected == pytest.approx(1206, abs=1)
    assert resonance(moved) == pytest.approx(expected, abs=40)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_a_stream_gives_the_same_however_it_is_cut(cuts):
    sound = PULSES[:2000]
    pieces = np.split(sound, np.minimum(np.cumsum(cuts), len(sound)))
    assert np.array_equal(through(pieces), through([sound]))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_a_stream_is_one_window_of_20_ms_behind(rate_hz):
    stream, out = McAdamsStream(alpha=0.7, rate_hz=rate_hz), 0
    assert stream.latency == rate_hz // 50
    for number in range(1, 1500):
        out += len(stream.push(PULSES[number : number + 1]))
        assert number - stream.latency <= out <= number


@pytest.mark.parametrize("name", [name for name in METHODS if name != "f0-reversion"])
@pytest.mark.parametrize("length", [0, 1, 159, 4001])
def test_length_stays_and_silence_stays_silent(name, length):
    changed = METHODS[name](PULSES[:length], RATE, **streams())
    assert changed.shape == (length,)
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert not METHODS[name](np.zeros(length, np.float32), RATE, **streams()).any()


@pytest.mark.parametrize("name", [name for name in METHODS if name != "f0-reversion"])
def test_the_voice_follows_its_keystream_and_the_rest_the_other(name):
    method = METHODS[name]
    same = [method(PULSES, RATE, **streams(1)) for _ in range(2)]
    other = method(PULSES, RATE, **streams(2))
    assert np.array_equal(*same)
    assert not np.allclose(same[0], other, atol=1e-3)


def test_mcadams_keeps_the_energy_of_speech():
    """Poles that move together ring louder by 20 dB and would be cut off at full scale."""
    changed = McAdams(low=0.5, high=0.5)(PULSES, RATE, **streams())
    assert 0.4 < np.mean(changed**2) / np.mean(PULSES**2) < 1.2  # frames that overlap may cancel


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf], [[0.0, 0.0]]])
def test_samples_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="finite samples of one channel"):
        McAdams()(np.array(bad, np.float32), RATE, **streams())


def test_ranges_that_are_none_are_refused():
    with pytest.raises(ValueError, match="low must be at most high"):
        McAdams(low=0.9, high=0.5)
    with pytest.raises(ValueError, match="high"):
        Resampling(high=float("nan"))


def test_noise_has_the_level_that_it_says():
    added = Noise(level_db=10)(PULSES, RATE, **streams()) - PULSES
    assert 10 * np.log10(np.mean(PULSES**2) / np.mean(added**2)) == pytest.approx(10, abs=0.3)


@needs_world
def test_resampling_moves_the_pitch_and_keeps_the_tempo():
    sound = np.concatenate([PULSES, np.zeros(4000, np.float32), PULSES])
    changed = Resampling()(sound, RATE, voice=Drawn(1.0, 0.0), noise=None)  # times 1.3
    contour = f0_contour(changed, RATE)
    assert np.median(contour[contour > 0]) == pytest.approx(150 * 1.3, rel=0.01)
    quiet = changed[len(PULSES) + 800 : len(PULSES) + 3200]
    assert np.mean(quiet**2) < 1e-3 * np.mean(changed**2)


@needs_world
def test_pitch_keeps_a_quarter_of_its_deviation_and_noise_is_10_db_below():
    f0 = np.concatenate([np.zeros(50), 150 + 30 * np.sin(np.arange(2000) / 20)])
    silent = F0MeanReversion(noise_db=190)
    kept = silent.reverted(f0, Keystream(bytes(32)))
    voiced = f0 > 0
    mean = f0[voiced].mean()
    assert not kept[~voiced].any()
    assert kept[voiced] - mean == pytest.approx((f0[voiced] - mean) / 4, abs=1e-6)
    noisy = F0MeanReversion().reverted(f0, Keystream(bytes(32)))
    added = np.std((noisy - kept)[voiced]) / np.std(f0[voiced])
    assert 20 * np.log10(added) == pytest.approx(-10, abs=0.5)


@needs_world
def test_world_gives_the_pitch_that_was_asked_for():
    # Half-way up the range 0.8 to 1.25 is 1.025; the energy stays at 0.7 of the amplitude.
    changed = F0MeanReversion()(PULSES, RATE, voice=Drawn(0.5, 0.0), noise=Keystream(bytes(32)))
    contour = f0_contour(changed, RATE)
    assert np.median(contour[contour > 0]) == pytest.approx(150 * 1.025, rel=0.02)
    assert len(changed) == len(PULSES)
    assert not F0MeanReversion()(np.zeros(800, np.float32), RATE, **streams()).any()

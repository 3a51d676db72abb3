"""Log-mel features: reference values, and streaming equal to whole clips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.audio.frontend import LogMel, hann_window, mel_matrix
from fedspeech.audio.spec import FrontendSpec

SPEC = FrontendSpec()


def noise(seed: int, clips: int = 2, samples: int = SPEC.clip_samples) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((0.1 * rng.standard_normal((clips, samples))).astype(np.float32))


def test_a_clip_of_a_second_has_49_frames_of_40_bands():
    assert LogMel(SPEC)(noise(0)).shape == (2, 49, 40)


def test_features_equal_the_definition_in_double():
    waveform = noise(1, clips=1)[0].numpy().astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)  # periodic Hann
    expected = []
    for start in range(0, 16_000 - 512 + 1, 320):
        power = np.abs(np.fft.rfft(waveform[start : start + 512] * window)) ** 2 / window.sum() ** 2
        expected.append(np.log(power @ mel_matrix(SPEC) + SPEC.floor))
    got = LogMel(SPEC)(torch.from_numpy(waveform.astype(np.float32))[None])[0].numpy()
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_a_sine_peaks_at_a_quarter_of_its_squared_amplitude_in_its_own_band():
    hz = 1_000.0  # exactly bin 32 of 512 at 16 kHz
    sine = 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(16_000) / 16_000)
    energies = torch.exp(LogMel(SPEC)(sine[None]))[0].mean(dim=0) - SPEC.floor
    band = int(energies.argmax())
    weights = mel_matrix(SPEC)[31:34, band]  # Hann spreads a sine over three bins: 1/4, 1, 1/4
    assert int(mel_matrix(SPEC)[32].argmax()) == band
    expected = 0.25 * 0.5**2 * float(weights @ np.array([0.25, 1.0, 0.25]))
    assert float(energies[band]) == pytest.approx(expected, rel=1e-3)


def test_mel_filters_match_known_values():
    # HTK: mel(1000 Hz) = 999.9855; triangles sum to 1 between the outer centers.
    filters = mel_matrix(SPEC)
    assert filters.shape == (257, 40)
    assert filters.min() >= 0
    assert filters.max() <= 1
    mels = 2595 * np.log10(1 + np.arange(257) * 31.25 / 700)
    edges = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 7600 / 700), 42)
    inside = (mels >= edges[1]) & (mels <= edges[-2])
    np.testing.assert_allclose(filters[inside].sum(axis=1), 1.0, atol=1e-6)
    assert not filters[(mels < edges[0]) | (mels > edges[-1])].any()


def test_hann_window_is_periodic():
    assert hann_window(4) == pytest.approx([0.0, 0.5, 1.0, 0.5])


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 15_999), max_size=8), seed=st.integers(0, 99))
def test_streamed_chunks_give_the_frames_of_the_whole_clip(cuts, seed):
    frontend, clip = LogMel(SPEC), noise(seed, clips=1)
    waiting, streamed = clip[:, :0], []
    for chunk in torch.tensor_split(clip, sorted(cuts), dim=1):
        waiting = torch.cat([waiting, chunk], dim=1)
        if frames := SPEC.num_frames(waiting.shape[1]):
            streamed.append(frontend(waiting))
            waiting = waiting[:, frames * SPEC.hop_samples :]
    torch.testing.assert_close(torch.cat(streamed, dim=1), frontend(clip), rtol=0, atol=1e-5)


def test_no_statistic_over_the_clip_a_later_shout_leaves_earlier_frames_alone():
    clip = noise(3)
    shouted = clip.clone()
    shouted[:, 8_000:] *= 9
    before = SPEC.num_frames(8_000)
    frontend = LogMel(SPEC)
    assert torch.equal(frontend(clip)[:, :before], frontend(shouted)[:, :before])


def test_digital_silence_is_finite():
    assert torch.allclose(LogMel(SPEC)(torch.zeros(1, 16_000)), torch.tensor(np.log(1e-8)).float())


@pytest.mark.parametrize("shape", [(16_000,), (1, 511)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="at least 512 samples"):
        LogMel(SPEC)(torch.zeros(shape))


def test_more_bands_than_the_spectrum_resolves_are_refused():
    with pytest.raises(ValueError, match="holds no bin"):
        mel_matrix(FrontendSpec(num_mels=256))

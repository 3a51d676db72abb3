"""ESPHome's front end, to the bit of the package that runs it, and what follows from its state."""

import numpy as np
import pytest
import torch

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.pcan import LARGEST_FEATURE, pcan_features
from fedspeech.audio.spec import PCAN, Cepstra, FrontendSpec
from fedspeech.seeds import stream

# Integers of the front end, before their scale of 10/256.
EXPECTED = [
    665, 603, 660, 605, 657, 602, 660, 602, 660, 600, 657, 599, 657, 600,
    656, 600, 657, 600, 655, 600, 654, 599, 653, 598, 653, 597, 653, 596,
    653, 596, 653, 597, 653, 597, 653, 597, 652, 597, 652, 597,
]  # fmt: skip


def sounds(num_samples=8_000):
    rng, seconds = stream(0, "sounds for PCAN"), np.arange(num_samples) / 16_000
    glide = np.sin(2 * np.pi * (200 + 3_000 * seconds) * seconds)
    found = {
        "silence": np.zeros(num_samples),
        "full-scale noise": rng.uniform(-32_768, 32_767, num_samples),
        "hiss": rng.normal(0, 3, num_samples),
        "glide that comes and goes": 12_000 * glide * (np.sin(20 * seconds) > 0),
        "full-scale square": np.where(glide > 0, 32_767, -32_768),
        "clicks": 30_000.0 * (rng.random(num_samples) < 1e-3),
    }
    return {name: np.round(sound).astype(np.int16) for name, sound in found.items()}


@pytest.mark.parametrize("name", sounds(480))
def test_every_feature_is_that_of_the_microcontroller_to_the_bit(name):
    module = pytest.importorskip("pymicro_features", reason="pip install pymicro-features")
    samples = sounds()[name]
    runtime = module.MicroFrontend()
    outputs = [runtime.process_samples(chunk.tobytes()) for chunk in samples.reshape(-1, 160)]
    expected = np.array([output.features for output in outputs if output.features], np.float32)
    np.testing.assert_array_equal(pcan_features(samples[np.newaxis])[0], expected)


def test_a_saw_tooth_has_the_features_that_pymicro_features_2_0_2_gives():
    samples = ((np.arange(480) * 200 % 20_000) - 10_000).astype(np.int16)
    found = np.round(pcan_features(samples[np.newaxis])[0, 0] * 25.6).astype(int)
    assert found.tolist() == EXPECTED


def test_silence_is_zero_and_nothing_is_larger_than_the_largest():
    assert not pcan_features(np.zeros((1, 1_600), np.int16)).any()
    for samples in sounds().values():
        assert 0 <= pcan_features(samples[np.newaxis]).max() < LARGEST_FEATURE + 0.5


def test_a_frame_depends_on_no_later_sample_and_on_no_other_clip():
    rng = stream(0, "clips for PCAN")
    clips = rng.integers(-3_000, 3_000, (3, 3_200)).astype(np.int16)
    whole = pcan_features(clips)
    np.testing.assert_array_equal(pcan_features(clips[1:2])[0], whole[1])
    np.testing.assert_array_equal(pcan_features(clips[:, :1_600]), whole[:, :8])
    assert (pcan_features(clips[:, 1_600:]) != whole[:, 10:]).any(), "the noise is remembered"


def test_the_front_end_of_training_takes_full_scale_1():
    samples = sounds()["glide that comes and goes"]
    waveform = torch.from_numpy(samples / np.float32(2**15))[None]
    found = LogMel(PCAN)(waveform).numpy()
    np.testing.assert_array_equal(found, pcan_features(samples[np.newaxis]))
    assert found.shape == (1, PCAN.num_frames(8_000), 40)


@pytest.mark.parametrize(
    "wrong", [{}, {"window_samples": 480, "hop_samples": 160}, {"floor": 1.0, "cepstra": Cepstra()}]
)
def test_other_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="kind=pcan has 40 bands"):
        FrontendSpec(kind="pcan", **wrong)

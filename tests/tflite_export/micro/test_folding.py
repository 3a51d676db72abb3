"""What stands before the graph: standardization in the first convolution, ranges, operations."""

import dataclasses
import math

import numpy as np
import pytest

from fedspeech.audio.spec import SPHINX_MFCC, FrontendSpec
from fedspeech.errors import ExportRefused
from tflite_export.arrays import run_encoder
from tflite_export.micro.blueprint import micro_blueprint, multiply_adds_per_second
from tflite_export.micro.folding import standardized_inside
from tflite_export.weights import network


@pytest.fixture(scope="module")
def small(make_trained):
    return network(make_trained("head")).merged()


def frames_of(net, log_mel):
    """Encoder frames of log-mel (frames, mels) whose convolutions see nothing before the first."""

    def convolve(name, conv, x):
        windows = np.lib.stride_tricks.sliding_window_view(x, conv.weight.shape[2], axis=0)
        return np.einsum("tik,oik->to", windows[:: conv.stride], conv.weight) + conv.bias

    x = (log_mel - net.feature_mean) / net.feature_std
    stem = dataclasses.replace(net.encoder, blocks=())
    return run_encoder(
        stem, x, convolve=lambda name, conv, x: convolve(name, conv, x) if name == "stem" else x,
        relu=lambda x: x, note=lambda _, x: x,
    )  # fmt: skip


def test_the_first_convolution_standardizes(small):
    log_mel = np.random.default_rng(0).normal(-8, 3, (20, 40)).astype(np.float32)
    folded = standardized_inside(small)
    assert not folded.feature_mean.any()
    assert (folded.feature_std == 1).all()
    np.testing.assert_allclose(frames_of(folded, log_mel), frames_of(small, log_mel), atol=2e-5)
    wrong = dataclasses.replace(small, feature_mean=small.feature_mean + 0.1)
    assert np.abs(frames_of(wrong, log_mel) - frames_of(folded, log_mel)).max() > 1e-3


def test_the_input_ranges_from_digital_silence_and_the_layers_keep_theirs(small, clips):
    blueprint = micro_blueprint(small, clips[:20])
    low, high = blueprint.ranges["input"]
    assert low <= math.log(1e-8) <= 0 <= high
    assert 0 < blueprint.ranges["mean"][1] <= blueprint.ranges["output"][1]
    assert blueprint.precision == "int8"


@pytest.mark.parametrize("spec", [SPHINX_MFCC, FrontendSpec(window_samples=400)])
def test_features_that_the_front_end_in_c_does_not_compute_are_refused(small, clips, spec):
    with pytest.raises(ExportRefused, match="micro: the front end in C computes log-mel"):
        micro_blueprint(dataclasses.replace(small, frontend=spec), clips[:1])


def test_multiply_adds_are_counted_at_the_rate_of_every_layer(small):
    # Stem 40-16 x 3; block 16-16, stride 2, shortcut; block 16-24, stride 2, shortcut; 24-24.
    per_frame = 40 * 16 * 3
    per_second_frame = 16 * 16 * (5 + 5 + 1)
    per_fourth_frame = 16 * 24 * 5 + 24 * 24 * 5 + 16 * 24 + 24 * 24 + 24 * 6
    expected = 50 * (per_frame + per_second_frame / 2 + per_fourth_frame / 4)
    assert multiply_adds_per_second(small) == pytest.approx(expected)

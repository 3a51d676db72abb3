"""A stream in one pass is the stream clip by clip, and where it would not be it is not taken."""

import dataclasses

import numpy as np
import pytest
import torch

from fedspeech.models.encoder import clip_by_clip
from fedspeech.models.exported import speech_embedding as wheel
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.models.exported.one_pass import OnePass

HOP, CLIP = 160, 1_600


class Convolving:
    """Frames of `reach` samples, one a hop, by a fixed matrix; optionally a mean over the clip."""

    activation, rate_hz, context_samples, clip_samples, hop_samples = (
        "identity",
        16_000,
        0,
        CLIP,
        HOP,
    )
    num_features, sha256 = 5, "0"

    def __init__(self, reach=480, padding=0, whole=False, hop=HOP):
        self.reach, self.padding, self.whole, self.step = reach, padding, whole, hop
        weights = np.random.default_rng(0).normal(size=(reach, 5)) / reach
        self.weights = torch.from_numpy(weights.astype(np.float32))
        self.num_windows = self(np.zeros((1, CLIP), np.float32)).shape[1]

    def frames(self, samples):
        frames = torch.from_numpy(samples).unfold(1, self.reach, self.step) @ self.weights
        return frames - frames.mean(1, keepdim=True) if self.whole else frames

    def __call__(self, heard):
        return self.frames(np.pad(heard, ((0, 0), (0, self.padding))))

    def listening(self, samples):
        return clip_by_clip(self, samples)

    @property
    def stream(self):
        return OnePass(self, self.padding, self.frames)


def sound(samples):
    return np.random.default_rng(1).normal(size=samples).astype(np.float32)


@pytest.mark.parametrize("padding", [0, 320, 700, 2_000])
@pytest.mark.parametrize("reach", [160, 480, 500])
def test_one_pass_gives_the_frames_of_every_clip(reach, padding):
    encoder = Convolving(reach, padding)
    assert encoder.stream.answers_as_clips()
    for samples in (sound(0), sound(HOP - 1), sound(HOP), sound(7_777)):
        expected = clip_by_clip(encoder, samples)
        for pass_frames in (1, 7, 500):
            found = encoder.stream(samples, pass_frames)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("hears", [{"whole": True}, {"hop": 2 * HOP}, {"hop": HOP // 2}])
def test_a_network_that_hears_the_clip_as_a_whole_or_at_other_hops_is_found_out(hears):
    assert not Convolving(**hears).stream.answers_as_clips()


def test_a_network_of_one_length_is_found_out():
    encoder = Convolving()

    def frames(samples):
        if samples.shape[1] != CLIP:
            raise ValueError("the network takes clips")
        return encoder.frames(samples)

    assert not OnePass(encoder, 0, frames).answers_as_clips()


@pytest.fixture(scope="module", params=["padded", "unpadded"])
def embedding(request):
    pytest.importorskip("pyopen_wakeword", reason="the wheel is the extra speech-embedding")
    pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")
    encoder = wheel.speech_embedding()
    if request.param == "padded":
        return encoder
    declared = dataclasses.replace(encoder.declared, context_samples=352, padding_samples=0)
    return ForeignEncoder(content=encoder.content, declared=declared)


@pytest.mark.slow
def test_the_speech_embedding_listens_in_one_pass(embedding):
    assert embedding.streams_in_one_pass
    samples = 0.1 * sound(16_000)
    found, expected = embedding.listening(samples), clip_by_clip(embedding, samples)
    assert found.shape == (12, embedding.num_windows, 96)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)

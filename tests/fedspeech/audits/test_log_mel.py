"""Pictures of features: right where features tell all, and speech where they tell nothing."""

import numpy as np
import pytest
import torch

from fedspeech.audits.log_mel import SpeechPrior, log_mel_of
from fedspeech.seeds import stream

SHAPE = (5, 4)


def speech(count, seed):
    """Sums of three patterns."""
    rng, patterns = stream(seed, "speech"), stream(0, "patterns").normal(size=(3, 20))
    drawn = rng.normal(size=(count, 3)) * [3.0, 2.0, 1.0] @ patterns + 1.0
    return drawn.reshape(count, *SHAPE).astype(np.float32)


def test_a_prior_has_the_mean_and_the_spread_of_speech():
    public = speech(200, 1)
    prior = SpeechPrior.of(public, components=3)
    assert np.allclose(prior.mean, public.mean(0))
    covariance = np.cov(public.reshape(200, -1), rowvar=False)
    flat = prior.components.reshape(3, -1)
    assert np.allclose(flat.T @ flat, covariance, atol=1e-3)


def test_features_that_tell_all_give_the_picture():
    prior, truth = SpeechPrior.of(speech(200, 1), components=3), speech(4, 2)
    weight = torch.tensor(stream(3, "encoder").normal(size=(20, 6)), dtype=torch.float32)

    def encode(log_mel):
        return torch.tanh(0.05 * log_mel.flatten(1) @ weight)

    found = log_mel_of(encode(torch.tensor(truth)).numpy(), encode, prior, trust=1e5, steps=500)
    assert np.abs(found - truth).max() < 0.3
    assert np.abs(truth - prior.mean).max() > 3


def test_features_that_tell_nothing_give_the_mean_of_speech():
    prior = SpeechPrior.of(speech(10, 1))
    assert len(prior.components) == 9

    def encode(log_mel):
        return 0 * log_mel.flatten(1)[:, :2]

    assert np.allclose(log_mel_of(np.ones((2, 2)), encode, prior), prior.mean, atol=1e-5)
    assert pytest.approx(prior.mean) == prior.pictures(torch.zeros(1, 9))[0].numpy()

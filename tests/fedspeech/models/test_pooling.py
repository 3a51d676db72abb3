"""What makes one vector of frames: mean and maximum, or a network; in a file and back."""

import numpy as np
import pytest
import torch

from fedspeech.models.pooling import Pooling


def network(windows=3, features=4):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32)

    layers = ((drawn(5, windows * features), drawn(5)), (drawn(6, 5), drawn(6)))
    return Pooling(mean=drawn(6), matrix=drawn(6, 2), layers=layers)


def test_a_network_takes_all_frames_side_by_side():
    pooling = network()
    frames = np.random.default_rng(1).normal(size=(7, 3, 4)).astype(np.float32)
    (first, shift), (second, rise) = pooling.layers
    hidden = np.maximum(frames.reshape(7, 12) @ first.T + shift, 0)
    expected = (np.maximum(hidden @ second.T + rise, 0) - pooling.mean) @ pooling.matrix
    found = pooling(torch.from_numpy(frames))
    assert found.shape == (7, 1, 2)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("pooling", [network(), Pooling.identity(4)])
def test_constants_come_back_from_arrays(pooling):
    again = Pooling.of_arrays(pooling.to_arrays())
    assert again.to_arrays().keys() == pooling.to_arrays().keys()
    frames = torch.ones(2, 3, 4)
    assert torch.equal(again(frames), pooling(frames))


def test_constants_of_another_encoder_are_refused():
    network().check(3, 4)
    with pytest.raises(ValueError, match="pooling_0_weight must be float32 of shape"):
        network().check(4, 4)
    with pytest.raises(ValueError, match="pooling_mean"):
        Pooling.identity(4).check(3, 5)
    good = network()
    with pytest.raises(ValueError, match="pooling_1_weight"):
        Pooling(mean=good.mean, matrix=good.matrix, layers=(good.layers[0], good.layers[0]))
    with pytest.raises(ValueError, match="pooling_mean"):
        Pooling(mean=good.mean, matrix=good.matrix, layers=good.layers[:1])

"""The encoder is causal, small, and equal to its folded arrays."""

import numpy as np
import pytest
import torch

from fedspeech.models.encoder_spec import ENCODERS, EncoderSpec
from fedspeech.models.folded import FoldedConv, FoldedEncoder
from fedspeech.models.kws import KwsEncoder, pooled_logits


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = KwsEncoder(EncoderSpec())
    for module in encoder.modules():  # as after training: statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    return encoder.eval()


def convolve(conv: FoldedConv, x: np.ndarray) -> np.ndarray:
    """Causal convolution from its definition; x has shape (frames, inputs)."""
    taps = conv.weight.shape[2]
    padded = np.concatenate([np.zeros((conv.left_padding, x.shape[1])), x])
    rows = [
        conv.bias + sum(conv.weight[:, :, k] @ padded[t + k] for k in range(taps))
        for t in range(0, len(x), conv.stride)
    ]
    return np.stack(rows)


def run_folded(folded: FoldedEncoder, x: np.ndarray) -> np.ndarray:
    x = np.maximum(convolve(folded.stem, x), 0)
    for block in folded.blocks:
        passed = x if block.shortcut is None else convolve(block.shortcut, x)
        x = np.maximum(convolve(block.second, np.maximum(convolve(block.first, x), 0)) + passed, 0)
    return convolve(folded.output, x)


def test_folded_arrays_compute_what_the_module_computes(encoder):
    x = torch.randn(2, 49, 40)
    with torch.no_grad():
        expected = encoder(x).numpy()
    for clip, want in zip(x.numpy(), expected, strict=True):
        np.testing.assert_allclose(run_folded(encoder.folded(), clip), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changed_from", [1, 9, 24, 40, 48])
def test_changing_the_future_leaves_the_past_alone(encoder, changed_from):
    past = torch.randn(3, 49, 40)
    future = past.clone()
    future[:, changed_from:] += 5 * torch.randn_like(future[:, changed_from:])
    with torch.no_grad():
        a, b = encoder(past), encoder(future)
    unchanged = encoder.spec.num_windows(
        changed_from
    )  # windows at frames 0, 4, ... before the change
    assert torch.equal(a[:, :unchanged], b[:, :unchanged])
    assert not torch.allclose(a[:, unchanged:], b[:, unchanged:])


def test_an_output_sees_as_far_back_as_the_receptive_field_says(encoder):
    frames = 161
    at = encoder.spec.num_windows(frames) - 1
    x = torch.randn(1, frames, 40, requires_grad=True)
    encoder(x)[0, at].abs().sum().backward()
    seen = x.grad[0].abs().sum(dim=1).nonzero().flatten()
    assert int(seen[-1]) == frames - 1
    assert int(seen[-1]) - int(seen[0]) + 1 == encoder.spec.receptive_frames == 71


def test_a_longer_recording_starts_with_the_same_outputs(encoder):
    x = torch.randn(1, 98, 40)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[:, :13], encoder(x[:, :49]), rtol=1e-5, atol=1e-5)


def test_frozen_encoder_treats_clips_independently_of_their_batch(encoder):
    x = torch.randn(5, 49, 40)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), rtol=1e-5, atol=1e-5)


def test_shapes_and_size(encoder):
    assert encoder(torch.zeros(2, 49, 40)).shape == (2, 13, 64)
    assert encoder.num_parameters <= 150_000
    assert encoder.spec.stride == 4


def test_a_encoder_above_the_limit_is_refused():
    with pytest.raises(ValueError, match="at most 150000 parameters"):
        KwsEncoder(EncoderSpec(channels=(96, 128, 128)))


@pytest.mark.parametrize(
    "wrong", [{"channels": (8, 8)}, {"features": 0}, {"strides": (2, 0, 1)}, {"kernel": -1}]
)
def test_impossible_layouts_are_refused(wrong):
    with pytest.raises(ValueError, match=r"channels|positive"):
        EncoderSpec(**wrong)


def test_head_is_relu_mean_linear():
    output = torch.tensor([[[1.0, -2.0], [3.0, 4.0]]])
    weight, bias = torch.tensor([[1.0, 10.0]]), torch.tensor([0.5])
    assert pooled_logits(output, weight, bias).item() == pytest.approx(2.0 + 20.0 + 0.5)


@pytest.mark.parametrize(("name", "parameters"), [("standard", 116_224), ("micro", 49_456)])
def test_the_encoders_that_are_known_by_name_hear_alike_and_differ_in_size(name, parameters):
    spec = ENCODERS[name]
    assert KwsEncoder(spec).num_parameters == parameters
    assert (spec.stride, spec.receptive_frames, spec.context_frames) == (4, 71, 72)

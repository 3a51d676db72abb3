"""What every adapter promises, whichever it is."""

import numpy as np
import pytest
import torch

from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import Batch
from fedspeech.training.objectives import CrossEntropy, cross_entropy

NAMES = ("head", "affine", "bottleneck")
WINDOWS, FEATURES, LABELS = 5, 7, 4
ERROR = CrossEntropy().logit_gradient


def random_batch(adapter, rng, num_phones=3, num_clips=6):
    embeddings = torch.from_numpy(
        rng.standard_normal((num_phones, num_clips, *adapter.embedding_shape)).astype(np.float32)
    )
    labels = torch.from_numpy(rng.integers(0, LABELS, (num_phones, num_clips)))
    counts = torch.from_numpy(rng.integers(1, num_clips + 1, (num_phones, 1)))
    weights = (torch.arange(num_clips) < counts) / counts
    return Batch(embeddings, labels, weights)


def random_parameters(adapter, rng, num_phones=3):
    return {
        name: torch.from_numpy(rng.standard_normal((num_phones, *shape)).astype(np.float32))
        for name, shape in adapter.spec.shapes
    }


@pytest.fixture(params=[(name, left) for name in NAMES for left in ("relu", "identity")])
def adapter(request):
    name, activation = request.param
    return make_adapter(name, WINDOWS, FEATURES, LABELS, activation)


def test_the_initial_adapter_computes_the_base_head(adapter):
    rng = np.random.default_rng(1)
    encoder_output = rng.standard_normal((9, WINDOWS, FEATURES)).astype(np.float32)
    weight = rng.standard_normal((LABELS, FEATURES)).astype(np.float32)
    bias = rng.standard_normal(LABELS).astype(np.float32)
    parameters = {
        name: torch.from_numpy(value[np.newaxis])
        for name, value in adapter.initial(weight, bias).items()
    }
    embeddings = adapter.embed(torch.from_numpy(encoder_output))
    assert embeddings.shape == (9, *adapter.embedding_shape)
    logits = adapter.logits(parameters, embeddings.unsqueeze(0))[0].numpy()
    if adapter.activation == "relu":
        encoder_output = np.maximum(encoder_output, 0)
    base = encoder_output.mean(axis=1) @ weight.T + bias
    np.testing.assert_allclose(logits, base, atol=1e-6)


def test_initial_parameters_follow_the_spec_and_do_not_alias_the_base(adapter):
    weight, bias = np.ones((LABELS, FEATURES), np.float32), np.ones(LABELS, np.float32)
    initial = adapter.initial(weight, bias)
    assert adapter.spec.flatten(initial).shape == (adapter.spec.size,)
    initial["head_weight"][:] = 0
    assert weight.all()


def test_gradients_by_hand_equal_autograd(adapter):
    rng = np.random.default_rng(2)
    for _ in range(5):
        batch, parameters = random_batch(adapter, rng), random_parameters(adapter, rng)
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        log_likelihood = torch.log_softmax(adapter.logits(leaves, batch.embeddings), dim=2)
        chosen = log_likelihood.gather(2, batch.labels.unsqueeze(2)).squeeze(2)
        torch.autograd.backward(-(chosen * batch.weights).sum())
        gradients = adapter.gradients(parameters, batch, ERROR)
        assert set(gradients) == {name for name, _ in adapter.spec.shapes}
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, leaves[name].grad, atol=2e-6, err_msg=name)


def test_padding_does_not_change_a_gradient(adapter):
    rng = np.random.default_rng(3)
    batch, parameters = random_batch(adapter, rng), random_parameters(adapter, rng)
    other = batch.embeddings.clone()
    other[batch.weights == 0] = 7.0
    padded = Batch(other, batch.labels, batch.weights)
    gradients = adapter.gradients(parameters, batch, ERROR)
    for name, gradient in adapter.gradients(parameters, padded, ERROR).items():
        np.testing.assert_allclose(gradient, gradients[name], atol=1e-6, err_msg=name)


def test_the_logits_of_a_phone_stand_alone(adapter):
    rng = np.random.default_rng(4)
    batch, parameters = random_batch(adapter, rng), random_parameters(adapter, rng)
    together = adapter.logits(parameters, batch.embeddings)
    alone = adapter.logits({n: v[1:2] for n, v in parameters.items()}, batch.embeddings[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-6)
    loss = cross_entropy(alone[0], batch.labels[1])
    assert torch.isfinite(loss)


def test_sizes_are_what_the_design_says():
    assert make_adapter("head", 1, 256, 20).spec.size == 5_140
    assert make_adapter("affine", 13, 64, 12).spec.size == 908
    assert make_adapter("bottleneck", 13, 64, 12).spec.size == 2_828


def test_unknown_names_and_shapes_are_refused(adapter):
    with pytest.raises(ValueError, match="or module:Class, got 'tail'"):
        make_adapter("tail", 1, 2, 3)
    with pytest.raises(ValueError, match="must be positive"):
        make_adapter("head", 1, 0, 3)
    weight, bias = np.zeros((LABELS, FEATURES), np.float32), np.zeros(LABELS, np.float32)
    with pytest.raises(ValueError, match="expected head_weight of shape"):
        adapter.initial(weight.T.copy(), bias)
    with pytest.raises(ValueError, match="head_bias must be finite"):
        adapter.initial(weight, np.full(LABELS, np.nan, np.float32))


def test_a_batch_shows_its_shape_only(adapter):
    batch = random_batch(adapter, np.random.default_rng(5))
    assert repr(batch) == f"Batch(shape={(3, 6, *adapter.embedding_shape)})"

"""Every adapter passes the check, and each way of breaking one is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from fedspeech.models.adapters import (
    Adapter,
    AffineAdapter,
    BottleneckAdapter,
    HeadAdapter,
    make_adapter,
)
from fedspeech.models.adapters.adapter import Batch, differentiated
from fedspeech.models.adapters.checking import check_adapter
from fedspeech.models.adapters.head import copied_head, head_logits, head_shapes
from fedspeech.models.base import Base, default_base_path, sentence_base_path
from fedspeech.training.objectives import CrossEntropy, cross_entropy
from fedspeech.vectors import ParameterSpec

SIZES = (13, 64, 12)  # windows, features and labels of the shipped base
BASE = Base.load(default_base_path())


@dataclasses.dataclass(frozen=True)
class Scaled(Adapter):
    """logits = t * (W mean(relu(x)) + b), with gradients from torch."""

    name = "scaled"
    output_unit = "clip"

    num_windows: int
    num_features: int
    num_labels: int

    @property
    def spec(self):
        return ParameterSpec((("t", (1,)), *head_shapes(self.num_features, self.num_labels)))

    @property
    def embedding_shape(self):
        return (self.num_features,)

    def initial(self, head_weight, head_bias):
        return {"t": np.ones(1, np.float32), **copied_head(self.spec, head_weight, head_bias)}

    def embed(self, encoder_output):
        return torch.relu(encoder_output).mean(dim=1)

    def logits(self, parameters, embeddings):
        return parameters["t"][:, :, None] * head_logits(parameters, embeddings)


@pytest.mark.parametrize("name", ["head", "affine", "bottleneck"])
def test_adapters_of_words_pass(name):
    check_adapter(make_adapter(name, *SIZES), BASE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frame_affine", "frame_bottleneck"])
def test_adapters_of_sentences_pass(name):
    base = Base.load(sentence_base_path())
    labels, features = base.head_weight.shape
    check_adapter(make_adapter(name, base.num_windows, features, labels), base)


def test_an_adapter_that_brings_no_gradients_passes():
    check_adapter(Scaled(*SIZES), BASE)


@pytest.mark.parametrize("kind", [HeadAdapter, AffineAdapter, BottleneckAdapter])
def test_gradients_from_torch_are_those_by_hand(kind):
    """The same by both ways, of an objective that overwrites the logits it is given."""
    adapter = kind(*SIZES[-2:]) if kind is not AffineAdapter else kind(*SIZES)
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return 0.2 * torch.randn(shape, generator=generator)

    parameters = {name: normal(3, *shape) for name, shape in adapter.spec.shapes}
    batch = Batch(
        normal(3, 6, *adapter.embedding_shape), torch.zeros(3, 6), torch.full((3, 6), 1 / 6)
    )

    def pull(logits, of):
        return logits.sin_().mul_(of.weights.unsqueeze(1))

    by_hand = adapter.gradients(parameters, batch, pull)
    for name, gradient in differentiated(adapter, parameters, batch, pull).items():
        np.testing.assert_allclose(gradient, by_hand[name], atol=1e-5, rtol=1e-4)


class MixesClips(Scaled):
    def logits(self, parameters, embeddings):
        return super().logits(parameters, embeddings - embeddings.mean(dim=1, keepdim=True))


class MixesPhones(Scaled):
    def logits(self, parameters, embeddings):
        mean = {name: value.mean(0, keepdim=True) for name, value in parameters.items()}
        return super().logits(
            {n: v.expand(len(embeddings), *v.shape[1:]) for n, v in mean.items()}, embeddings
        )


class NotTheBase(Scaled):
    def initial(self, head_weight, head_bias):
        return super().initial(head_weight, 2 * head_bias)


class WrongNames(Scaled):
    def initial(self, head_weight, head_bias):
        initial = super().initial(head_weight, head_bias)
        return {"s": initial.pop("t"), **initial}


class Aliases(Scaled):
    def initial(self, head_weight, head_bias):
        start = super().initial(head_weight, head_bias)
        return {**start, "head_weight": head_weight}


class Draws(Scaled):
    def logits(self, parameters, embeddings):
        return super().logits(parameters, embeddings) * (1 + 1e-3 * torch.rand(()))


class OnlyTheHead(Scaled):
    def gradients(self, parameters, batch, logit_gradient):
        found = super().gradients(parameters, batch, logit_gradient)
        return {**found, "t": torch.zeros_like(found["t"])}


class ReadsPadding(Scaled):
    def gradients(self, parameters, batch, logit_gradient):
        even = dataclasses.replace(batch, weights=torch.full_like(batch.weights, 1 / 6))
        return super().gradients(parameters, even, logit_gradient)


class NotFinite(Scaled):
    def embed(self, encoder_output):
        return super().embed(encoder_output).log()


class OneBlock(Scaled):
    block_phones = 7


BROKEN = {
    MixesClips: "logits must be those of each phone and clip alone|own head",
    MixesPhones: "logits must be those of each phone and clip alone",
    NotTheBase: "initial must compute the base's own head; the largest difference",
    WrongNames: "initial must follow spec",
    Aliases: "initial must copy the base's head",
    Draws: "own head|same every time",
    OnlyTheHead: "the gradient of t must be that of the logits",
    ReadsPadding: "gradient of t must be that of the logits|clips of weight 0",
    NotFinite: "embed must give finite values",
    OneBlock: "block_phones is a multiple of 16, got 7",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_a_promise_is_refused_by_name(kind):
    with pytest.raises(ValueError, match=f"adapter scaled: .*({BROKEN[kind]})"):
        check_adapter(kind(*SIZES), BASE)


@pytest.mark.slow  # the import of torch.func takes two seconds
def test_torch_func_gives_the_same_gradients():
    """`vmap` over phones of `grad`, which is what one pass for all phones stands for."""
    adapter = Scaled(*SIZES)
    parameters = {name: torch.randn(3, *shape) for name, shape in adapter.spec.shapes}
    clips, labels = torch.randn(3, 6, *adapter.embedding_shape), torch.randint(0, 12, (3, 6))
    batch = Batch(clips, labels, torch.full((3, 6), 1 / 6))

    def loss(own, clips, labels):
        stacked = {name: value[None] for name, value in own.items()}
        return cross_entropy(adapter.logits(stacked, clips[None])[0], labels)

    expected = torch.func.vmap(torch.func.grad(loss))(parameters, clips, labels)
    for name, gradient in adapter.gradients(
        parameters, batch, CrossEntropy().logit_gradient
    ).items():
        np.testing.assert_allclose(gradient, expected[name], atol=1e-6, rtol=1e-4)

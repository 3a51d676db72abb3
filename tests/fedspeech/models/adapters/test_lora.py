"""Low-rank factors inside the encoder: the same function as the encoder with merged weights."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.models.adapters.checking import check_adapter
from fedspeech.models.adapters.files import load_adapter, save_adapter
from fedspeech.models.adapters.lora import _ADDED
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.cut import adaptable, layers_of_last, rest_of, start_of
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.frozen_graph import FrozenGraph, Layer, Of, Step
from fedspeech.models.kws import KwsEncoder
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining

LABELS = 5


def small_base(seed=1, **layout):
    """A base with every kind of block, whose normalizations scale some channels by almost zero."""
    torch.manual_seed(seed)
    sizes = {"stem_channels": 8, "channels": (8, 12, 12), "strides": (2, 2, 1), "kernel": 3}
    network = KwsEncoder(EncoderSpec(**({"features": 10, **sizes} | layout)))
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
    for name, parameter in network.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.uniform_(-0.5, 1.5)
            parameter.data[0] = 1e-6
    rng = np.random.default_rng(seed)
    return Base(
        encoder=BuiltInEncoder(
            network=network,
            frontend=FrontendSpec(),
            feature_mean=np.zeros(40, np.float32),
            feature_std=np.full(40, 3, np.float32),
        ),
        vocabulary=Vocabulary(("a", "b", "c")),
        head_weight=rng.standard_normal((LABELS, network.spec.features), dtype=np.float32),
        head_bias=rng.standard_normal(LABELS, dtype=np.float32),
        provenance={},
    )


BASE = small_base()
LAYERS = tuple(adaptable(BASE.built_in.network))


def lora(base=BASE, **chosen):
    """Shape and adapter."""
    shape = AdapterShape.of(base, "lora", LABELS, LoraSettings(**({"rank": 3} | chosen)))
    return shape, shape.build(shape.frozen(base))


def trained(adapter, base=BASE, seed=2):
    """Parameters in which every factor and the head have moved."""
    rng = np.random.default_rng(seed)
    return {
        name: value + 0.2 * rng.standard_normal(value.shape, dtype=np.float32)
        for name, value in adapter.initial(base.head_weight, base.head_bias).items()
    }


def noise(base, clips, seed=3):
    shape = (clips, base.heard_samples)
    return 0.1 * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def logits_of(adapter, parameters, frames):
    with torch.no_grad():
        one = {name: torch.from_numpy(value[None]) for name, value in parameters.items()}
        return adapter.logits(one, adapter.embed_frames(BASE, frames)[None])[0]


@settings(max_examples=5, deadline=None)
@given(
    layers=st.lists(st.sampled_from(LAYERS), min_size=1, unique=True),
    rank=st.integers(1, 8),
    alpha=st.sampled_from((None, 0.5, 16.0)),
)
def test_the_cut_encoder_with_factors_is_the_encoder_with_merged_weights(layers, rank, alpha):
    _, adapter = lora(layers=tuple(layers), rank=rank, alpha=alpha)
    parameters, heard = trained(adapter), noise(BASE, 3)
    merged = adapter.merged(BASE, parameters)
    expected = merged.logits(merged.encoder_output(heard))
    found = logits_of(adapter, parameters, adapter.encoder(BASE)(heard))
    scale = max(1.0, float(expected.abs().max()))
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)
    before = BASE.logits(BASE.encoder_output(heard))
    assert not np.allclose(found, before, atol=1e-2), "the factors must matter"


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [1, 2, 5])
@pytest.mark.parametrize("strides", [(1, 2, 3), (2, 1, 1)])
def test_any_layout_of_the_encoder_can_be_cut(kernel, strides):
    base = small_base(strides=strides, kernel=kernel)
    for blocks in (1, 2, 3):
        _, adapter = lora(base, blocks=blocks)
        parameters, heard = trained(adapter, base), noise(base, 2)
        merged = adapter.merged(base, parameters)
        expected = merged.logits(merged.encoder_output(heard))
        found = logits_of(adapter, parameters, adapter.encoder(base)(heard))
        np.testing.assert_allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_every_hop_of_a_stream_has_the_logits_of_the_merged_encoder():
    _, adapter = lora()
    parameters, samples = trained(adapter), noise(BASE, 1)[0, :24_000]
    merged = adapter.merged(BASE, parameters)
    expected = merged.logits(merged.listening_output(samples))
    found = logits_of(adapter, parameters, adapter.encoder(BASE).listening(samples))
    assert found.shape == (24_000 // 320, LABELS)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_it_keeps_what_every_adapter_promises():
    check_adapter(lora()[1], BASE)


def test_it_begins_as_the_base_with_a_gradient_in_every_factor_b():
    _, adapter = lora()
    initial = adapter.initial(BASE.head_weight, BASE.head_bias)
    assert all(not value.any() for name, value in initial.items() if name.endswith("lora_B"))
    delta = train_adapter(
        adapter, initial, phones(adapter, 1)[0], LocalTraining(), np.random.default_rng(0)
    )
    for name, value in adapter.spec.unflatten(delta.vector).items():
        assert value.any() == (not name.endswith("lora_A") or value.any()), name
        if name.endswith("lora_B"):
            assert value.any(), name


def test_it_may_score_before_it_trains():
    """Evaluation runs in inference mode, whose tensors cannot be differentiated through."""
    _, adapter = lora()
    vector = adapter.spec.flatten(trained(adapter))[None]
    score_clips(adapter, vector, phones(adapter, 1)[0].embeddings)
    (delta,) = train_cohort(
        adapter, trained(adapter), phones(adapter, 1), LocalTraining(), [np.random.default_rng(0)]
    )
    assert np.isfinite(delta.vector).all()


def phones(adapter, count, clips=9, seed=5):
    rng = np.random.default_rng(seed)
    shape = adapter.embedding_shape
    return [
        LocalDataset(
            np.abs(rng.standard_normal((clips, *shape), dtype=np.float32)),
            rng.integers(0, LABELS, clips),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("batch_size", [4, 16])
def test_many_phones_train_as_one(batch_size):
    _, adapter = lora()
    training = LocalTraining(batch_size=batch_size, max_examples=16, learning_rate=0.02)
    start, datasets = trained(adapter), phones(adapter, 3)
    streams = [np.random.default_rng(phone) for phone in range(3)]
    together = train_cohort(adapter, start, datasets, training, streams)
    for phone, dataset in enumerate(datasets):
        alone = train_adapter(adapter, start, dataset, training, np.random.default_rng(phone))
        scale = np.abs(alone.vector).max()
        np.testing.assert_allclose(together[phone].vector, alone.vector, atol=1e-4 * scale)


def test_the_bits_of_a_phone_do_not_depend_on_its_company():
    _, adapter = lora()
    training = LocalTraining(batch_size=16, max_examples=16, learning_rate=0.02)
    start, datasets = trained(adapter), phones(adapter, adapter.block_phones + 3)

    def vectors(chosen):
        chosen = list(chosen)
        found = train_cohort(adapter, start, [datasets[i] for i in chosen], training, chosen)
        return {i: delta.vector.tobytes() for i, delta in zip(chosen, found, strict=True)}

    whole = vectors(range(len(datasets)))
    for some in ([7], [18, 7, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]):
        for phone, bits in vectors(some).items():
            assert bits == whole[phone], phone


def test_frames_that_are_no_numbers_stay_with_their_phone():
    _, adapter = lora()
    training = LocalTraining(batch_size=16, max_examples=16)
    datasets = phones(adapter, 2)
    datasets[0].embeddings[0] = np.nan
    spoiled, clean = train_cohort(adapter, trained(adapter), datasets, training, [0, 0])
    assert not np.isfinite(spoiled.vector).all()
    assert np.isfinite(clean.vector).all()


def torch_layer(kind, weight, bias, stride, padding, dilation):
    if kind == "linear":
        return lambda x: functional.linear(x, weight, bias)
    convolve = functional.conv1d if kind == "conv1d" else functional.conv2d
    return lambda x: convolve(x, weight, bias, stride, padding, dilation)


CASES = [
    ("linear", (6, 5), (), (), (), (7, 5)),
    ("conv1d", (6, 5, 3), (2,), (1,), (1,), (5, 11)),
    ("conv1d", (6, 5, 4), (1,), (0,), (2,), (5, 11)),
    ("conv1d", (6, 5, 1), (3,), (0,), (1,), (5, 11)),
    ("conv2d", (6, 5, 3, 2), (2, 1), (1, 0), (1, 2), (5, 9, 8)),
]


@pytest.mark.parametrize("case", CASES)
def test_a_layer_with_factors_is_the_layer_with_their_product_added(case):
    """Values and derivatives, of two phones with factors of their own."""
    kind, shape, stride, padding, dilation, given_shape = case
    generator = torch.Generator().manual_seed(4)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator, dtype=torch.float64).requires_grad_()

    weight, bias = normal(*shape), normal(shape[0])
    a, b, x = normal(2, 3, *shape[1:]), normal(2, shape[0], 3), normal(2 * 3, *given_shape)
    layer = Layer("layer", kind, shape, stride, padding, dilation)
    frozen = torch_layer(kind, weight, bias, stride, padding, dilation)
    found = _ADDED[kind](layer, frozen(x), x, a, b)
    expected = torch.cat(
        [
            torch_layer(
                kind, weight + torch.tensordot(b[p], a[p], 1), bias, stride, padding, dilation
            )(x[3 * p : 3 * p + 3])
            for p in range(2)
        ]
    )
    torch.testing.assert_close(found, expected)
    pull = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, (a, b, x), pull),
        torch.autograd.grad(expected, (a, b, x), pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_graph_travels_as_bytes_and_keeps_them():
    graph = rest_of(BASE, LAYERS[-3:])
    data = graph.to_bytes()
    assert rest_of(BASE, LAYERS[-3:]).to_bytes() == data
    again = FrozenGraph.from_bytes(data)
    assert again.to_bytes() == data
    assert again.steps == graph.steps
    with pytest.raises(ValueError, match="not a frozen graph"):
        FrozenGraph.from_bytes(data[:-4])
    with pytest.raises(ValueError, match="not a frozen graph"):
        FrozenGraph.from_bytes(b"")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Step("y", "from_file.default", ("/etc/passwd",))], "from_file.default is none of those"),
        ([Step("y", "relu_.default", (Of("x"),))], "relu_.default is none of those"),
        ([Step("y", "__class__", (Of("x"),))], "__class__ is none of those"),
        ([Step("y", "relu.default", (Of("z"),))], r"takes \['z'\], which nothing gives"),
        ([Step("y", "cat.default", ((Of("x"), Of("w")),))], r"takes \['w'\], which nothing gives"),
        ([Step("y", "adapt", (Of("x"), Of("x")), "layer")], "layers and output must be those"),
        ([Step("z", "relu.default", (Of("x"),))], "layers and output must be those"),
    ],
)
def test_a_graph_with_anything_else_in_it_is_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        FrozenGraph(inputs=("x",), steps=tuple(steps), output="y", layers=(), arrays={})


def test_a_shape_survives_json_and_knows_the_parameters_without_the_graph():
    shape, adapter = lora(blocks=2)
    again = AdapterShape.from_settings(json.loads(json.dumps(dataclasses.asdict(shape))))
    assert again == shape
    assert shape.spec == adapter.spec
    plain = dataclasses.replace(shape, name="head", lora=None)
    assert AdapterShape.from_settings(json.loads(json.dumps(dataclasses.asdict(plain)))) == plain
    other, _ = lora(blocks=1)
    with pytest.raises(ValueError, match="the frozen graph adapts the layers"):
        shape.build(other.frozen(BASE))
    with pytest.raises(ValueError, match="not a frozen graph"):
        shape.build()


def test_the_default_is_rank_4_on_the_last_two_blocks():
    from fedspeech.models.base import default_base_path

    base = Base.load(default_base_path())
    shape = AdapterShape.of(base, "lora", 12)
    assert [name for name, _ in shape.lora.layers] == [
        f"blocks.{block}.{part}.conv"
        for block, part in (
            (1, "first"),
            (1, "second"),
            (1, "shortcut"),
            (2, "first"),
            (2, "second"),
        )
    ]
    assert shape.lora.frames == (53, 48)
    factors = sum(4 * (64 + math.prod(size[1:])) for _, size in shape.lora.layers)
    assert shape.spec.size == factors + 12 * 64 + 12
    # By hand: outputs times inputs times taps times windows of what depends on a factor.
    moving = 64 * (64 * 5 * (21 + 17 + 13) + 64 * 13)
    assert shape.lora.multiplications == moving


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"blocks": 4}, "the encoder has 3 blocks, got lora.blocks=4"),
        ({"layers": ("stem.conv",)}, "no adaptable layer 'stem.conv'; it has blocks.0.first.conv"),
        ({"layers": ("output.conv",) * 2}, "each once"),
        ({"rank": 11, "layers": ("output.conv",)}, r"rank must be in \[1, 10\].*got 11"),
        ({"rank": 0}, "rank must be"),
        ({"alpha": 0.0}, "alpha must be"),
    ],
)
def test_layers_that_are_not_there_and_ranks_that_do_not_fit_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        lora(**chosen)[0].spec  # noqa: B018


def test_a_base_of_sentences_is_refused():
    base = Base.load(sentence_base_path())
    with pytest.raises(ValueError, match="lora adapts encoders of words"):
        start_of(base, layers_of_last(base, 1))


def test_files_have_the_layout_of_peft_and_are_read_again(tmp_path):
    shape, adapter = lora(alpha=6.0)
    parameters = trained(adapter)
    save_adapter(
        tmp_path, shape, parameters, base_sha256=BASE.sha256, vocabulary=BASE.vocabulary, rounds=3
    )
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6)
    assert (
        "`PeftModel.from_pretrained(scorer(base), folder)`" in (tmp_path / "README.md").read_text()
    )
    loaded, values = load_adapter(tmp_path, BASE)
    assert loaded.graph.to_bytes() == adapter.graph.to_bytes()
    assert (loaded.rank, loaded.alpha) == (3, 6.0)
    for name, value in parameters.items():
        np.testing.assert_array_equal(values[name], value)
    with pytest.raises(ValueError, match="belongs to base"):
        load_adapter(tmp_path, small_base(seed=9))


@pytest.mark.slow  # Opacus imports for seconds
def test_single_clips_can_be_hidden_by_dp_sgd():
    """Without noise, and with a norm that clips nothing, a step is that of plain training."""
    from fedspeech.privacy.examples import ExamplePrivacy
    from fedspeech.training.dp_sgd import train_private

    _, adapter = lora()
    training = LocalTraining(batch_size=9, max_examples=9, momentum=0.0)
    arguments = adapter, trained(adapter), phones(adapter, 2), training
    streams = [np.random.default_rng(phone) for phone in range(2)]
    privacy = ExamplePrivacy(clip_norm=1e6, noise_multiplier=0.0, delta=1e-3)
    hidden = train_private(*arguments, streams, privacy=privacy)
    for one, other in zip(hidden, train_cohort(*arguments, streams), strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-6)


@pytest.mark.slow
def test_peft_loads_the_files_onto_the_module(tmp_path):
    """Run with `pip install peft`, which brings transformers; the project does not need it."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from fedspeech.models.adapters.peft_layout import scorer

    shape, adapter = lora(layers=("blocks.1.shortcut.conv", "blocks.2.first.conv", "output.conv"))
    parameters, heard = trained(adapter), noise(BASE, 4)
    save_adapter(
        tmp_path, shape, parameters, base_sha256=BASE.sha256, vocabulary=BASE.vocabulary, rounds=3
    )
    features = BASE.built_in.features(heard).clone()
    module = scorer(BASE)
    with torch.no_grad():
        before = module(features)
        model = peft.PeftModel.from_pretrained(module, tmp_path)
        found = model(features)
        merged = model.merge_and_unload()(features)
    expected = logits_of(adapter, parameters, adapter.encoder(BASE)(heard))
    scale = float(expected.abs().max())
    np.testing.assert_allclose(before, BASE.logits(BASE.encoder_output(heard)), atol=1e-5 * scale)
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    np.testing.assert_allclose(merged, expected, atol=1e-5 * scale)
    assert not np.allclose(found, before, atol=1e-2)

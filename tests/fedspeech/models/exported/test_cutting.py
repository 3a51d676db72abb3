"""A program from elsewhere, cut before its adapted layers: the same function as merged weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.adapters.checking import check_adapter
from fedspeech.models.adapters.files import save_adapter
from fedspeech.models.adapters.peft_layout import scorer
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base
from fedspeech.models.compute import computing_on
from fedspeech.models.exported.cutting import adaptable
from fedspeech.models.exported.program import checked_program, with_parameters
from fedspeech.models.frozen_graph import FrozenGraph
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining

WORDS = ("yes", "no")
LABELS = len(WORDS) + 2


class Separable(nn.Module):
    """A small network of depthwise and pointwise convolutions over log-mel, with a skip."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 5, stride=(2, 4), padding=2), nn.BatchNorm2d(8))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.along = nn.Conv1d(80, 12, 3, dilation=2, padding=2)
        self.layer_norm, self.linear = nn.LayerNorm(12), nn.Linear(12, 6)

    def forward(self, log_mel):
        x = torch.relu(self.stem(log_mel.unsqueeze(1)))
        x = x + torch.nn.functional.gelu(
            self.norm(self.pointwise(self.depthwise(x))), approximate="tanh"
        )
        x = x.permute(0, 1, 3, 2).reshape(x.shape[0], 80, -1)
        return self.linear(self.layer_norm(torch.relu(self.along(x)).transpose(1, 2)))


class Vector(Separable):
    """The same, to one vector."""

    def forward(self, log_mel):
        return super().forward(log_mel).mean(dim=1)


def made(kind, pooling):
    torch.manual_seed(3)
    network = kind().eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    rng = np.random.default_rng(3)
    size = 12 if pooling == "mean_max" else 6
    head = (
        torch.from_numpy(rng.standard_normal((LABELS, size), dtype=np.float32)),
        torch.from_numpy(rng.standard_normal(LABELS, dtype=np.float32)),
    )
    return network, base_of(network, pooling, head)


def base_of(network, pooling, head):
    spec = FrontendSpec()
    example = torch.zeros(1, spec.frames_per_clip, spec.num_mels)
    return Base.from_module(
        copy.deepcopy(network), example=example, words=WORDS, license="Apache-2.0", log_mel=spec,
        pooling=pooling, head=head,
    )  # fmt: skip


@pytest.fixture(
    scope="module", params=[(Separable, "mean_max"), (Separable, "mean"), (Vector, None)]
)
def both(request):
    return (*made(*request.param), request.param[1])


def adapter_of(base, layers, rank=2):
    shape = AdapterShape.of(base, "lora", LABELS, LoraSettings(rank=rank, layers=layers))
    return shape.build(shape.frozen(base))


LAYERS = [
    ("linear",),
    ("pointwise",),
    ("linear", "along"),
    ("stem.0", "pointwise", "along", "linear"),
]


@pytest.mark.slow  # each base is exported and probed
@pytest.mark.parametrize("layers", LAYERS, ids="+".join)
def test_the_cut_program_with_factors_is_the_network_with_merged_weights(both, layers):
    network, base, pooling = both
    adapter, rng = adapter_of(base, layers), np.random.default_rng(4)
    parameters = {
        name: value + 0.3 * rng.standard_normal(value.shape, dtype=np.float32)
        for name, value in adapter.initial(base.head_weight, base.head_bias).items()
    }
    merged = copy.deepcopy(network)
    for layer in layers:
        a, b = parameters[f"{layer}.lora_A"], parameters[f"{layer}.lora_B"]
        with torch.no_grad():
            merged.get_submodule(layer).weight += torch.from_numpy(np.tensordot(b, a, 1))
    head = [torch.from_numpy(parameters[f"head_{part}"]) for part in ("weight", "bias")]
    expected_base = base_of(merged, pooling, head)
    heard = 0.1 * rng.standard_normal((5, base.heard_samples)).astype(np.float32)
    expected = expected_base.logits(expected_base.encoder_output(heard))
    frames = adapter.encoder(base)(heard)
    with torch.no_grad():
        one = {name: torch.from_numpy(value[None]) for name, value in parameters.items()}
        found = adapter.logits(one, adapter.embed_frames(base, frames)[None])[0]
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    whole = adapter.merged(base, parameters)
    np.testing.assert_allclose(
        whole.logits(whole.encoder_output(heard)), expected, atol=1e-5 * scale
    )
    assert not np.allclose(found, base.logits(base.encoder_output(heard)), atol=1e-2)
    stream = np.concatenate([heard[0], heard[1]])
    listened = adapter.encoder(base).listening(stream)
    assert listened.shape == (len(stream) // base.encoder.hop_samples, 1, frames.shape[2])
    heard_hops = base.encoder.hop_samples * (len(heard[0]) // base.encoder.hop_samples)
    if heard_hops == len(heard[0]):
        np.testing.assert_allclose(listened[heard_hops // base.encoder.hop_samples - 1], frames[0])


@pytest.mark.slow
def test_it_keeps_what_every_adapter_promises_and_travels_as_bytes():
    _, base = made(Separable, "mean_max")
    adapter = adapter_of(base, ("pointwise", "linear"))
    check_adapter(adapter, base)
    data = adapter.graph.to_bytes()
    assert FrozenGraph.from_bytes(data).to_bytes() == data
    assert adapter_of(base, ("pointwise", "linear")).graph.to_bytes() == data


@pytest.mark.slow
def test_what_cannot_be_adapted_is_refused_by_name():
    _, base = made(Separable, "mean_max")
    assert list(adaptable(base.encoder)) == ["stem.0", "pointwise", "along", "linear"]
    for layers, message in (
        (("depthwise",), "no adaptable layer 'depthwise'; it has stem.0, pointwise, along, linear"),
        (("linear", "linear"), "each once"),
        ((), "lora.layers must name layers of an encoder from elsewhere, such as pointwise, along"),
    ):
        with pytest.raises(ValueError, match=message):
            adapter_of(base, layers)


class Twice(nn.Module):
    """One layer that runs twice, and one that runs once."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(40, 40), nn.Linear(40, 6)

    def forward(self, log_mel):
        return self.outer(torch.relu(self.inner(torch.relu(self.inner(log_mel)))))


@pytest.mark.slow
def test_a_layer_that_runs_twice_takes_no_factors_and_parameters_change_by_name():
    torch.manual_seed(5)
    network = Twice()
    head = torch.zeros(LABELS, 6), torch.zeros(LABELS)
    base = base_of(network, "mean", head)
    assert list(adaptable(base.encoder)) == ["outer"]
    weight = np.arange(240, dtype=np.float32).reshape(6, 40).T.copy().T / 240  # in another order
    changed = checked_program(with_parameters(base.encoder.content, {"outer.weight": weight}))
    values, before = changed.state_dict, base.encoder.network.program.state_dict
    np.testing.assert_array_equal(values["outer.weight"].detach(), weight)
    for name in set(before) - {"outer.weight"}:
        assert torch.equal(values[name], before[name])
    for path, value, message in (
        ("outer.weights", weight, "has no parameter 'outer.weights'"),
        ("outer.weight", weight.T, r"of shape \(6, 40\), got float32 of \(40, 6\)"),
        ("outer.weight", weight.astype(np.float64), "must be float32"),
    ):
        with pytest.raises(ValueError, match=message):
            with_parameters(base.encoder.content, {path: value})


class InPlace(nn.Module):
    """Activations that overwrite what they are given, which is then taken by its old name."""

    def __init__(self, kept):
        super().__init__()
        self.kept, self.first, self.last = kept, nn.Linear(40, 16), nn.Linear(16, 6)

    def forward(self, log_mel):
        start = self.first(log_mel)
        whole = torch.nn.functional.dropout(start, 0.1, self.training)  # the same memory
        torch.relu_(whole)
        if self.kept == "old name":
            return self.last(start)
        return self.last(whole + start if self.kept == "both" else whole)


@pytest.mark.slow
def test_activations_in_place_are_trained_through_unless_their_input_is_taken_under_another_name():
    head = torch.zeros(LABELS, 6), torch.zeros(LABELS)
    torch.manual_seed(6)
    network = InPlace(kept="")
    base = base_of(network, "mean", head)
    adapter, rng = adapter_of(base, ("first",)), np.random.default_rng(6)
    parameters = {
        name: value + 0.3 * rng.standard_normal(value.shape, dtype=np.float32)
        for name, value in adapter.initial(base.head_weight, base.head_bias).items()
    }
    whole = adapter.merged(base, parameters)
    heard = 0.1 * rng.standard_normal((5, base.heard_samples)).astype(np.float32)
    expected = whole.logits(whole.encoder_output(heard))
    with torch.no_grad():
        one = {name: torch.from_numpy(value[None]) for name, value in parameters.items()}
        found = adapter.logits(one, adapter.encoder(base)(heard)[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    for kept, layer, message in (
        ("both", "first", "overwrites the memory of linear before that is used"),
        ("old name", "last", "cannot cut after linear, whose memory relu_ overwrites"),
    ):
        other = base_of(InPlace(kept), "mean", head)
        with pytest.raises(ValueError, match=message):
            adapter_of(other, (layer,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "pooling"), [(Separable, "mean_max"), (Separable, "mean"), (Vector, None)]
)
def test_peft_loads_the_files_onto_the_module_that_was_brought(kind, pooling, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    network, base = made(kind, pooling)
    settings = LoraSettings(rank=2, alpha=3, layers=("stem.0", "pointwise", "linear"))
    shape = AdapterShape.of(base, "lora", LABELS, settings)
    adapter, rng = shape.build(shape.frozen(base)), np.random.default_rng(9)
    parameters = {
        name: value + 0.3 * rng.standard_normal(value.shape, dtype=np.float32)
        for name, value in adapter.initial(base.head_weight, base.head_bias).items()
    }
    save_adapter(
        tmp_path, shape, parameters, base_sha256=base.sha256, vocabulary=base.vocabulary, rounds=1
    )
    heard = 0.1 * rng.standard_normal((4, base.heard_samples)).astype(np.float32)
    inputs = base.encoder.inputs(heard).clone()
    whole = adapter.merged(base, parameters)
    expected = whole.logits(whole.encoder_output(heard))
    with torch.no_grad():
        module = scorer(base, copy.deepcopy(network))
        before = module(inputs)
        found = peft.PeftModel.from_pretrained(module, tmp_path)(inputs)
    scale = float(expected.abs().max())
    np.testing.assert_allclose(before, base.logits(base.encoder_output(heard)), atol=1e-5 * scale)
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)
    assert not np.allclose(found, before, atol=1e-2)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.mark.slow
def test_a_program_moves_to_another_device_whole():
    """Onto "meta", which holds no values: one weight left on the CPU is an error of torch."""
    _, base = made(Separable, "mean_max")
    network, meta = base.encoder.network, torch.device("meta")
    rows = torch.zeros(2, *network.input_shape[1:], device=meta)
    assert network._module_on(meta)(rows).device == meta
    assert {value.device for value in network.program.state_dict.values()} == {torch.device("cpu")}
    adapter = adapter_of(base, ("pointwise", "linear"))
    start = adapter.initial(base.head_weight, base.head_bias)
    on_meta = {name: torch.tensor(value[None], device=meta) for name, value in start.items()}
    embeddings = torch.zeros(1, 3, *adapter.embedding_shape, device=meta)
    assert adapter.logits(on_meta, embeddings).device == meta


@pytest.mark.slow
@CUDA
def test_a_program_and_phones_behind_its_cut_agree_on_cuda_with_the_cpu():
    _, base = made(Separable, "mean_max")
    adapter = adapter_of(base, ("pointwise", "linear"))
    rng = np.random.default_rng(8)
    heard = 0.1 * rng.standard_normal((6, base.heard_samples)).astype(np.float32)
    clips = LocalDataset(adapter.encoder(base)(heard).numpy(), rng.integers(0, LABELS, 6))
    start = adapter.initial(base.head_weight, base.head_bias)

    def computed():
        trained = train_cohort(adapter, start, [clips], LocalTraining(batch_size=6), [rng])
        return base.encoder_output(heard).numpy(), trained[0].vector

    here = computed()
    with computing_on("cuda"):
        there = computed()
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())

"""One network as a module, a torch program and a .tflite file: the same features and decisions."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")
pytest.importorskip("torch.export.pt2_archive", reason="torch before 2.8 has no such archives")

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import Declared, ForeignEncoder
from fedspeech.models.exported.folder import assembled
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.models.pooling import Pooling
from tflite_export.evidence import Evidence, HeldOut, reference_logits
from tflite_export.foreign.aten import append_program
from tflite_export.foreign.family import ForeignFamily, whole_model
from tflite_export.foreign.graph import OperatorGraph
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import Trained

pytestmark = pytest.mark.export

SAMPLES, WORDS = 3_200, ("yes", "no", "up")


class Network(nn.Module):
    """Separable convolutions over samples, (n, 3200) to (n, 9, 12)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 16, 160, stride=80), nn.BatchNorm1d(16), nn.ReLU(inplace=True),
            nn.Conv1d(16, 16, 5, groups=16, stride=2), nn.Conv1d(16, 12, 1), nn.ReLU(),
            nn.MaxPool1d(2),
        )  # fmt: skip

    def forward(self, waveforms):
        return self.layers(waveforms[:, None]).transpose(1, 2)


def sounds(count, seed):
    """Tones of three pitches in noise: (n, 3200), and which pitch each has."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(WORDS), size=count)
    time = np.arange(SAMPLES) / 16_000
    tones = np.sin(2 * np.pi * 200 * 2 ** labels[:, None] * time + rng.uniform(0, 6, (count, 1)))
    return (0.3 * tones + 0.05 * rng.normal(size=tones.shape)).astype(np.float32), labels


@pytest.fixture(scope="module")
def trained_network():
    """The network and its head after enough steps to tell most tones apart."""
    torch.manual_seed(0)
    network, head = Network(), nn.Linear(24, len(WORDS) + 2)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=0.01)
    clips, labels = (torch.from_numpy(array) for array in sounds(256, 1))
    for _ in range(40):
        frames = network(clips)
        pooled = torch.cat([frames.mean(1), frames.amax(1)], 1)
        loss = nn.functional.cross_entropy(head(pooled), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((head(pooled).argmax(1) == labels).float().mean()) > 0.9
    return network.eval(), head


@pytest.fixture(scope="module")
def bases(trained_network):
    network, head = trained_network
    pt2 = Base.from_module(
        network, example=torch.zeros(1, SAMPLES), words=WORDS, license="MIT",
        head=(head.weight, head.bias),
    )  # fmt: skip
    graph = OperatorGraph()
    x = graph.input("x", (1, SAMPLES))
    y = append_program(graph, pt2.encoder.network.program, x, torch.zeros(1, SAMPLES))
    encoder = ForeignEncoder(
        content=graph.finish("whole", {"x": x}, {"y": y}),
        declared=Declared(file="tflite", clip_samples=SAMPLES),
    )
    arrays = {"head_weight": pt2.head_weight, "head_bias": pt2.head_bias}
    tflite = assembled(
        encoder=encoder, vocabulary=Vocabulary(WORDS), license="MIT", speakers=(), provenance={},
        head=arrays,
    )  # fmt: skip
    return {"pt2": pt2, "tflite": Base.of_parts(tflite)}


@pytest.mark.parametrize("kind", ["pt2", "tflite"])
def test_embeddings_and_decisions_are_those_of_the_module(bases, trained_network, kind):
    (network, head), base = trained_network, bases[kind]
    clips, _ = sounds(200, 2)
    with torch.inference_mode():
        frames = network(torch.from_numpy(clips))
        decided = head(torch.cat([frames.mean(1), frames.amax(1)], 1)).argmax(1)
    np.testing.assert_allclose(base.encoder(clips).numpy(), frames.numpy(), atol=1e-5)
    assert torch.equal(base.logits(base.encoder_output(clips)).argmax(1), decided)


def changed(base, adapter):
    """The base with an adapter whose values are not the initial ones."""
    rng = np.random.default_rng(3)
    lora = LoraSettings(rank=2, layers=("layers.0", "layers.4"))
    shape = AdapterShape.of(base, adapter, len(base.vocabulary.labels), lora)
    made = shape.build(shape.frozen(base))
    start = made.initial(base.head_weight, base.head_bias)
    values = {
        name: (value + 0.1 * rng.normal(size=value.shape)).astype(np.float32)
        for name, value in start.items()
    }
    return Trained(base=base, adapter=made, parameters=values)


@pytest.mark.parametrize(
    ("kind", "adapter"),
    [
        *((kind, name) for kind in ("pt2", "tflite") for name in ("head", "affine", "bottleneck")),
        ("pt2", "lora"),
    ],
)
def test_the_exported_file_is_the_trained_model(bases, kind, adapter):
    trained = changed(bases[kind], adapter)
    clips, labels = sounds(250, 4)
    people = HeldOut(source="tones", waveforms=clips, labels=labels, users=np.array(["a"] * 250))
    family = ForeignFamily(Evidence(trained, clips, people))
    checks = list(family.checks("float", TfliteModel(whole_model(trained))))
    assert len(checks) == 5
    assert family.logit_limit == pytest.approx(1e-4 * np.abs(family.evidence.logits).max())


def test_factors_are_merged_into_the_weights_of_the_file(bases):
    plain, trained = changed(bases["pt2"], "head"), changed(bases["pt2"], "lora")
    content = whole_model(trained)
    assert abs(len(content) - len(whole_model(plain))) < 500
    clips, labels = sounds(250, 4)
    people = HeldOut(source="tones", waveforms=clips, labels=labels, users=np.array(["a"] * 250))
    family = ForeignFamily(Evidence(changed(bases["pt2"], "head"), clips, people))
    with pytest.raises(ExportRefused, match="waveform logits, largest difference: at most"):
        list(family.checks("float", TfliteModel(content)))


@pytest.mark.parametrize(("kind", "adapter"), [("pt2", "lora"), ("tflite", "affine")])
def test_the_file_with_narrow_weights_answers_alike_in_fewer_bytes(kind, adapter, bases):
    trained = changed(bases[kind], adapter)
    clips, labels = sounds(250, 4)
    people = HeldOut(source="tones", waveforms=clips, labels=labels, users=np.array(["a"] * 250))
    family = ForeignFamily(Evidence(trained, clips, people))
    content, whole = whole_model(trained, narrow=True), whole_model(trained)
    # The one layer of 1,024 values and more: 16 x 160 in a byte each, and a scale for each output.
    assert 3 * 16 * 160 - 800 < len(whole) - len(content) < 3 * 16 * 160
    checks = list(family.checks("int8-weights", TfliteModel(content)))
    assert len(checks) == 4
    assert 1e-4 < checks[-1].figure < 0.05


def test_a_file_with_another_head_is_refused(bases):
    trained, other = (changed(bases["pt2"], name) for name in ("head", "affine"))
    clips, labels = sounds(250, 4)
    people = HeldOut(source="tones", waveforms=clips, labels=labels, users=np.array(["a"] * 250))
    family = ForeignFamily(Evidence(trained, clips, people))
    with pytest.raises(ExportRefused, match="waveform logits, largest difference: at most"):
        list(family.checks("float", TfliteModel(whole_model(other))))


def test_frames_without_pooling_and_with_a_projection(bases):
    rng = np.random.default_rng(5)
    base = bases["pt2"]
    pooling = Pooling(
        mean=rng.normal(size=24).astype(np.float32),
        matrix=rng.normal(size=(24, 7)).astype(np.float32),
    )
    for one, features in ((None, 12), (pooling, 7)):
        parts = {
            "encoder": base.encoder, "vocabulary": base.vocabulary, "provenance": {},
            "head_weight": rng.normal(size=(5, features)).astype(np.float32),
            "head_bias": rng.normal(size=5).astype(np.float32), "pooling": one,
        }  # fmt: skip
        trained = changed(Base(**parts), "affine")
        clips, _ = sounds(20, 6)
        found = TfliteModel(whole_model(trained)).run_each("waveform", clips)
        expected = reference_logits(trained, clips)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())

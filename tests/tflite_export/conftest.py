"""A small untrained base whose answers differ from clip to clip, and a file of one operator."""

import dataclasses

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.corpora.left_context import sounds_before
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.seeds import stream
from tflite_export.blueprint import Blueprint
from tflite_export.calibration import Calibration, synthetic_public
from tflite_export.card import Card, SegmentAccuracy
from tflite_export.converter import Converter
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.keywords import KEYWORDS, KeywordFamily
from tflite_export.weights import Trained, network

TARGETS = ("yes", "no", "up", "down")


SPEC = EncoderSpec(stem_channels=16, channels=(16, 24), strides=(2, 2), features=24)
HEARD_SAMPLES = SPEC.context_frames * 320 + 16_000


@pytest.fixture(scope="session")
def clips():
    """Sounds with the pitch, a formant, the pauses and the hiss of recorded words, (250, samples).

    Each follows its left context.
    """
    rng = stream(0, "export clips")
    seconds = np.arange(16_000) / 16_000
    sounds = []
    for _ in range(250):
        pitch_hz, formant_hz = rng.uniform(90, 260), rng.uniform(300, 3_000)
        harmonics = pitch_hz * np.arange(1, 10)
        strengths = np.exp(-(((harmonics - formant_hz) / 400) ** 2)) + 0.05
        voice = strengths @ np.sin(2 * np.pi * np.outer(harmonics, seconds))
        envelope = np.exp(-(((seconds - rng.uniform(0.3, 0.7)) / 0.15) ** 2))
        hiss = rng.standard_normal(16_000) * 10 ** rng.uniform(-2.5, -1)
        sounds.append((envelope * voice + hiss) * rng.uniform(0.02, 0.2))
    before = sounds_before(HEARD_SAMPLES - 16_000)
    contexts = before[rng.integers(len(before), size=len(sounds))]
    return np.concatenate([contexts, np.stack(sounds).astype(np.float32)], axis=1)


def make_base(clips, seed=0):
    """An untrained encoder with lived-in BatchNorm statistics and a head that tells clips apart."""
    labels = len(TARGETS) + 2
    spec = SPEC
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        encoder = KwsEncoder(spec)
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        log_mel = LogMel(FrontendSpec())(torch.from_numpy(clips))
        mean, std = log_mel.mean((0, 1)).numpy(), log_mel.std((0, 1)).numpy()
        pooled = torch.relu(encoder.eval()((log_mel - mean) / std)).mean(1).numpy()
    rng = stream(seed, "export base")
    weight = rng.standard_normal((labels, spec.features))
    weight /= (pooled @ weight.T).std(0)[:, None]
    return Base(
        encoder=BuiltInEncoder(
            network=encoder,
            frontend=FrontendSpec(),
            feature_mean=mean,
            feature_std=std,
        ),
        vocabulary=Vocabulary(TARGETS),
        head_weight=weight.astype(np.float32),
        head_bias=-(weight @ pooled.mean(0)).astype(np.float32),
        provenance={"command": "made for a test", "seed": seed},
    )


@pytest.fixture(scope="session")
def base(clips):
    return make_base(clips)


@pytest.fixture(scope="session")
def foreign_base(clips):
    return make_base(clips, seed=1)


def moved_adapter(base, kind):
    """A trained model whose adapter has moved away from the base's own head."""
    shape = AdapterShape.of(base, kind, len(base.vocabulary.labels))
    adapter = shape.build(shape.frozen(base))
    rng = stream(0, "export adapter", kind)
    parameters = {
        name: value + rng.normal(0, 0.01, value.shape).astype(np.float32)
        for name, value in adapter.initial(base.head_weight, base.head_bias).items()
    }
    return Trained(base=base, adapter=adapter, parameters=parameters)


@pytest.fixture(scope="session")
def make_trained(base):
    """Kind of adapter -> a trained model on the small base."""
    return lambda kind: moved_adapter(base, kind)


@pytest.fixture(scope="session")
def personal_file(make_trained):
    """Kind of adapter -> the trained model and the bytes of its personal file, 8 clips a step."""
    made = {}

    def make(kind):
        if kind not in made:
            trained = make_trained(kind)
            blueprint = Blueprint(
                graph="personal",
                network=network(trained),
                base_sha256=trained.base.sha256,
                batch_clips=8,
            )
            with Converter() as converter:
                made[kind] = trained, converter.convert(blueprint)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def make_moved():
    return moved_adapter


@pytest.fixture(scope="session")
def shipped():
    """The base that ships with a head that has moved: what negative controls must be refused on."""
    return moved_adapter(Base.load(default_base_path()), "head")


@pytest.fixture(scope="session")
def people(shipped):
    """Speakers that the shipped base has never heard, of its own accent: 12 of them."""
    targets = shipped.base.vocabulary.targets
    return SyntheticCorpus(pretraining_spec(targets, seed=77, num_public=12))


@pytest.fixture(scope="session")
def evidence(shipped, people):
    clips = people.utterances[::2]
    sounds = shipped.base.heard(people, clips)
    held_out = HeldOut(
        source="people for a test",
        waveforms=sounds,
        labels=np.array([shipped.base.vocabulary.label(clip.word) for clip in clips]),
        users=np.array([clip.speaker_id for clip in clips]),
    )
    return Evidence(shipped, sounds[:250], held_out)


@pytest.fixture(scope="session")
def calibration(shipped):
    return Calibration.of(shipped.base, synthetic_public(shipped.base))


@pytest.fixture(scope="session")
def keywords(evidence, calibration):
    """Files of the shipped base with a moved head."""
    return KeywordFamily(evidence, lambda: calibration)


@pytest.fixture(scope="session")
def make_card():
    def make(trained, *, task=KEYWORDS, noise_notice="repeatable noise", phone=None, **privacy):
        guarantee = Guarantee(
            epsilon_release=0.94,
            epsilon_server=5.3,
            delta=1e-5,
            unit="phone",
            relation_release="add/remove",
            relation_server="zero-out",
            amplified=True,
            accountant="RDP of sums of discrete Gaussians",
            rounds=40,
            max_participations=15,
            trust="half of every cohort is honest",
            failure_probability=1e-8,
            mechanism="distributed",
            secure_aggregation="ideal",
            threat_model="malicious",
            reason="",
        )
        row = SegmentAccuracy(
            segment="accent", value="coastal", phones=30, accuracy={"base": 0.5, "federated": 0.625}
        )
        return Card.of(
            trained,
            task=task,
            privacy=dataclasses.replace(guarantee, **privacy),
            noise_notice=noise_notice,
            metrics=(row,),
            metrics_visibility="simulation_only",
            data_licenses={"embedded": "Apache-2.0"},
            phone=phone,
        )

    return make


@pytest.fixture(scope="session")
def make_file():
    """Builds a .tflite file without TensorFlow: y = relu(x + (0, 1, 2, 3)), x of shape (1, 4)."""

    def make(custom_operator=None):
        def tensor(name, buffer):
            return schema.TensorT(
                name=name, shape=[1, 4], type=schema.TensorType.FLOAT32, buffer=buffer
            )

        constant = np.arange(4, dtype="<f4").view(np.uint8)
        add = schema.OperatorT(
            opcodeIndex=0,
            inputs=[0, 1],
            outputs=[2],
            builtinOptionsType=schema.BuiltinOptions.AddOptions,
            builtinOptions=schema.AddOptionsT(),
        )
        relu = schema.OperatorT(opcodeIndex=1, inputs=[2], outputs=[3])
        graph = schema.SubGraphT(
            tensors=[tensor("x", 0), tensor("c", 1), tensor("s", 0), tensor("y", 0)],
            inputs=[0],
            outputs=[3],
            operators=[add, relu],
        )
        codes = [schema.BuiltinOperator.ADD, schema.BuiltinOperator.RELU]
        model = schema.ModelT(
            version=3,
            operatorCodes=[
                schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
                for code in codes
            ],
            subgraphs=[graph],
            buffers=[schema.BufferT(), schema.BufferT(data=constant)],
            signatureDefs=[
                schema.SignatureDefT(
                    inputs=[schema.TensorMapT(name="x", tensorIndex=0)],
                    outputs=[schema.TensorMapT(name="y", tensorIndex=3)],
                    signatureKey="add",
                )
            ],
        )
        if custom_operator is not None:
            code = model.operatorCodes[1]
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = custom_operator
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    return make

"""A base survives its file, and no damaged or foreign file becomes a base."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from safetensors import numpy as safetensors_numpy

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.models.base import Base
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder
from fedspeech.models.pooling import Pooling

SPEC = EncoderSpec(stem_channels=4, channels=(4, 6), strides=(2, 2), kernel=3, features=5)


@pytest.fixture
def base():
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    return Base(
        encoder=BuiltInEncoder(
            network=KwsEncoder(SPEC),
            frontend=FrontendSpec(),
            feature_mean=rng.normal(size=40).astype(np.float32),
            feature_std=rng.uniform(1, 2, size=40).astype(np.float32),
        ),
        vocabulary=Vocabulary(("yes", "no")),
        head_weight=rng.normal(size=(4, 5)).astype(np.float32),
        head_bias=rng.normal(size=4).astype(np.float32),
        provenance={"command": "made in a test", "seed": 1, "accuracy": 0.5},
        speakers=("anna", "ben"),
    )


@pytest.fixture
def waveforms(base):
    rng = np.random.default_rng(2)
    return (0.1 * rng.standard_normal((3, base.heard_samples))).astype(np.float32)


def test_a_loaded_base_computes_the_same_bits(base, waveforms, tmp_path):
    base.save(tmp_path / "base.safetensors")
    loaded = Base.load(tmp_path / "base.safetensors", sha256=base.sha256)
    assert torch.equal(loaded.encoder_output(waveforms), base.encoder_output(waveforms))
    assert loaded.sha256 == base.sha256
    assert loaded.vocabulary == base.vocabulary
    assert loaded.built_in.frontend == base.built_in.frontend
    assert loaded.built_in.spec == base.built_in.spec
    assert loaded.provenance == base.provenance
    assert loaded.speakers == base.speakers
    np.testing.assert_array_equal(loaded.head_weight, base.head_weight)


def test_the_hash_is_that_of_the_file_and_repeats(base, tmp_path):
    base.save(tmp_path / "base.safetensors")
    data = (tmp_path / "base.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == base.sha256
    assert all(base.to_bytes() == data for _ in range(5))
    assert list(tmp_path.iterdir()) == [tmp_path / "base.safetensors"]  # nothing left behind


def test_features_are_standardized_by_the_constants_alone(base, waveforms):
    # Evaluation statistics have no way in: a clip's features do not depend on its company.
    alone = base.built_in.features(waveforms[:1])
    loud_company = np.concatenate([waveforms[:1], 9 * waveforms[1:]])
    torch.testing.assert_close(base.built_in.features(loud_company)[:1], alone, rtol=0, atol=1e-5)
    mean = base.built_in.feature_mean + 1
    shifted = dataclasses.replace(
        base, encoder=dataclasses.replace(base.built_in, feature_mean=mean)
    )
    expected = alone - torch.from_numpy(1 / base.built_in.feature_std)
    torch.testing.assert_close(
        shifted.built_in.features(waveforms[:1]), expected, rtol=0, atol=1e-5
    )


def test_encoder_is_frozen_with_fixed_statistics(base, waveforms):
    before = base.encoder_output(waveforms)
    base.encoder_output(5 * waveforms)
    assert torch.equal(base.encoder_output(waveforms), before)
    assert not base.built_in.network.training
    assert not any(parameter.requires_grad for parameter in base.built_in.network.parameters())


def test_logits_are_those_of_the_head(base, waveforms):
    output = base.encoder_output(waveforms)
    pooled = np.maximum(output.numpy(), 0).mean(axis=1)
    np.testing.assert_allclose(
        base.logits(output), pooled @ base.head_weight.T + base.head_bias, rtol=1e-5, atol=1e-5
    )


def test_a_clips_windows_do_not_depend_on_what_came_before_its_left_context(base, waveforms):
    frames, stride = SPEC.context_frames, SPEC.stride
    assert SPEC.receptive_frames - 1 <= frames < SPEC.receptive_frames - 1 + stride
    whole = base.built_in.network(base.built_in.features(waveforms))[:, -base.num_windows :]
    longer = np.concatenate([np.ones((3, 4 * 320), np.float32), waveforms], axis=1)
    again = base.built_in.network(base.built_in.features(longer))[:, -base.num_windows :]
    torch.testing.assert_close(again, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(base.encoder_output(waveforms), whole, rtol=0, atol=0)
    late = base.built_in.network(base.built_in.features(waveforms[:, stride * 320 :]))[
        :, -base.num_windows :
    ]
    assert not torch.allclose(late, whole, rtol=0, atol=1e-5), "with less of it, they do"


def test_a_clip_without_its_left_context_is_refused(base, waveforms):
    with pytest.raises(ValueError, match="heard after its left context, 22400 samples"):
        base.encoder_output(waveforms[:, -16_000:])


def test_every_hop_of_a_stream_is_scored_as_the_clip_that_ends_with_it(base, waveforms):
    hop, overlap = 320, 512 - 320
    sound = waveforms.ravel()
    found = base.listening_output(sound)
    assert found.shape == (len(sound) // hop, base.num_windows, SPEC.features)
    for last in (0, 3, 50, 51, len(found) - 1):
        # The last hop ends the window of the clip's last frame: 128 samples of the clip follow it.
        end = (last + 1) * hop
        heard = np.concatenate([np.zeros(base.heard_samples, np.float32), sound[:end]])
        heard = np.pad(heard, (0, 16_000 - 48 * hop - hop - overlap))[-base.heard_samples :]
        expected = base.encoder_output(heard[np.newaxis])[0]
        torch.testing.assert_close(found[last], expected, rtol=1e-4, atol=1e-4)


def test_a_wrong_hash_is_refused(base, tmp_path):
    base.save(tmp_path / "base.safetensors")
    with pytest.raises(ValueError, match="must have SHA-256"):
        Base.load(tmp_path / "base.safetensors", sha256="0" * 64)


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^there is no base at .*nothing$"):
        Base.load(tmp_path / "nothing")


def test_damaged_and_foreign_files_are_refused_by_name(base, tmp_path):
    data = base.to_bytes()
    foreign = safetensors_numpy.save({"x": np.zeros(3, np.float32)})
    old = data.replace(b'\\"format\\": 2', b'\\"format\\": 9')
    lost = safetensors_numpy.save(
        base.built_in.tensors() | {"head_weight": base.head_weight},
        metadata={"fedspeech_base": old_metadata(data)},
    )
    for name, wrong in {
        "cut": data[:-5],
        "text": b"hello",
        "empty": b"",
        "foreign": foreign,
        "old": old,
        "lost": lost,
    }.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors: .*(base|arrays)"):
            Base.load(path)


def old_metadata(data: bytes) -> str:
    import json

    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]["fedspeech_base"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_mean": np.zeros(39, np.float32)}, "feature_mean must be float32 of shape"),
        ({"head_weight": np.zeros((4, 5))}, "head_weight must be float32"),
        ({"head_bias": np.full(4, np.nan, np.float32)}, "head_bias has one that is not"),
        ({"feature_std": np.zeros(40, np.float32)}, "feature_std must be positive"),
        ({"vocabulary": Vocabulary(("yes", "no", "up"))}, "head_weight must be"),
        ({"frontend": FrontendSpec(num_mels=20)}, "features, the front end"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(base, change, message):
    owner = base if hasattr(base, next(iter(change))) else base.built_in
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(owner, **change)


def test_a_pooled_base_is_scored_on_one_vector_of_mean_and_maximum(base, waveforms):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(10, 3)).astype(np.float32)
    pooling = Pooling(mean=rng.normal(size=10).astype(np.float32), matrix=matrix)
    weight = rng.normal(size=(4, 3)).astype(np.float32)
    pooled = dataclasses.replace(base, pooling=pooling, head_weight=weight)
    frames = base.encoder_output(waveforms).numpy()
    both = np.concatenate([frames.mean(axis=1), frames.max(axis=1)], axis=1)
    found = pooled.encoder_output(waveforms)
    assert found.shape == (3, pooled.num_windows, pooled.num_features) == (3, 1, 3)
    np.testing.assert_allclose(found[:, 0], (both - pooling.mean) @ matrix, atol=1e-5)
    with pytest.raises(ValueError, match=r"pooling_mean must be float32 of shape \(10,\)"):
        dataclasses.replace(base, pooling=Pooling.identity(6), head_weight=np.zeros((4, 12), "f4"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04 torch.save writes zip archives", "pickles are not read"),
        (b"\xff" * 64, "no safetensors file"),
        (b"", "no safetensors file"),
        (safetensors_numpy.save({"weight": np.zeros(3, np.float32)}), "no entry 'fedspeech_base'"),
    ],
)
def test_files_of_others_are_refused_in_words(tmp_path, data, words):
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(ValueError, match=rf"other: not a fedspeech base: .*{words}"):
        Base.load(tmp_path / "other")

"""What one process writes, another reads without torch, bit for bit."""

import dataclasses

import numpy as np
import pytest

from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, sentence_base_path
from tflite_export.blueprint import Blueprint
from tflite_export.weights import Trained, network


def sentences():
    base = Base.load(sentence_base_path())
    features, labels = base.built_in.spec.features, len(base.vocabulary.labels)
    adapter = make_adapter("frame_affine", base.num_windows, features, labels)
    parameters = adapter.initial(base.head_weight, base.head_bias)
    return Trained(base=base, adapter=adapter, parameters=parameters)


def require_equal(found, expected):
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            require_equal(found[name], expected[name])
    elif isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            require_equal(one, other)
    elif dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            require_equal(getattr(found, field.name), getattr(expected, field.name))
    else:
        assert type(found) is type(expected)
        assert found == expected


@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck", "sentences"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_blueprint_comes_back_as_it_was_written(make_trained, tmp_path, kind, merged):
    arrays = network(sentences() if kind == "sentences" else make_trained(kind))
    written = Blueprint(
        graph="keyword",
        network=arrays.merged() if merged else arrays,
        precision="int8",
        ranges={"stem": (0.0, 1 / 3), "block0.first": (-1e-7, 2.5)},
        base_sha256="ab" * 32,
        batch_clips=8,
    )
    written.save(tmp_path / "blueprint")
    require_equal(Blueprint.load(tmp_path / "blueprint"), written)


def test_what_is_not_given_stays_so(make_trained, tmp_path):
    Blueprint(graph="streaming", network=network(make_trained("head"))).save(tmp_path / "b")
    found = Blueprint.load(tmp_path / "b")
    assert found.ranges is None
    assert found.network.offset is None
    assert found.network.cosines is None

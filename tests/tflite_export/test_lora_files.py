"""Factors inside the encoder leave in the weights of the files, which equal the model."""

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export.converter import Converter
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.keywords import KeywordFamily
from tflite_export.verification import verify_content
from tflite_export.weights import network


@pytest.fixture(scope="module")
def family(make_trained, clips):
    trained = make_trained("lora")
    labels = np.zeros(40, dtype=np.int64)
    held_out = HeldOut(
        source="noise", waveforms=clips[:40], labels=labels, users=labels.astype(str)
    )
    return KeywordFamily(Evidence(trained, clips, held_out))


def test_the_files_have_no_layer_more_than_the_base(family, base):
    found, plain = family._merged.encoder, base.built_in.network.folded()
    assert found.blocks[1].first.weight.shape == plain.blocks[1].first.weight.shape
    assert (found.blocks[1].first.weight != plain.blocks[1].first.weight).any()
    np.testing.assert_array_equal(found.stem.weight, plain.stem.weight)
    assert network(family.trained).adapter.name == "head"
    assert family.trained.num_parameters == base.built_in.network.num_parameters + 24 * 6 + 6


@pytest.mark.parametrize("kind", ["personal", "adapter"])
def test_what_would_train_on_the_phone_is_refused(family, kind):
    with pytest.raises(ExportRefused, match=r"adapter lora: .* no derivatives of convolutions"):
        family.make(kind, None, None)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["float", "streaming"])
def test_files_equal_the_model_that_runs_with_factors(family, make_card, kind):
    with Converter() as converter:
        content = family.make(kind, make_card(family.trained), converter)
    verify_content(content, family.files[kind], family)

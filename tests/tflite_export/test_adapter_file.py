import hashlib

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from fedspeech.errors import ExportRefused
from fedspeech.rollout.adapter_file import checksum, hash_words
from tflite_export.adapter_file import read_adapter, write_adapter


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
def test_adapter_base_and_card_read_back(make_trained, make_card, kind):
    trained = make_trained(kind)
    card = make_card(trained).inside("adapter")
    content = write_adapter(trained, card)
    found = read_adapter(content)
    np.testing.assert_array_equal(found.adapter, trained.adapter.spec.flatten(trained.parameters))
    np.testing.assert_array_equal(found.base, hash_words(trained.base.sha256))
    assert found.card == card.to_json()
    assert len(content) < 4 * trained.adapter.spec.size + 8_000


def test_the_cards_hash_of_the_adapter_is_that_of_the_written_values(make_trained, make_card):
    trained = make_trained("affine")
    content = write_adapter(trained, make_card(trained).inside("adapter"))
    values = safetensors_numpy.load(content)["adapter"].astype("<f4").tobytes()
    stated = read_adapter(content).card["adapter"]["sha256"]
    assert stated == hashlib.sha256(values).hexdigest()


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_torn_file_is_refused(make_trained, make_card, cut):
    trained = make_trained("head")
    with pytest.raises(ExportRefused, match="not an exported adapter"):
        read_adapter(write_adapter(trained, make_card(trained))[:cut])


def test_arrays_of_other_types_or_without_a_card_are_refused():
    metadata = {"fedspeech_card.json": "{}"}
    zeros = np.zeros(3, np.float32)
    whole = {"adapter": zeros, "base": np.zeros(8, np.int32), "checksum": checksum(zeros)}
    read_adapter(safetensors_numpy.save(whole, metadata=metadata))
    for change, rule in (
        ({"adapter": np.zeros((3, 1), np.float32)}, "flat float32"),
        ({"adapter": np.zeros(3, np.int8)}, "flat float32"),
        ({"base": np.zeros(7, np.int32)}, "eight int32"),
        ({"base": np.zeros(8, np.int64)}, "eight int32"),
    ):
        with pytest.raises(ExportRefused, match=rule):
            read_adapter(safetensors_numpy.save(whole | change, metadata=metadata))
    with pytest.raises(ExportRefused, match="not an exported adapter"):
        read_adapter(safetensors_numpy.save(whole))


def test_a_file_with_one_flipped_bit_in_its_values_is_refused(make_trained, make_card):
    trained = make_trained("affine")
    content = bytearray(write_adapter(trained, make_card(trained).inside("adapter")))
    values = trained.adapter.spec.flatten(trained.parameters).tobytes()
    start = content.index(values)
    for bit in range(0, 8 * len(values), 37):
        content[start + bit // 8] ^= 1 << bit % 8
        with pytest.raises(ExportRefused, match="the file was changed"):
            read_adapter(bytes(content))
        content[start + bit // 8] ^= 1 << bit % 8
    read_adapter(bytes(content))

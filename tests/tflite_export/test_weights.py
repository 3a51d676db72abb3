import dataclasses

import numpy as np
import pytest
import torch

from fedspeech.audio.frontend import mel_matrix
from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.adapters import HeadAdapter, make_adapter
from fedspeech.models.folded import FoldedConv
from fedspeech.rollout.adapter_file import checksum, hash_words
from fedspeech.seeds import stream
from tflite_export.arrays import convolution_steps, kernel, run_encoder
from tflite_export.evidence import reference_logits
from tflite_export.weights import Trained, network, sparse_filters


def test_the_kernel_keeps_taps_in_order_and_moves_channels_last():
    rng = stream(0, "kernel")
    weight, x = rng.standard_normal((3, 2, 5)), rng.standard_normal((11, 2))
    conv = FoldedConv(weight.astype(np.float32), np.zeros(3, np.float32), stride=1)
    # TensorFlow: y[t, o] = sum over k, i of x[t + k, i] kernel[k, 0, i, o]
    found = [np.einsum("ki,kio->o", x[t : t + 5], kernel(conv)[:, 0]) for t in range(7)]
    expected = torch.nn.functional.conv1d(torch.tensor(x.T)[None], torch.tensor(weight))[0].T
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def changed(trained, **parameters):
    return dataclasses.replace(trained, parameters={**trained.parameters, **parameters})


def test_arrays_of_base_and_adapter_arrive_unchanged(make_trained):
    trained = make_trained("affine")
    arrays = network(trained)
    np.testing.assert_array_equal(arrays.feature_std, trained.base.built_in.feature_std)
    np.testing.assert_array_equal(arrays.parameters["shift"], trained.parameters["shift"])
    assert arrays.window.sum() == pytest.approx(1)


def test_sparse_filters_give_the_sums_of_the_whole_matrix():
    filters = mel_matrix(FrontendSpec())
    power = stream(0, "power").random((5, 257)).astype(np.float32)
    bins, weights = sparse_filters(filters)
    np.testing.assert_allclose((power[:, bins] * weights).sum(axis=2), power @ filters, rtol=1e-5)
    assert bins.nbytes + weights.nbytes < filters.nbytes / 3


@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck", "lora"])
def test_merging_leaves_the_function_as_it_was(make_trained, clips, kind):
    trained = make_trained(kind)
    merged = network(trained).merged()
    assert merged.adapter.name == ("bottleneck" if kind == "bottleneck" else "head")
    features = trained.base.built_in.features(clips[:8])
    output = run_encoder(
        merged.encoder, features.transpose(1, 2), convolve=by_torch, relu=torch.relu,
        note=lambda name, x: x,
    )  # fmt: skip
    adapter = make_adapter(merged.adapter.name, 13, 24, 6)
    assert adapter.spec == merged.adapter.spec
    embeddings = adapter.embed(output.transpose(1, 2)[:, -13:])
    parameters = {name: torch.tensor(value)[None] for name, value in merged.parameters.items()}
    found = adapter.logits(parameters, embeddings[None])[0].numpy()
    np.testing.assert_allclose(found, reference_logits(trained, clips[:8]), atol=5e-5)


def by_torch(name, conv, x):
    padded = torch.nn.functional.pad(x, (conv.left_padding, 0))
    weight, bias = torch.from_numpy(conv.weight), torch.from_numpy(conv.bias)
    return torch.nn.functional.conv1d(padded, weight, bias, stride=conv.stride)


def test_steps_between_inputs_are_the_strides_before_them(base):
    steps = {name: step for name, _, step in convolution_steps(base.built_in.network.folded())}
    assert steps == {
        "stem": 1, "block0.shortcut": 1, "block0.first": 1, "block0.second": 2,
        "block1.shortcut": 2, "block1.first": 2, "block1.second": 4, "output": 4,
    }  # fmt: skip


def test_parameters_that_do_not_fit_are_refused(make_trained):
    trained = make_trained("affine")
    with pytest.raises(ValueError, match="expected parameters"):
        network(dataclasses.replace(trained, parameters={"scale": trained.parameters["scale"]}))
    with pytest.raises(ValueError, match="expected shift of shape"):
        network(changed(trained, shift=trained.parameters["shift"][1:]))
    broken = trained.parameters["shift"].copy()
    broken[0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in shift"):
        network(changed(trained, shift=broken))


def test_an_adapter_for_another_vocabulary_is_refused(base):
    adapter = HeadAdapter(num_features=24, num_labels=9)
    parameters = {
        "head_weight": np.zeros((9, 24), np.float32),
        "head_bias": np.zeros(9, np.float32),
    }
    with pytest.raises(ValueError, match="9 outputs and 6 labels"):
        network(Trained(base=base, adapter=adapter, parameters=parameters))


def test_a_hash_becomes_eight_words_that_tell_hashes_apart():
    words = hash_words("00000001" + "ffffffff" + "0" * 48)
    assert words.dtype == np.int32
    assert words.tolist() == [1, -1, 0, 0, 0, 0, 0, 0]


def test_a_checksum_tells_flipped_bits_and_values_that_changed_places():
    adapter = stream(0, "checksum").standard_normal(300).astype(np.float32)
    before = checksum(adapter)
    assert (before.shape, before.dtype) == ((1,), np.int32)
    for bit in range(32):
        changed = adapter.copy()
        changed.view(np.uint32)[7 * bit] ^= np.uint32(1 << bit)
        assert checksum(changed) != before
    exchanged = adapter.copy()
    exchanged[[3, 200]] = adapter[[200, 3]]
    assert checksum(exchanged) != before
    assert checksum(adapter[:-1]) != before

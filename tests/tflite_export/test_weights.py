import numpy as np
import pytest
import torch

from fedspeech.models.adapters import HeadAdapter
from fedspeech.models.kws import FoldedConv
from fedspeech.seeds import stream
from tflite_export.weights import kernel, network


def test_the_kernel_keeps_taps_in_order_and_moves_channels_last():
    rng = stream(0, "kernel")
    weight, x = rng.standard_normal((3, 2, 5)), rng.standard_normal((11, 2))
    conv = FoldedConv(weight.astype(np.float32), np.zeros(3, np.float32), stride=1)
    # TensorFlow: y[t, o] = sum over k, i of x[t + k, i] kernel[k, 0, i, o]
    found = [np.einsum("ki,kio->o", x[t : t + 5], kernel(conv)[:, 0]) for t in range(7)]
    expected = torch.nn.functional.conv1d(torch.tensor(x.T)[None], torch.tensor(weight))[0].T
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_arrays_of_base_and_adapter_arrive_unchanged(base, make_adapted):
    adapter, parameters = make_adapted("affine")
    arrays = network(base, adapter, parameters)
    np.testing.assert_array_equal(arrays.feature_std, base.feature_std)
    np.testing.assert_array_equal(arrays.parameters["shift"], parameters["shift"])
    assert arrays.window.sum() == pytest.approx(1)
    assert arrays.filters.shape == (257, 40)


def test_parameters_that_do_not_fit_are_refused(base, make_adapted):
    adapter, parameters = make_adapted("affine")
    with pytest.raises(ValueError, match="expected parameters"):
        network(base, adapter, {"scale": parameters["scale"]})
    with pytest.raises(ValueError, match="expected shift of shape"):
        network(base, adapter, parameters | {"shift": parameters["shift"][1:]})
    broken = parameters["shift"].copy()
    broken[0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in shift"):
        network(base, adapter, parameters | {"shift": broken})


def test_an_adapter_for_another_vocabulary_is_refused(base):
    adapter = HeadAdapter(num_features=24, num_labels=9)
    parameters = {
        "head_weight": np.zeros((9, 24), np.float32),
        "head_bias": np.zeros(9, np.float32),
    }
    with pytest.raises(ValueError, match="9 outputs and 6 labels"):
        network(base, adapter, parameters)

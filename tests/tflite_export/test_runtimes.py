"""Signatures that the runtime's own Python runs and a phone's wrapper does not."""

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export.interpreter import Signature, TensorSpec
from tflite_export.verification import require_callable

ONE = {"x": TensorSpec((1,), np.dtype(np.float32))}


@pytest.mark.parametrize(
    ("inputs", "outputs", "rule"),
    [
        ({}, ONE, "none without an input"),
        (ONE, {}, "none without an output"),
        (ONE, {"y": TensorSpec((), np.dtype(np.float32))}, "at least one dimension"),
        ({"y": TensorSpec((0,), np.dtype(np.float32))}, ONE, "none of them empty"),
        ({"y": TensorSpec((1,), np.dtype(np.complex64))}, ONE, "must be of type float32 or int32"),
    ],
)
def test_what_an_app_cannot_call_is_refused(inputs, outputs, rule):
    with pytest.raises(ExportRefused, match=f"signature act.*{rule}"):
        require_callable({"act": Signature(inputs, outputs)})


def test_what_an_app_can_call_passes():
    require_callable({"act": Signature(ONE, ONE | {"n": TensorSpec((1, 2), np.dtype(np.int32))})})

import os

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export import interpreter
from tflite_export.files import read_file
from tflite_export.interpreter import TensorSpec, TfliteModel

X = np.array([[-1, -1, -1, -1]], dtype=np.float32)


@pytest.fixture
def model(make_file):
    return TfliteModel(make_file())


def test_a_signature_says_what_it_takes_and_computes_it(model):
    assert model.signatures["add"].inputs == {"x": TensorSpec((1, 4), np.dtype(np.float32))}
    np.testing.assert_array_equal(model.run("add", x=X)["y"], [[0, 0, 1, 2]])


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (4,), (1, 1, 4)])
def test_a_wrong_shape_is_refused_and_does_not_resize_the_graph(model, shape):
    with pytest.raises(ValueError, match=r"x of shape \(1, 4\) and type float32"):
        model.run("add", x=np.zeros(shape, dtype=np.float32))
    np.testing.assert_array_equal(model.run("add", x=X)["y"], [[0, 0, 1, 2]])


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.int32])
def test_a_wrong_element_type_is_refused(model, dtype):
    with pytest.raises(ValueError, match="type float32, got"):
        model.run("add", x=X.astype(dtype))


def test_wrong_names_are_refused(model):
    with pytest.raises(ValueError, match=r"signatures \['add'\], got 'multiply'"):
        model.run("multiply", x=X)
    with pytest.raises(ValueError, match=r"inputs \['x'\], got \['z'\]"):
        model.run("add", z=X)
    with pytest.raises(ValueError, match=r"inputs \['x'\], got \[\]"):
        model.run("add")
    with pytest.raises(ValueError, match="got 'multiply'"):
        model.run_each("multiply", X)


def test_running_each_row_equals_running_them_one_by_one(model):
    batch = np.arange(12, dtype=np.float32).reshape(3, 4) - 6
    expected = np.maximum(batch + np.arange(4), 0)
    np.testing.assert_array_equal(model.run_each("add", batch), expected)


def test_a_truncated_file_is_refused_wherever_it_was_cut(make_file):
    whole = make_file()
    for size in (*range(0, len(whole) - 16, 16), len(whole) - 16):
        with pytest.raises(ExportRefused, match=f"of {size} bytes"):
            TfliteModel(whole[:size])


def test_what_is_no_model_is_refused(tmp_path):
    file = tmp_path / "model.tflite"
    with pytest.raises(ExportRefused, match="cannot read"):
        TfliteModel(read_file(file))
    file.write_bytes(b"RIFF" * 100)
    with pytest.raises(ExportRefused, match="LiteRT cannot read"):
        TfliteModel(read_file(file))


def test_an_operator_that_the_runtime_lacks_is_refused(make_file):
    with pytest.raises(ExportRefused, match="FlexErf"):
        TfliteModel(make_file(custom_operator="FlexErf"))


def test_loading_prints_no_banner_and_swallows_nothing_else(make_file, capfd, monkeypatch):
    class Loud(interpreter.Interpreter):
        def __init__(self, **options):
            os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
            os.write(2, b"WARNING: something real\n")
            super().__init__(**options)

    monkeypatch.setattr(interpreter, "Interpreter", Loud)
    TfliteModel(make_file())
    assert capfd.readouterr().err == "WARNING: something real\n"

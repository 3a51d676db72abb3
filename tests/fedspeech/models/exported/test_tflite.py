import numpy as np
import pytest
import tflite_files
import torch

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")

from ai_edge_litert import schema_py_generated as schema

from fedspeech.models.exported.tflite import TfliteNetwork, check_tflite

WEIGHT, BIAS = np.eye(2, 3, dtype=np.float32), np.ones(2, dtype=np.float32)


def test_a_file_is_run_row_by_row():
    network = TfliteNetwork(tflite_files.dense(WEIGHT, BIAS))
    rows = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert network(rows).tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert network(rows[1:]).tolist() == [[5.0, 6.0]]


def test_an_input_of_another_shape_is_refused():
    network = TfliteNetwork(tflite_files.dense(WEIGHT, BIAS))
    with pytest.raises(ValueError, match=r"takes \(1, 3\), and not \(1, 4\)|takes"):
        network(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"takes \('n', 3\), got \('n', 3, 2\)"):
        network(torch.zeros(2, 3, 2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"custom": "FlexRelu"}, "builtin operators only, got custom:FlexRelu"),
        ({"code": schema.BuiltinOperator.VAR_HANDLE}, "keep no state between calls.*VAR_HANDLE"),
        ({"code": schema.BuiltinOperator.RANDOM_UNIFORM}, "no random numbers.*RANDOM_UNIFORM"),
        ({"variable": True}, "1 variable tensors"),
    ],
)
def test_a_file_that_is_no_pure_network_is_refused_by_operator(changes, said):
    with pytest.raises(ValueError, match=said):
        check_tflite(tflite_files.dense(WEIGHT, BIAS, **changes))


@pytest.mark.parametrize("kept", [0, 7, 12, 60, 200, -1, -40])
def test_a_truncated_file_is_refused(kept):
    content = tflite_files.dense(WEIGHT, BIAS)
    with pytest.raises(ValueError, match=r"begins with TFL3|not a whole|cannot read"):
        TfliteNetwork(content[:kept])


def test_any_other_bytes_are_refused():
    with pytest.raises(ValueError, match="begins with TFL3 at byte 4"):
        check_tflite(b"PK\x03\x04" + bytes(100))

"""Graphs that are put together by hand compute what they say, and take over other graphs whole."""

import numpy as np
import pytest
import tflite_files

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")

from tflite_export.foreign.graph import OperatorGraph
from tflite_export.interpreter import TfliteModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 4, 3)).astype(np.float32)


def ran(build):
    """What a graph that `build` appends to x answers."""
    graph = OperatorGraph()
    x = graph.input("x", X.shape)
    y = build(graph, x)
    answer = TfliteModel(graph.finish("whole", {"x": x}, {"y": y})).run("whole", x=X)["y"]
    assert answer.shape == graph.shape(y)
    return answer


def test_a_layer():
    weight, bias = RNG.normal(size=(2, 3)), RNG.normal(size=2)
    found = ran(lambda graph, x: graph.dense(x, weight, bias))
    np.testing.assert_allclose(found, X @ weight.T + bias, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("MEAN", X.mean(1, keepdims=True)), ("REDUCE_MAX", X.max(1, keepdims=True))],
)
def test_a_reduction_keeps_its_axis(name, expected):
    np.testing.assert_allclose(ran(lambda graph, x: graph.reduce(name, x, (1,))), expected, 1e-6)


def test_axes_change_places_and_shapes():
    found = ran(lambda graph, x: graph.reshape(graph.transpose(x, (0, 2, 1)), (1, 12)))
    np.testing.assert_array_equal(found, X.transpose(0, 2, 1).reshape(1, 12))


def test_a_whole_file_is_taken_over_between_other_operators():
    weight, bias = RNG.normal(size=(2, 12)).astype(np.float32), np.ones(2, np.float32)
    file = tflite_files.dense(weight, bias)

    def build(graph, x):
        doubled = graph.binary("MUL", graph.reshape(x, (1, 12)), graph.floats(2.0))
        return graph.unary("RELU", graph.graft(file, doubled))

    expected = np.maximum(2 * X.reshape(1, 12) @ weight.T + bias, 0)
    np.testing.assert_allclose(ran(build), expected, atol=1e-5)

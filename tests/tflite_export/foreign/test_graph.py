"""Graphs that are put together by hand compute what they say, and take over other graphs whole."""

import numpy as np
import pytest
import tflite_files

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")

from ai_edge_litert import schema_py_generated as schema

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


def wide_layer(kind, narrow):
    """One layer whose outputs have sizes from a hundredth to one."""
    rng, sizes = np.random.default_rng(0), np.logspace(-2, 0, 64)
    graph = OperatorGraph()
    x = graph.input("x", (1, 8, 8, 32))
    if kind == "dense":
        y = graph.dense(x, rng.normal(size=(64, 32)) * sizes[:, None], sizes)
    else:
        options = {"padding": 1, "strideH": 1, "strideW": 1}
        options |= {"dilationHFactor": 1, "dilationWFactor": 1}
        weight = rng.normal(size=(64, 3, 3, 32)) * sizes[:, None, None, None]
        name, shape, made = "CONV_2D", (1, 6, 6, 64), schema.Conv2DOptionsT(**options)
        if kind == "depthwise":
            weight, sizes = rng.normal(size=(1, 6, 6, 32)) * sizes[::2], sizes[::2]
            name, shape = "DEPTHWISE_CONV_2D", (1, 3, 3, 32)
            made = schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **options)
        y = graph.operator(name, (x, graph.floats(weight), graph.floats(sizes)), shape, made)
    graph.narrow_weights(0 if narrow else graph.num_operators)
    return graph.finish("s", {"x": x}, {"y": y})


@pytest.mark.parametrize("kernels", ["optimized", "reference"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_narrow_weights_keep_every_output_to_two_percent_of_its_own_size(kind, kernels):
    whole, narrow = wide_layer(kind, False), wide_layer(kind, True)
    assert len(narrow) < 0.5 * len(whole)
    clips = np.random.default_rng(1).normal(size=(5, 1, 8, 8, 32)).astype(np.float32)
    one, other = (
        np.stack([TfliteModel(file, kernels).run("s", x=clip)["y"] for clip in clips])
        for file in (whole, narrow)
    )
    axes = (0, 1, 2, 3)
    largest = np.abs(one).max(axis=axes)
    assert (np.abs(one - other).max(axis=axes) < 0.02 * largest).all()
    assert (one != other).any()


def test_weights_that_two_layers_take_are_narrow_for_both_and_stand_in_the_file_once():
    graph, rng = OperatorGraph(), np.random.default_rng(0)
    x, weight = graph.input("x", (1, 32)), graph.floats(rng.normal(size=(64, 32)))
    options = schema.FullyConnectedOptionsT(keepNumDims=True)
    given = (x, weight, graph.floats(np.zeros(64)))
    one, other = (graph.operator("FULLY_CONNECTED", given, (1, 64), options) for _ in range(2))
    difference = graph.binary("SUB", one, other)
    graph.narrow_weights(0)
    content = graph.finish("s", {"x": x}, {"y": difference})
    assert len(content) < 64 * 32 + 2500
    clip = rng.normal(size=(1, 32)).astype(np.float32)
    assert not TfliteModel(content).run("s", x=clip)["y"].any()

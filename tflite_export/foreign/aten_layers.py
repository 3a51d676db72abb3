"""Layers with weights, pooling and products of a torch program as operators of TensorFlow Lite.

Tensors keep torch's axes and order; around convolutions, whose channels TensorFlow Lite has last,
they are transposed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor
from torch.fx import Node

from tflite_export.foreign.program import AtenProgram, Emit, Unlike, name_of

_VALID, _NONE = schema.Padding.VALID, schema.ActivationFunctionType.NONE


def mean_of_all(to: AtenProgram, node: Node) -> int:
    """Adaptive mean pooling to one value."""
    x = to.tensor(node.args[0])
    sizes = node.args[1]
    count = len(sizes) if isinstance(sizes, (list, tuple)) else 1
    if to.shape(node)[-count:] != (1,) * count:
        raise Unlike(f"an output of {sizes}")
    return to.graph.reduce("MEAN", x, range(-count, 0))


def _pair(value: Any, axes: int) -> list[int]:
    """One number for each axis; of a single axis, a second one in front that changes nothing."""
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) < axes else values


def _channels_last(to: AtenProgram, x: int) -> tuple[int, bool]:
    """(n, c, [h,] w) to (n, h, w, c), and whether there was one axis only."""
    shape = to.graph.shape(x)
    single = len(shape) == 3
    if len(shape) not in (3, 4):
        raise Unlike(f"an input of {len(shape)} axes")
    if single:
        x = to.graph.reshape(x, (shape[0], shape[1], 1, shape[2]))
    return to.graph.transpose(x, (0, 2, 3, 1)), single


def _channels_first(to: AtenProgram, x: int, node: Node) -> int:
    return to.graph.reshape(to.graph.transpose(x, (0, 3, 1, 2)), to.shape(node))


def _padded(to: AtenProgram, x: int, padding: Sequence[int], value: float) -> int:
    """Pads height and width of (n, h, w, c), the same on both sides."""
    if not any(padding):
        return x
    margins = [[0, 0], [padding[0]] * 2, [padding[1]] * 2, [0, 0]]
    return pad(to, x, margins, value)


def pad(to: AtenProgram, x: int, margins: Sequence[Sequence[int]], value: float) -> int:
    """Puts a value before and behind each axis, so often as the margins say."""
    shape = tuple(
        size + sum(margin) for size, margin in zip(to.graph.shape(x), margins, strict=True)
    )
    inputs = (x, to.graph.integers(margins), to.graph.floats(np.array([value])))
    return to.graph.operator("PADV2", inputs, shape, schema.PadV2OptionsT())


def convolution(to: AtenProgram, node: Node) -> int:
    """conv1d and conv2d, plain or with a filter for each channel."""
    weight = to.argument(node, 1, "weight")
    bias = to.argument(node, 2, "bias")
    axes = weight.ndim - 2
    stride, dilation = (
        _pair(to.argument(node, place, name, 1), axes)
        for place, name in ((3, "stride"), (5, "dilation"))
    )
    groups = to.argument(node, 6, "groups", 1)
    x, single = _channels_last(to, to.tensor(node.args[0]))
    padding = to.argument(node, 4, "padding", 0)
    if isinstance(padding, str):
        spans = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "same" and any(span % 2 for span in spans):
            raise Unlike("padding that differs by side")
        padding = [span // 2 for span in spans] if padding == "same" else 0
    padding = _pair(padding, axes)
    if single:
        stride, dilation, padding = [1, *stride], [1, *dilation], [0, *padding]
        weight = weight.unsqueeze(2)
    x = _padded(to, x, padding, 0.0)
    return _channels_first(to, _convolved(to, x, weight, bias, stride, dilation, groups), node)


def _convolved(
    to: AtenProgram, x: int, weight: Tensor, bias: Any, stride: list[int], dilation: list[int],
    groups: int,
) -> int:  # fmt: skip
    """A convolution with channels last and no padding."""
    outputs, each, height, width = weight.shape
    _, rows, columns, inputs = to.graph.shape(x)
    size = [
        (length - step * (taps - 1) - 1) // hop + 1
        for length, taps, hop, step in zip(
            (rows, columns), (height, width), stride, dilation, strict=True
        )
    ]
    plain = {
        "padding": _VALID, "strideH": stride[0], "strideW": stride[1],
        "dilationHFactor": dilation[0], "dilationWFactor": dilation[1],
        "fusedActivationFunction": _NONE,
    }  # fmt: skip
    offset = np.zeros(outputs) if bias is None else bias.numpy()
    if groups == 1:
        kernel, name = weight.permute(0, 2, 3, 1), "CONV_2D"
        options = schema.Conv2DOptionsT(**plain)
    elif groups == inputs and each == 1:
        kernel, name = weight.permute(1, 2, 3, 0), "DEPTHWISE_CONV_2D"
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=outputs // groups, **plain)
    else:
        raise Unlike(f"{groups} groups of {each} channels")
    given = (x, to.graph.floats(kernel.contiguous().numpy()), to.graph.floats(offset))
    return to.graph.operator(name, given, (1, *size, outputs), options)


def pool(name: str) -> Emit:
    """Maximum or mean over a sliding window."""

    def emit(to: AtenProgram, node: Node) -> int:
        axes = 2 if "2d" in name_of(node.target) else 1
        kernel = _pair(to.argument(node, 1, "kernel_size"), axes)
        stride = _pair(to.argument(node, 2, "stride") or kernel, axes)
        padding = _pair(to.argument(node, 3, "padding", 0), axes)
        largest = name == "MAX_POOL_2D"
        if largest and set(_pair(to.argument(node, 4, "dilation", 1), axes)) != {1}:
            raise Unlike("dilation")
        if to.argument(node, 5 if largest else 4, "ceil_mode", False):
            raise Unlike("ceil_mode")
        if any(padding) and not largest:
            raise Unlike("padding")
        x, single = _channels_last(to, to.tensor(node.args[0]))
        if single:
            kernel, stride, padding = [1, *kernel], [1, *stride], [0, *padding]
        x = _padded(to, x, padding, float(np.finfo(np.float32).min))
        _, rows, columns, channels = to.graph.shape(x)
        size = [
            (length - taps) // hop + 1
            for length, taps, hop in zip((rows, columns), kernel, stride, strict=True)
        ]
        options = schema.Pool2DOptionsT(
            padding=_VALID, strideH=stride[0], strideW=stride[1], filterHeight=kernel[0],
            filterWidth=kernel[1], fusedActivationFunction=_NONE,
        )  # fmt: skip
        pooled = to.graph.operator(name, (x,), (1, *size, channels), options)
        return _channels_first(to, pooled, node)

    return emit


def batch_norm(to: AtenProgram, node: Node) -> int | list[int]:
    """A scale and a shift for each channel, of the running statistics."""
    x = to.tensor(node.args[0])
    weight, bias, mean, var = (to.argument(node, place, "") for place in range(1, 5))
    legit = name_of(node.target) != "batch_norm"
    eps = to.argument(node, 6 if legit else 7, "eps", 1e-5)
    # In double: the division by a small deviation would cost float32 its last digits.
    scale = 1 / torch.sqrt(var.double() + eps)
    scale = scale if weight is None else scale * weight.double()
    shift = -mean.double() * scale + (0 if bias is None else bias.double())
    along = (1, -1, *[1] * (len(to.graph.shape(x)) - 2))
    x = to.graph.binary("MUL", x, to.graph.floats(scale.reshape(along).numpy()))
    x = to.graph.binary("ADD", x, to.graph.floats(shift.reshape(along).numpy()))
    return [x] if legit else x


def layer_norm(to: AtenProgram, node: Node) -> int:
    """Minus the mean, over the deviation, of the last axes."""
    x = to.tensor(node.args[0])
    axes = range(-len(to.argument(node, 1, "normalized_shape")), 0)
    centered = to.graph.binary("SUB", x, to.graph.reduce("MEAN", x, axes))
    variance = to.graph.reduce("MEAN", to.graph.binary("MUL", centered, centered), axes)
    safe = to.graph.binary("ADD", variance, to.tensor(to.argument(node, 4, "eps", 1e-5)))
    x = to.graph.binary("MUL", centered, to.graph.unary("RSQRT", safe))
    for place, name in ((2, "MUL"), (3, "ADD")):
        if place < len(node.args) and node.args[place] is not None:
            x = to.graph.binary(name, x, to.tensor(node.args[place]))
    return x


def linear(to: AtenProgram, node: Node) -> int:
    """Rows of the last axis times a matrix, plus a bias."""
    weight, bias = to.argument(node, 1, "weight"), to.argument(node, 2, "bias")
    x = to.tensor(node.args[0])
    offset = np.zeros(len(weight)) if bias is None else bias.numpy()
    return to.graph.dense(x, weight.numpy(), offset)


def product(to: AtenProgram, node: Node) -> int:
    """A matrix product, for each row of the axes in front."""
    return _matmul(to, to.tensor(node.args[0]), to.tensor(node.args[1]))


def _matmul(to: AtenProgram, one: int, other: int) -> int:
    left, right = to.graph.shape(one), to.graph.shape(other)
    if min(len(left), len(right)) < 2:
        raise Unlike("a vector")
    shape = (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    return to.graph.operator("BATCH_MATMUL", (one, other), shape, schema.BatchMatMulOptionsT())


def attention(to: AtenProgram, node: Node) -> int:
    """softmax(q k.T / sqrt(d)) v, without a mask."""
    query, key, value = (to.tensor(node.args[place]) for place in range(3))
    if to.argument(node, 3, "attn_mask") is not None or to.argument(node, 5, "is_causal", False):
        raise Unlike("a mask")
    order = list(range(len(to.graph.shape(key))))
    order[-2:] = order[:-3:-1]
    scale = to.argument(node, 6, "scale") or 1 / math.sqrt(to.graph.shape(query)[-1])
    scores = _matmul(
        to, to.graph.binary("MUL", query, to.tensor(scale)), to.graph.transpose(key, order)
    )
    return _matmul(to, to.graph.unary("SOFTMAX", scores, schema.SoftmaxOptionsT(beta=1.0)), value)

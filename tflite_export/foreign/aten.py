"""Torch's operators and their counterparts in TensorFlow Lite.

output = append_program(graph, program, given, example)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor
from torch.fx import Node

from tflite_export.foreign.aten_layers import (
    attention,
    batch_norm,
    convolution,
    layer_norm,
    linear,
    mean_of_all,
    pad,
    pool,
    product,
)
from tflite_export.foreign.graph import OperatorGraph
from tflite_export.foreign.program import AtenProgram, Emit, Unlike, name_of

if TYPE_CHECKING:  # torch's exporter takes a second to import
    from torch.export import ExportedProgram

_NONE = schema.ActivationFunctionType.NONE


def append_program(
    graph: OperatorGraph, program: ExportedProgram, given: int, example: Tensor
) -> int:
    """Appends a program to a graph; returns the tensor of its output.

    Args:
      graph: where its operators go.
      program: one input and one output, both float32.
      given: tensor of the input.
      example: a value of the input, one row.

    Raises:
      ExportRefused: naming the operator that has no counterpart.
    """
    return AtenProgram(graph, program, _COUNTERPARTS).convert(given, example)


def _same(to: AtenProgram, node: Node) -> int:
    return to.graph.reshape(to.tensor(node.args[0]), to.shape(node))


def _item(to: AtenProgram, node: Node) -> int:
    (source,), place = node.all_input_nodes, int(to.argument(node, 1, ""))
    found: list[int] = to.list_of(source)
    if place >= len(found):
        raise Unlike(f"its result {place}")
    return found[place]


def _transpose(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    order = list(range(len(to.graph.shape(x))))
    if name_of(node.target) == "permute":
        order = [axis % len(order) for axis in to.argument(node, 1, "dims")]
    else:
        plain = name_of(node.target) == "t"
        one, other = (0, 1) if plain else (to.argument(node, place, "") for place in (1, 2))
        order[one], order[other] = order[other], order[one]
    return to.graph.transpose(x, order)


def _unary(name: str, options: Any = None) -> Emit:
    return lambda to, node: to.graph.unary(name, to.tensor(node.args[0]), options)


def _binary(name: str) -> Emit:
    def emit(to: AtenProgram, node: Node) -> int:
        if to.argument(node, 2, "alpha", 1) != 1:
            raise Unlike("alpha other than 1")
        return to.graph.binary(name, to.tensor(node.args[0]), to.tensor(node.args[1]))

    return emit


def _reversed_sub(to: AtenProgram, node: Node) -> int:
    if to.argument(node, 2, "alpha", 1) != 1:
        raise Unlike("alpha other than 1")
    return to.graph.binary("SUB", to.tensor(node.args[1]), to.tensor(node.args[0]))


def _reciprocal(to: AtenProgram, node: Node) -> int:
    return to.graph.binary("DIV", to.tensor(1.0), to.tensor(node.args[0]))


def _clamp(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    limits = {"relu6": (0, 6), "clamp_min": (node.args[-1], None)}.get(
        name_of(node.target),
        (to.argument(node, 1, "min", -1), to.argument(node, 2, "max", 1))
        if name_of(node.target) == "hardtanh"
        else (to.argument(node, 1, "min"), to.argument(node, 2, "max")),
    )
    for name, limit in zip(("MAXIMUM", "MINIMUM"), limits, strict=True):
        if limit is not None:
            x = to.graph.binary(name, x, to.tensor(limit))
    return x


def _leaky(to: AtenProgram, node: Node) -> int:
    slope = to.argument(node, 1, "negative_slope", 0.01)
    return to.graph.unary(
        "LEAKY_RELU", to.tensor(node.args[0]), schema.LeakyReluOptionsT(alpha=slope)
    )


def _silu(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    return to.graph.binary("MUL", x, to.graph.unary("LOGISTIC", x))


def _gelu(to: AtenProgram, node: Node) -> int:
    tanh = to.argument(node, 1, "approximate", "none") == "tanh"
    return to.graph.unary("GELU", to.tensor(node.args[0]), schema.GeluOptionsT(approximate=tanh))


def _power(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    if name_of(node.target) == "square" or node.args[1] == 2:
        return to.graph.binary("MUL", x, x)
    return to.graph.binary("POW", x, to.tensor(node.args[1]))


def _softmax(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    shape = to.graph.shape(x)
    axis, last = to.argument(node, 1, "dim") % len(shape), len(shape) - 1
    order = list(range(len(shape)))
    order[axis], order[last] = last, axis
    logarithm = "log" in name_of(node.target)
    name = "LOG_SOFTMAX" if logarithm else "SOFTMAX"
    options = schema.LogSoftmaxOptionsT() if logarithm else schema.SoftmaxOptionsT(beta=1.0)
    if axis == last:
        return to.graph.unary(name, x, options)
    return to.graph.transpose(to.graph.unary(name, to.graph.transpose(x, order), options), order)


def _reduce(name: str) -> Emit:
    def emit(to: AtenProgram, node: Node) -> int:
        x = to.tensor(node.args[0])
        axes = to.argument(node, 1, "dim")
        if axes is None or axes == []:
            axes = range(len(to.graph.shape(x)))
        axes = [axes] if isinstance(axes, int) else list(axes)
        return to.graph.reshape(to.graph.reduce(name, x, axes), to.shape(node))

    return emit


def _largest(to: AtenProgram, node: Node) -> list[int]:
    """`max(dim)`: the values alone, without the places."""
    if len(node.args) < 2:
        raise Unlike("no axis")
    return [int(_reduce("REDUCE_MAX")(to, node))]  # type: ignore[arg-type]


def _joined(to: AtenProgram, node: Node) -> int:
    parts = [to.tensor(part) for part in node.args[0]]  # type: ignore[union-attr]
    axis = to.argument(node, 1, "dim", 0) % len(to.shape(node))
    if name_of(node.target) == "stack":
        shape = list(to.shape(node))
        shape[axis] = 1
        parts = [to.graph.reshape(part, shape) for part in parts]
    options = schema.ConcatenationOptionsT(axis=axis, fusedActivationFunction=_NONE)
    return to.graph.operator("CONCATENATION", parts, to.shape(node), options)


def _cut(to: AtenProgram, x: int, axis: int, start: int, count: int, step: int = 1) -> int:
    """Takes `count` places of an axis, every `step`-th from `start`."""
    shape = to.graph.shape(x)
    begin, end, strides = [0] * len(shape), list(shape), [1] * len(shape)
    begin[axis], end[axis], strides[axis] = start, start + (count - 1) * step + 1, step
    taken = tuple(count if place == axis else size for place, size in enumerate(shape))
    given = (x, *(to.graph.integers(values) for values in (begin, end, strides)))
    return to.graph.operator("STRIDED_SLICE", given, taken, schema.StridedSliceOptionsT())


def _slice(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    axis = to.argument(node, 1, "dim", 0) % len(to.graph.shape(x))
    size, count = to.graph.shape(x)[axis], to.shape(node)[axis]
    if size == count:
        return x
    start = to.argument(node, 2, "start", 0) or 0
    start = start + size if start < 0 else start
    step = 1 if name_of(node.target) == "narrow" else to.argument(node, 4, "step", 1)
    return _cut(to, x, axis, start, count, step)


def _select(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    shape = to.graph.shape(x)
    axis, place = to.argument(node, 1, "dim") % len(shape), to.argument(node, 2, "index")
    return to.graph.reshape(_cut(to, x, axis, place % shape[axis], 1), to.shape(node))


def _split(to: AtenProgram, node: Node) -> list[int]:
    x = to.tensor(node.args[0])
    axis = to.argument(node, 2, "dim", 0) % len(to.graph.shape(x))
    if name_of(node.target) == "unbind":
        axis = to.argument(node, 1, "dim", 0) % len(to.graph.shape(x))
    parts, start = [], 0
    for value in to.values[node]:
        count = 1 if name_of(node.target) == "unbind" else value.shape[axis]
        parts.append(to.graph.reshape(_cut(to, x, axis, start, count), tuple(value.shape)))
        start += count
    return parts


def _constant_pad(to: AtenProgram, node: Node) -> int:
    x = to.tensor(node.args[0])
    if isinstance(node.args[2] if len(node.args) > 2 else 0, str) and node.args[2] != "constant":
        raise Unlike(f"mode {node.args[2]}")
    pads = to.argument(node, 1, "pad")
    margins = [[0, 0] for _ in to.graph.shape(x)]
    for place in range(len(pads) // 2):
        margins[-1 - place] = [pads[2 * place], pads[2 * place + 1]]
    if any(margin < 0 for pair in margins for margin in pair):
        raise Unlike("negative padding")
    value = to.argument(node, 3 if name_of(node.target) == "pad" else 2, "value", 0.0) or 0.0
    return pad(to, x, margins, float(value))


def _unfold(to: AtenProgram, node: Node) -> int:
    """Overlapping frames of an axis, which stand on a new last axis."""
    axis, size, step = (int(value) for value in node.args[1:])  # type: ignore[arg-type]
    x = to.tensor(node.args[0])
    axis %= len(to.graph.shape(x))
    if axis != len(to.graph.shape(x)) - 1:
        raise Unlike("an axis other than the last")
    frames = to.shape(node)[axis]
    places = step * np.arange(frames)[:, None] + np.arange(size)
    given = (x, to.graph.integers(places))
    return to.graph.operator("GATHER", given, to.shape(node), schema.GatherOptionsT(axis=axis))


def _expand(to: AtenProgram, node: Node) -> int:
    x, shape = to.tensor(node.args[0]), to.shape(node)
    x = to.graph.reshape(x, [1] * (len(shape) - len(to.graph.shape(x))) + list(to.graph.shape(x)))
    if to.graph.shape(x) == shape:
        return x
    given = (x, to.graph.integers(list(shape)))
    return to.graph.operator("BROADCAST_TO", given, shape, schema.BroadcastToOptionsT())


_COUNTERPARTS: dict[str, Emit] = {
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten", "_unsafe_view",
         "contiguous", "clone", "alias", "detach", "dropout", "feature_dropout", "alpha_dropout",
         "to", "_to_copy", "view_copy", "reshape_as", "view_as", "type_as", "lift_fresh_copy"),
        _same,
    ),
    **dict.fromkeys(("permute", "transpose", "t", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("clamp", "clip", "hardtanh", "relu6", "clamp_min"), _clamp),
    **dict.fromkeys(("conv1d", "conv2d"), convolution),
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), batch_norm),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _softmax),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), _joined),
    **dict.fromkeys(("slice", "narrow"), _slice),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unbind"), _split),
    **dict.fromkeys(("constant_pad_nd", "pad"), _constant_pad),
    **dict.fromkeys(("matmul", "bmm", "mm"), product),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    **dict.fromkeys(("pow", "square"), _power),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), mean_of_all),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), pool("MAX_POOL_2D")),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), pool("AVERAGE_POOL_2D")),
    **dict.fromkeys(("mul", "multiply"), _binary("MUL")),
    **dict.fromkeys(("sub", "subtract"), _binary("SUB")),
    **dict.fromkeys(("div", "divide", "true_divide"), _binary("DIV")),
    "rsub": _reversed_sub, "reciprocal": _reciprocal,
    "add": _binary("ADD"), "maximum": _binary("MAXIMUM"), "minimum": _binary("MINIMUM"),
    "relu": _unary("RELU"), "tanh": _unary("TANH"), "sigmoid": _unary("LOGISTIC"),
    "exp": _unary("EXP", schema.ExpOptionsT()), "log": _unary("LOG"), "sqrt": _unary("SQRT"),
    "rsqrt": _unary("RSQRT"), "abs": _unary("ABS", schema.AbsOptionsT()),
    "neg": _unary("NEG", schema.NegOptionsT()), "sin": _unary("SIN"),
    "cos": _unary("COS", schema.CosOptionsT()), "elu": _unary("ELU"),
    "hardswish": _unary("HARD_SWISH", schema.HardSwishOptionsT()),
    "leaky_relu": _leaky, "silu": _silu, "gelu": _gelu,
    "mean": _reduce("MEAN"), "sum": _reduce("SUM"), "amax": _reduce("REDUCE_MAX"),
    "amin": _reduce("REDUCE_MIN"), "max": _largest, "layer_norm": layer_norm,
    "linear": linear, "select": _select, "unfold": _unfold, "getitem": _item,
    "scaled_dot_product_attention": attention,
}  # fmt: skip

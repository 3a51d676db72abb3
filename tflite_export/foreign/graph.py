"""A TensorFlow Lite graph put together operator by operator, in float32, without TensorFlow.

    graph = OperatorGraph()
    x = graph.input("waveform", (1, 16_000))
    y = graph.operator("FULLY_CONNECTED", (x, graph.floats(w), graph.floats(b)), (1, 4), options)
    content = graph.finish("waveform", {"waveform": x}, {"logits": y})

For encoders that come from elsewhere: the graph of a `.tflite` file is taken over as it is, and the
operators of a torch program have their counterparts in `aten.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused

Shape = tuple[int, ...]

_DTYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}
_OPTIONS = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "MaximumMinimum",
    "MINIMUM": "MaximumMinimum", "POW": "Pow",
}  # fmt: skip
_LARGEST_OLD_CODE = 127  # of the field that old readers look at
_LEAST_NARROWED = 1024  # values; below that a scale for each output saves little


# Of the weights of an operator, the axis of its outputs.
_OUTPUT_AXES = {
    schema.BuiltinOperator.CONV_2D: 0,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
    schema.BuiltinOperator.FULLY_CONNECTED: 0,
}


class OperatorGraph:
    """Tensors, constants and operators of one subgraph, in the order in which they are computed."""

    def __init__(self) -> None:
        # The first buffer is empty by convention: what has no data points at it.
        self._buffers = [schema.BufferT()]
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._inputs: list[int] = []

    def input(self, name: str, shape: Shape) -> int:
        """Adds an input of the graph; returns its tensor."""
        self._inputs.append(self._tensor(name, shape, schema.TensorType.FLOAT32))
        return self._inputs[-1]

    def shape(self, tensor: int) -> Shape:
        """Shape of a tensor."""
        return tuple(int(size) for size in self._tensors[tensor].shape)

    def constant(self, values: NDArray[Any]) -> int:
        """Adds a constant of float32 or int32; returns its tensor."""
        values = np.ascontiguousarray(values)
        self._buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        kind = _DTYPES[values.dtype]
        return self._tensor("constant", values.shape, kind, len(self._buffers) - 1)

    def floats(self, values: Any) -> int:
        """Adds a constant of float32."""
        return self.constant(np.asarray(values, dtype=np.float32))

    def integers(self, values: Any) -> int:
        """Adds a constant of int32, such as axes or a shape."""
        return self.constant(np.asarray(values, dtype=np.int32))

    def operator(self, name: str, inputs: Sequence[int], shape: Shape, options: Any = None) -> int:
        """Adds an operator with one output of float32; returns that.

        Args:
          name: as in the schema's `BuiltinOperator`.
          inputs: tensors.
          shape: of the output.
          options: of the schema's class for the operator; None: it has none.
        """
        output = self._tensor(name.lower(), shape, schema.TensorType.FLOAT32)
        kind = 0 if options is None else _options_kind(options)
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._code(getattr(schema.BuiltinOperator, name), 1),
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )
        return output

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        """The same values in another shape."""
        if self.shape(tensor) == tuple(shape):
            return tensor
        options = schema.ReshapeOptionsT(newShape=list(shape))
        inputs = (tensor, self.integers(list(shape)))
        return self.operator("RESHAPE", inputs, tuple(shape), options)

    def transpose(self, tensor: int, order: Sequence[int]) -> int:
        """Axes in another order."""
        before = self.shape(tensor)
        shape = tuple(before[axis] for axis in order)
        inputs = (tensor, self.integers(list(order)))
        return self.operator("TRANSPOSE", inputs, shape, schema.TransposeOptionsT())

    def unary(self, name: str, tensor: int, options: Any = None) -> int:
        """An operator that keeps the shape."""
        return self.operator(name, (tensor,), self.shape(tensor), options)

    def binary(self, name: str, one: int, other: int) -> int:
        """An operator on two tensors, whose axes of length 1 are stretched."""
        shape = np.broadcast_shapes(self.shape(one), self.shape(other))
        options = getattr(schema, f"{_OPTIONS[name]}OptionsT")()
        return self.operator(name, (one, other), shape, options)

    def reduce(self, name: str, tensor: int, axes: Sequence[int]) -> int:
        """Mean, sum, maximum or minimum over axes, which stay with length 1."""
        before = self.shape(tensor)
        axes = [axis % len(before) for axis in axes]
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(before))
        options = schema.ReducerOptionsT(keepDims=True)
        return self.operator(name, (tensor, self.integers(axes)), shape, options)

    def dense(self, tensor: int, weight: NDArray[Any], bias: NDArray[Any]) -> int:
        """Multiplies the last axis by weight.T, (inputs, outputs), and adds a bias."""
        options = schema.FullyConnectedOptionsT(keepNumDims=True)
        shape = (*self.shape(tensor)[:-1], len(weight))
        given = (tensor, self.floats(weight), self.floats(bias))
        return self.operator("FULLY_CONNECTED", given, shape, options)

    def graft(self, content: bytes, given: int) -> int:
        """Takes over the graph of a file whose one input is `given`; returns its one output.

        Raises:
          ExportRefused: if the graph takes no input of that shape.
        """
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        graph = model.subgraphs[0]
        shapes = _shapes(content, self.shape(given))
        codes = [self._code(_builtin(code), code.version) for code in model.operatorCodes]
        first = len(self._buffers)
        self._buffers += model.buffers
        place = {}
        for index, tensor in enumerate(graph.tensors):
            if index == graph.inputs[0]:
                place[index] = given
                continue
            tensor.buffer += first
            tensor.shape = list(shapes.get(index, tensor.shape if tensor.shape is not None else ()))
            tensor.shapeSignature = None
            place[index] = len(self._tensors)
            self._tensors.append(tensor)
        for operator in graph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
            operator.inputs = [place.get(index, -1) for index in operator.inputs]
            operator.outputs = [place[index] for index in operator.outputs]
            self._operators.append(operator)
        return place[graph.outputs[0]]

    @property
    def num_operators(self) -> int:
        """How many there are."""
        return len(self._operators)

    def narrow_weights(self, first: int) -> None:
        """Stores the weights of convolutions and dense layers in int8, a scale for each output.

        They are made float32 again when the file is loaded, so that everything is computed as
        before: what the file saves is bytes and not time.

        Args:
          first: operators from this one on.
        """
        codes, made = list(self._codes), {}
        for operator in self._operators[first:]:
            axis = _OUTPUT_AXES.get(codes[operator.opcodeIndex][0])
            weight = operator.inputs[1] if axis is not None else -1
            if axis is not None and self._is_wide(weight):
                if weight not in made:
                    made[weight] = self._narrowed(weight, axis)
                operator.inputs = [made.get(tensor, tensor) for tensor in operator.inputs]
        self._drop_unused(made)

    def finish(
        self, signature: str, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> bytes:
        """Returns the bytes of a file with one signature."""
        named = {"inputs": inputs, "outputs": outputs}
        maps = {
            side: [schema.TensorMapT(name=name, tensorIndex=index) for name, index in given.items()]
            for side, given in named.items()
        }
        codes = [
            schema.OperatorCodeT(
                builtinCode=code,
                deprecatedBuiltinCode=min(code, _LARGEST_OLD_CODE),
                version=version,
            )
            for code, version in self._codes
        ]
        model = schema.ModelT(
            version=3,
            description="fedspeech",
            operatorCodes=codes,
            subgraphs=[
                schema.SubGraphT(
                    tensors=self._tensors,
                    inputs=self._inputs,
                    outputs=list(outputs.values()),
                    operators=self._operators,
                )
            ],
            buffers=self._buffers,
            signatureDefs=[schema.SignatureDefT(signatureKey=signature, **maps)],
        )
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _is_wide(self, tensor: int) -> bool:
        """Whether a tensor is a constant of float32 and large enough for its bytes to count."""
        described = self._tensors[tensor]
        wide = math.prod(self.shape(tensor)) >= _LEAST_NARROWED
        constant = self._buffers[described.buffer].data is not None
        return constant and described.type == schema.TensorType.FLOAT32 and wide

    def _narrowed(self, tensor: int, axis: int) -> int:
        """A constant rounded to int8, one scale for each place of an axis, and back to float32."""
        raw = np.asarray(self._buffers[self._tensors[tensor].buffer].data, dtype=np.uint8)
        values = np.frombuffer(raw.tobytes(), np.float32).reshape(self.shape(tensor))
        others = tuple(place for place in range(values.ndim) if place != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scales = np.where(largest > 0, largest, 1) / np.float32(127)
        rounded = self.constant(np.rint(values / scales).astype(np.int8))
        self._tensors[rounded].quantization = schema.QuantizationParametersT(
            scale=scales.ravel().astype(np.float32),
            zeroPoint=np.zeros(scales.size, np.int64),
            quantizedDimension=axis,
        )
        options = schema.DequantizeOptionsT()
        floats = self.operator("DEQUANTIZE", (rounded,), self.shape(tensor), options)
        self._operators[-1].opcodeIndex = self._code(schema.BuiltinOperator.DEQUANTIZE, 5)
        self._operators.insert(0, self._operators.pop())  # before whoever takes it
        return floats

    def _drop_unused(self, tensors: Iterable[int]) -> None:
        """Leaves out the values of constants that no operator takes any more."""
        used = {tensor for operator in self._operators for tensor in operator.inputs}
        needed = {self._tensors[tensor].buffer for tensor in used if tensor >= 0}
        for tensor in set(tensors) - used:
            if self._tensors[tensor].buffer not in needed:
                self._buffers[self._tensors[tensor].buffer] = schema.BufferT()

    def _tensor(self, name: str, shape: Shape, kind: int, buffer: int = 0) -> int:
        self._tensors.append(
            schema.TensorT(
                name=f"{name}_{len(self._tensors)}", shape=list(shape), type=kind, buffer=buffer
            )
        )
        return len(self._tensors) - 1

    def _code(self, code: int, version: int) -> int:
        return self._codes.setdefault((code, version), len(self._codes))


def _builtin(code: Any) -> int:
    """The operator's number; old files keep it in the deprecated field."""
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _options_kind(options: Any) -> int:
    """The number of a class of options in the schema's union."""
    name = type(options).__name__.removesuffix("T")
    kind: int = getattr(schema.BuiltinOptions, name)
    return kind


def _shapes(content: bytes, given: Shape) -> dict[int, Shape]:
    """Shapes of all tensors of a file when its input has this one."""
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate hides what is between
    interpreter = Interpreter(
        model_content=content, num_threads=1, experimental_op_resolver_type=plain
    )
    try:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], given)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportRefused(
            f"encoder: its graph takes no input of shape {given}: {error}"
        ) from None
    return {
        detail["index"]: tuple(int(size) for size in detail["shape"])
        for detail in interpreter.get_tensor_details()
    }

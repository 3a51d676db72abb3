"""A frozen piece of a network as plain data: a list of operators and the arrays that they take.

What phones train through has to reach every node, and nothing that a node loads may run code. So it
travels as a list: each step names one of torch's own operators, and only those that an exported
encoder may use (`fedspeech.models.exported.operators`) are looked up. The same graph gives the same
bytes.

    graph = FrozenGraph.from_bytes(data)
    features = graph.run({"x": embeddings})["features"]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy
from torch import Tensor

from fedspeech.models.exported.operators import OPERATORS

_METADATA_KEY = "fedspeech_graph"
_OF = "of"  # the key by which the JSON form tells a name from a text

ADAPT = "adapt"
"""The step that adds what a phone has trained to the output of a frozen layer."""

LayerKind = Literal["linear", "conv1d", "conv2d"]


@dataclass(frozen=True)
class Of:
    """The name of an input, an array or an earlier step's result, as an argument."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operator: `result = operator(*arguments)`.

    Attributes:
      result: its name.
      operator: of torch, with its overload, such as "conv1d.default"; or `ADAPT`, whose arguments
        are a layer's output and its input.
      arguments: numbers, None, texts, `Of`, and tuples of these.
      layer: of `ADAPT`: the layer's name.
      named: further arguments by name, for those that torch takes so alone.
    """

    result: str
    operator: str
    arguments: tuple[Any, ...]
    layer: str = ""
    named: tuple[tuple[str, Any], ...] = ()

    def names(self) -> Iterator[str]:
        """The values that it takes."""
        pending = [*self.arguments, *(value for _, value in self.named)]
        while pending:
            argument = pending.pop()
            if isinstance(argument, Of):
                yield argument.name
            elif isinstance(argument, tuple):
                pending += argument


@dataclass(frozen=True)
class Layer:
    """A layer that phones may adapt, as torch's module of that kind has it.

    Attributes:
      name: path of the module, such as "blocks.1.first.conv".
      weight_shape: (outputs, inputs) or (outputs, inputs, *taps).
      stride: one number for each axis of taps, as are padding and dilation.
      scale: name of an array (outputs,) by which a normalization folded into the layer multiplies
        its weight; "": none is.
    """

    name: str
    kind: LayerKind
    weight_shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    scale: str = ""


Adapt = Callable[[Layer, Tensor, Tensor], Tensor]
"""From a layer, its frozen output and its input to its adapted output."""


@dataclass(frozen=True, eq=False)
class FrozenGraph:
    """See the module.

    Attributes:
      steps: in an order in which they can run.
      layers: that are adapted, in the order of their steps.
      arrays: by name, float32.

    Raises:
      ValueError: if a step takes what no step before it gives, or an operator is not known.
    """

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    output: str
    layers: tuple[Layer, ...]
    arrays: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        """Checks that every step can run."""
        known = {*self.inputs, *self.arrays}
        for step in self.steps:
            if step.operator.split(".")[0] not in OPERATORS and step.operator != ADAPT:
                raise ValueError(
                    f"step {step.result}: the operator {step.operator} is none of those that a "
                    "frozen graph may hold (fedspeech.models.exported.operators)"
                )
            if missing := set(step.names()) - known:
                raise ValueError(f"step {step.result} takes {sorted(missing)}, which nothing gives")
            known.add(step.result)
        adapted = [step.layer for step in self.steps if step.operator == ADAPT]
        if adapted != [layer.name for layer in self.layers] or self.output not in known:
            raise ValueError(f"layers and output must be those of the steps, got {adapted}")

    def __repr__(self) -> str:
        """Shows sizes only."""
        return f"FrozenGraph(steps={len(self.steps)}, layers={[one.name for one in self.layers]})"

    def run(
        self, values: Mapping[str, Tensor], adapt: Adapt | None = None, *, moving: bool = True
    ) -> dict[str, Tensor]:
        """Runs the steps whose results are not among the values; returns all values and arrays.

        Args:
          values: inputs and results that are known, by name.
          adapt: what phones add to layers; None: nothing.
          moving: False stops at what depends on no adapted layer: it never changes.
        """
        found = self.tensors(next(iter(values.values())).device) | dict(values)
        layers = {layer.name: layer for layer in self.layers}
        for step in self.steps:
            if step.result in found or (not moving and step.result in self.moving):
                continue
            arguments = [_value(argument, found) for argument in step.arguments]
            if step.operator == ADAPT:
                output, given = arguments
                found[step.result] = (
                    output if adapt is None else adapt(layers[step.layer], output, given)
                )
            else:
                named = {name: _value(value, found) for name, value in step.named}
                operator = _operator("relu_.default" if step in self._in_place else step.operator)
                found[step.result] = operator(*arguments, **named)
        return found

    def multiplications(self, input_shape: tuple[int, ...]) -> int:
        """Multiplications of the linear and convolution layers for one clip, by one run on zeros.

        What depends on no adapted layer is left out: it runs once, and not in every step.
        """
        values = self.run({self.inputs[0]: torch.zeros(1, *input_shape)})
        found = 0
        for step in self.steps:
            layer = step.operator.split(".")[0] in ("linear", "conv1d", "conv2d", "matmul")
            if layer and step.result in self.moving:
                weight = step.arguments[1]
                assert isinstance(weight, Of)
                inner = self.arrays[weight.name][0].size if weight.name in self.arrays else 0
                found += values[step.result].numel() * inner
        return found

    @cached_property
    def moving(self) -> frozenset[str]:
        """Results that depend on an adapted layer."""
        found: set[str] = set()
        for step in self.steps:
            if step.operator == ADAPT or not found.isdisjoint(step.names()):
                found.add(step.result)
        return frozenset(found)

    @cached_property
    def _in_place(self) -> frozenset[Step]:
        """Activations that may overwrite what they are given: nobody else takes it or keeps it.

        A fresh block of memory costs as much as the activation itself. Sums alone: what layers give
        is a view, and on its way back through an overwritten view torch copies it twice.
        """
        uses = Counter(name for step in self.steps for name in step.names())
        makers = {step.result for step in self.steps if step.operator == "add.Tensor"}
        return frozenset(
            step
            for step in self.steps
            if step.operator == "relu.default"
            and all(
                uses[name] == 1 and name in self.moving and name in makers for name in step.names()
            )
        )

    def tensors(self, device: torch.device) -> dict[str, Tensor]:
        """The arrays on a device."""
        if device not in self._on:
            # Whoever asks first may only score clips; the next one differentiates through them.
            with torch.inference_mode(False):
                self._on[device] = {
                    name: torch.tensor(array, device=device) for name, array in self.arrays.items()
                }
        return self._on[device]

    @cached_property
    def _on(self) -> dict[torch.device, dict[str, Tensor]]:
        return {}

    def to_bytes(self) -> bytes:
        """Returns a safetensors file: the same graph gives the same bytes."""
        described = {
            "inputs": self.inputs,
            "steps": [
                [s.result, s.operator, _plain(s.arguments), s.layer, _plain(s.named)]
                for s in self.steps
            ],
            "output": self.output,
            "layers": [vars(layer) for layer in self.layers],
        }
        # One key only: safetensors writes the keys of its metadata in no fixed order.
        encoded = {_METADATA_KEY: json.dumps(described, sort_keys=True)}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        return bytes(safetensors_numpy.save(arrays, metadata=encoded))

    @classmethod
    def from_bytes(cls, data: bytes) -> FrozenGraph:
        """Reads what `to_bytes` wrote.

        Raises:
          ValueError: if the bytes are no such graph.
        """
        try:
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length].decode("utf-8"))
            described = json.loads(header["__metadata__"][_METADATA_KEY])
            return cls(
                inputs=tuple(described["inputs"]),
                steps=tuple(
                    Step(result, operator, _rich(arguments), layer, _rich(named))
                    for result, operator, arguments, layer, named in described["steps"]
                ),
                output=described["output"],
                layers=tuple(
                    Layer(**{name: _rich(value) for name, value in layer.items()})
                    for layer in described["layers"]
                ),
                arrays=safetensors_numpy.load(data),
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a frozen graph: {error}") from error


def _value(argument: Any, found: Mapping[str, Tensor]) -> Any:
    """What an argument stands for."""
    if isinstance(argument, Of):
        return found[argument.name]
    return [_value(part, found) for part in argument] if isinstance(argument, tuple) else argument


def _operator(name: str) -> Callable[..., Any]:
    """An operator of torch by name, which `FrozenGraph` has found among `OPERATORS`."""
    if name == "conv1d.default":
        return _conv1d
    found: Any = torch.ops.aten
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: int = 1,
) -> Tensor:
    """As `torch.conv1d`, with channels innermost in memory: the faster kernels want that."""
    flat = x.transpose(1, 2).contiguous().transpose(1, 2)  # copies nothing where it is so already
    taps = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    return torch.conv2d(
        flat.unsqueeze(2), taps, bias, (1, *stride), (0, *padding), (1, *dilation), groups
    ).squeeze(2)


def _plain(value: Any) -> Any:
    """The JSON form of an argument."""
    if isinstance(value, Of):
        return {_OF: value.name}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _rich(value: Any) -> Any:
    """Inverts `_plain`."""
    if isinstance(value, dict):
        return Of(value[_OF])
    return tuple(_rich(part) for part in value) if isinstance(value, list) else value

"""A torch program on its way into a TensorFlow Lite graph, node by node.

What depends on weights alone is computed here and becomes a constant. An operator without a
counterpart is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from fedspeech.errors import ExportRefused
from tflite_export.foreign.graph import OperatorGraph

if TYPE_CHECKING:  # torch's exporter takes a second to import
    from torch.export import ExportedProgram

Emit = Callable[["AtenProgram", Node], "int | list[int]"]


class AtenProgram:
    """A torch program on its way into a graph.

    Args:
      graph: where its operators go.
      program: one input and one output, both float32.
      counterparts: by name of torch's operator, what appends its counterpart.

    Attributes:
      values: what each node computes for the example, shapes above all.
    """

    def __init__(
        self, graph: OperatorGraph, program: ExportedProgram, counterparts: Mapping[str, Emit]
    ) -> None:
        self.graph, self._program, self._counterparts = graph, program, counterparts
        self.values: dict[Node, Any] = {}
        self._tensors: dict[Node, int | list[int]] = {}

    def convert(self, given: int, example: Tensor) -> int:
        """Appends the program to the graph; returns the tensor of its output.

        Args:
          given: tensor of the input.
          example: a value of the input, one row.

        Raises:
          ExportRefused: naming the operator that has no counterpart.
        """
        signature = self._program.graph_signature
        weights = {**self._program.state_dict, **self._program.constants}
        names = {
            **signature.inputs_to_parameters, **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }  # fmt: skip
        with torch.inference_mode():
            for node in self._program.graph.nodes:
                if node.op == "placeholder" and node.name in names:
                    self.values[node] = weights[names[node.name]].detach()
                elif node.op == "placeholder":
                    self.values[node], self._tensors[node] = example, given
                elif node.op == "call_function":
                    self._call(node)
                else:
                    (answer,) = node.args[0]
        tensor = self._tensors.get(answer)
        if not isinstance(tensor, int):
            raise ExportRefused("encoder: its output does not depend on its input")
        return tensor

    def _call(self, node: Node) -> None:
        """Computes a node, and appends its counterpart if it depends on the input."""
        arguments = torch.fx.map_arg((node.args, node.kwargs), self.values.__getitem__)
        assert callable(node.target)
        self.values[node] = node.target(*arguments[0], **arguments[1])
        if not any(one in self._tensors for one in node.all_input_nodes):
            return
        if not node.users or isinstance(self.values[node], (int, float, bool)):
            return  # a size of the example, which has one row like every call on a phone
        name = name_of(node.target)
        if name not in self._counterparts:
            raise ExportRefused(
                f"encoder: no operator of TensorFlow Lite stands for torch's {node.target}"
            )
        try:
            self._tensors[node] = self._counterparts[name](self, node)
        except Unlike as error:
            raise ExportRefused(f"encoder: torch's {node.target} with {error}") from None

    def argument(self, node: Node, place: int, name: str, default: Any = None) -> Any:
        """A plain argument of a node, by place or by name."""
        found = node.args[place] if place < len(node.args) else node.kwargs.get(name, default)
        return torch.fx.map_arg(found, self.values.__getitem__)

    def tensor(self, given: Any) -> int:
        """The tensor of an argument: what was computed, or a constant."""
        if isinstance(given, Node) and given in self._tensors:
            found = self._tensors[given]
            assert isinstance(found, int)
            return found
        value = self.values[given] if isinstance(given, Node) else given
        return self.graph.floats(np.asarray(value, dtype=np.float32))

    def list_of(self, given: Node) -> list[int]:
        """The tensors of an argument that has several."""
        found = self._tensors[given]
        return found if isinstance(found, list) else [found]

    def shape(self, node: Node) -> tuple[int, ...]:
        """Shape of what a node computes."""
        value = self.values[node]
        return tuple(value.shape) if isinstance(value, Tensor) else tuple(value[0].shape)


class Unlike(Exception):
    """Arguments that the counterpart of an operator does not have."""


def name_of(target: Any) -> str:
    """Name of an operator without its overload, and without the mark of those that overwrite."""
    if target is operator.getitem:
        return "getitem"
    name = str(target).removeprefix("aten.").split(".")[0]
    return name.rstrip("_") if not name.startswith("_") else name

"""A torch.export program, cut before some of its layers: what runs once, and what phones train.

Whatever depends on an adapted layer stands behind the cut. The values that cross it are laid side
by side, one row per clip: that row is what a phone caches.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from fedspeech.models.encoder import Activation, EncoderPart, clip_by_clip
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.models.exported.operators import SHARING
from fedspeech.models.exported.program import TorchNetwork, with_parameters
from fedspeech.models.frozen_graph import ADAPT, FrozenGraph, Layer, LayerKind, Of, Step
from fedspeech.models.pooling import Pooling
from fedspeech.seeds import canonical

_KINDS: dict[str, LayerKind] = {
    "aten.linear.default": "linear",
    "aten.conv1d.default": "conv1d",
    "aten.conv2d.default": "conv2d",
}
_SIZE = "aten.sym_size.int"


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a program is cut.

    Attributes:
      nodes: of the program's graph, in their order.
      behind: names of those that depend on an adapted layer.
      crossing: names of those before the cut whose values go over it.
      weights: layer to the name of its weight's node.
      output: name of the node that the program answers with.
    """

    nodes: tuple[fx.Node, ...]
    behind: frozenset[str]
    crossing: tuple[str, ...]
    layers: tuple[str, ...]
    output: str


def adaptable(encoder: ForeignEncoder) -> dict[str, fx.Node]:
    """Layers that factors can be put on, by the path of their module: those that run once.

    Raises:
      ValueError: if the encoder is no torch program of a free batch dimension.
    """
    network = encoder.network
    if not isinstance(network, TorchNetwork):
        raise ValueError("lora trains through torch programs (.pt2), and the base has a .tflite")
    if network.input_shape[0] is not None:
        raise ValueError(
            "lora needs a program of any number of clips, this one was exported for "
            f"{network.input_shape[0]}; export it with a free batch dimension (Base.from_module)"
        )
    paths = network.program.graph_signature.inputs_to_parameters
    found: dict[str, fx.Node] = {}
    for node in network.program.graph.nodes:
        if str(node.target) in _KINDS and isinstance(node.args[1], fx.Node):
            path, _, part = paths.get(node.args[1].name, "").rpartition(".")
            groups = _named(node).get("groups", 1)
            # A layer that runs twice has one weight for both, and factors would be added to one.
            once = len(node.args[1].users) == 1
            if part == "weight" and groups == 1 and once:
                found[path] = node
    return found


@dataclass(frozen=True, eq=False)
class ProgramStart(EncoderPart):
    """What of an encoder stands before the cut, as an `Encoder` of one frame.

    Attributes:
      layers: that are adapted.
    """

    activation: ClassVar[Activation] = "identity"

    encoder: ForeignEncoder
    layers: tuple[str, ...]

    def __post_init__(self) -> None:
        """Finds the cut."""
        _ = self.shapes

    @property
    def num_windows(self) -> int:
        """One row."""
        return 1

    @property
    def num_features(self) -> int:
        """Values that cross the cut."""
        return sum(math.prod(shape) for shape in self.shapes)

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the encoder's hash and the place of the cut."""
        named = canonical("program start", self.encoder.sha256, *self.cut.crossing)
        return hashlib.sha256(named).hexdigest()

    @cached_property
    def cut(self) -> Cut:
        """Where the program is cut."""
        return _cut(self.encoder, self.layers)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each value that crosses, of one clip.

        Raises:
          ValueError: if one has no axis of clips.
        """
        # Three clips: no other axis of a network is likely to be as long.
        silence = np.zeros((3, self.context_samples + self.clip_samples), dtype=np.float32)
        values = self._crossing(silence)
        for name, value in zip(self.cut.crossing, values, strict=True):
            if not isinstance(value, Tensor) or value.ndim < 2 or len(value) != 3:
                raise ValueError(
                    f"what crosses the cut must have an axis of clips first, {name} of the program "
                    "has none: choose other lora.layers"
                )
        return tuple(tuple(value.shape[1:]) for value in values)

    def __call__(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns the row of each clip, (n, 1, values); see `Encoder.__call__`."""
        rows = [value.flatten(1) for value in self._crossing(heard)]
        return torch.cat(rows, dim=1).unsqueeze(1)

    def listening(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns the row of the clip that ends with each hop; see `ForeignEncoder.listening`."""
        return clip_by_clip(self, samples)

    def _crossing(self, heard: NDArray[np.float32]) -> tuple[Tensor, ...]:
        """The values that cross, each (n, ...)."""
        given = self.encoder.inputs(heard)
        network = self.encoder.network
        assert isinstance(network, TorchNetwork)
        if len(network.input_shape) == given.ndim + 1 and network.input_shape[1] == 1:
            given = given.unsqueeze(1)
        with torch.inference_mode():
            values: tuple[Tensor, ...] = self._module(given)
            return values

    @cached_property
    def _module(self) -> nn.Module:
        """The program that answers with what crosses, and computes nothing else."""
        network = self.encoder.network
        assert isinstance(network, TorchNetwork)
        module = network.program.module()
        nodes = {node.name: node for node in module.graph.nodes}
        (output,) = (node for node in module.graph.nodes if node.op == "output")
        # Without torch.export's own form of inputs and outputs, which is that of the whole program.
        module.graph.set_codegen(fx.graph.CodeGen())
        output.args = (tuple(nodes[name] for name in self.cut.crossing),)
        module.graph.eliminate_dead_code()
        module.recompile()
        return module


def with_added(encoder: ForeignEncoder, added: Mapping[str, NDArray[np.float64]]) -> ForeignEncoder:
    """The encoder with something added to the weights of layers, by their paths.

    Raises:
      ValueError: if it has no such layer, or what comes of it fails a probe.
    """
    known = adaptable(encoder)
    assert isinstance(encoder.network, TorchNetwork)
    values = encoder.network.program.state_dict
    changed = {}
    for layer, more in added.items():
        if layer not in known:
            raise ValueError(f"the encoder has no adaptable layer {layer!r}")
        path = f"{layer}.weight"
        weight = values[path].detach().numpy().astype(np.float64)
        changed[path] = (weight + more).astype(np.float32)
    return replace(encoder, content=with_parameters(encoder.content, changed))


def rest_of_program(start: ProgramStart, pooling: Pooling | None) -> FrozenGraph:
    """What stands behind the cut and the base's pooling, as a graph; see `cut.rest_of`.

    Raises:
      ValueError: if it holds what a frozen graph cannot, naming it.
    """
    return _Writer(start).graph(pooling)


def _cut(encoder: ForeignEncoder, layers: Sequence[str]) -> Cut:
    """Finds what depends on the layers, and what it needs from before."""
    known = adaptable(encoder)
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"lora.layers must be at least one, each once, got {list(layers)}")
    if unknown := [name for name in layers if name not in known]:
        raise ValueError(
            f"the encoder has no adaptable layer {unknown[0]!r}; it has {', '.join(known)}"
        )
    assert isinstance(encoder.network, TorchNetwork)
    program = encoder.network.program
    adapted = {known[name] for name in layers}
    behind: list[fx.Node] = []
    for node in program.graph.nodes:
        if node in adapted or not set(behind).isdisjoint(node.all_input_nodes):
            behind.append(node)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    constants = {*program.graph_signature.inputs_to_parameters}
    constants |= {*program.graph_signature.inputs_to_buffers}
    constants |= {*program.graph_signature.inputs_to_lifted_tensor_constants}
    crossing: dict[str, None] = {}
    for node in behind:
        for given in node.all_input_nodes:
            if given not in behind and given.name not in constants and str(given.target) != _SIZE:
                crossing[given.name] = None
    before = [node for node in program.graph.nodes if node not in behind]
    for given in before:
        if given.name in crossing:
            _check_unchanged(given, before)
    return Cut(
        nodes=tuple(program.graph.nodes),
        behind=frozenset(node.name for node in behind if node.op != "output"),
        crossing=tuple(crossing),
        layers=tuple(layers),
        output=output.all_input_nodes[0].name,
    )


def _check_unchanged(given: fx.Node, before: Sequence[fx.Node]) -> None:
    """Refuses a value that crosses the cut and is overwritten before the cut."""
    shared = _in_memory_of(given, before)
    for node in before[before.index(given) + 1 :]:
        if _overwrites(node) and node.args[0] in shared:
            raise ValueError(
                f"lora cannot cut after {given.name}, whose memory {node.name} overwrites; export "
                "the module with inplace=False there"
            )


class _Writer:
    """Writes the steps behind the cut."""

    def __init__(self, start: ProgramStart) -> None:
        network = start.encoder.network
        assert isinstance(network, TorchNetwork)
        self._start, self._program = start, network.program
        signature = self._program.graph_signature
        self._places = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        known = adaptable(start.encoder)
        self._adapted = {known[name].name: name for name in start.layers}
        self._steps: list[Step] = []
        self._layers: list[Layer] = []
        self._arrays: dict[str, NDArray[np.float32]] = {}
        self._now: dict[str, str] = {}  # of a value that was overwritten, what it became

    def graph(self, pooling: Pooling | None) -> FrozenGraph:
        """All of it."""
        self._unpack()
        for node in self._start.cut.nodes:
            if node.name in self._start.cut.behind:
                self._add(node)
        answer = self._start.cut.output
        self._pool(Of(self._now.get(answer, answer)), pooling)
        return FrozenGraph(
            inputs=("x",),
            steps=tuple(self._steps),
            output="features",
            layers=tuple(self._layers),
            arrays=self._arrays,
        )

    def _unpack(self) -> None:
        """The values that crossed, from the row of each clip (n, 1, values)."""
        begin = 0
        for name, shape in zip(self._start.cut.crossing, self._start.shapes, strict=True):
            end = begin + math.prod(shape)
            part = Step(f"{name}.row", "slice.Tensor", (Of("x"), 2, begin, end, 1))
            self._steps += [
                part,
                Step(name, "reshape.default", (Of(part.result), (-1, *shape))),
            ]
            begin = end

    def _add(self, node: fx.Node) -> None:
        """One operator, and what phones add to its result."""
        target = str(node.target)
        if not target.startswith("aten."):
            raise ValueError(f"lora cannot train through {node.name}, which is {target}")
        arguments = tuple(self._plain(argument, node) for argument in node.args)
        named = tuple((name, self._plain(value, node)) for name, value in node.kwargs.items())
        called, layer = target.removeprefix("aten."), self._adapted.get(node.name)
        if _overwrites(node):
            called = self._without_overwriting(node, called)
        if layer is None:
            self._steps.append(Step(node.name, called, arguments, named=named))
            return
        frozen, options = f"{node.name}.frozen", _named(node)
        shape = tuple(self._tensor(node.args[1]).shape)
        axes = len(shape) - 2
        self._steps.append(Step(frozen, called, arguments, named=named))
        self._steps.append(Step(node.name, ADAPT, (Of(frozen), arguments[0]), layer))
        stride, padding, dilation = (
            _each(options.get(name, default), axes)
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        self._layers.append(Layer(layer, _KINDS[target], shape, stride, padding, dilation))

    def _without_overwriting(self, node: fx.Node, called: str) -> str:
        """The operator that leaves its input alone; who takes that later, takes the result instead.

        Raises:
          ValueError: if another value that lies in the same memory is taken later.
        """
        given = node.args[0]
        assert isinstance(given, fx.Node)
        nodes = self._start.cut.nodes
        before, after = nodes[: nodes.index(node)], nodes[nodes.index(node) + 1 :]
        for other in _in_memory_of(given, before) - {given}:
            if not other.users.keys().isdisjoint(after):
                raise ValueError(
                    f"lora cannot train through {node.name}, which overwrites the memory of "
                    f"{other.name} before that is used; export the module with inplace=False there"
                )
        self._now[given.name] = node.name
        name, _, overload = called.partition(".")
        return f"{name.removesuffix('_')}.{overload}"

    def _pool(self, output: Of, pooling: Pooling | None) -> None:
        """From frames (n, w, f), or one vector, to the features that the head takes."""
        given = self._program.graph.nodes
        (node,) = (node for node in given if node.name == output.name)
        dimensions = node.meta["val"].ndim
        if dimensions == 4:
            raise ValueError("lora trains through networks that answer (n, w, f) or (n, f)")
        if pooling is None:
            operator, axes = ("mean.dim", (1,)) if dimensions == 3 else ("alias.default", None)
            arguments = (output,) if axes is None else (output, axes)
            self._steps.append(Step("features", operator, arguments))
            return
        if pooling.layers:
            raise ValueError(
                "lora trains through mean and maximum of frames, not a network on them"
            )
        frames = output
        if dimensions == 2:
            frames = self._step("pool.frames", "unsqueeze.default", output, 1)
        both = (
            self._step("pool.mean", "mean.dim", frames, (1,)),
            self._step("pool.max", "amax.default", frames, (1,)),
        )
        self._arrays |= {"pool.center": pooling.mean, "pool.matrix": pooling.matrix}
        joined = self._step("pool.both", "cat.default", both, 1)
        centered = self._step("pool.centered", "sub.Tensor", joined, Of("pool.center"))
        self._step("features", "matmul.default", centered, Of("pool.matrix"))

    def _step(self, result: str, operator: str, *arguments: Any) -> Of:
        self._steps.append(Step(result, operator, arguments))
        return Of(result)

    def _plain(self, argument: Any, node: fx.Node) -> Any:
        """An argument as a step has it."""
        if isinstance(argument, fx.Node):
            if argument.name in self._places:
                self._arrays[argument.name] = self._tensor(argument)
            elif argument.name not in {step.result for step in self._steps}:
                self._count(argument)
            return Of(self._now.get(argument.name, argument.name))
        if isinstance(argument, list | tuple):
            return tuple(self._plain(part, node) for part in argument)
        if argument is None or isinstance(argument, bool | int | float | str):
            return argument
        raise ValueError(f"lora cannot train through {node.name}, which takes {argument!r}")

    def _count(self, size: fx.Node) -> None:
        """The number of clips, which the program took of a value that does not cross."""
        if str(size.target) != _SIZE or size.args[1] != 0:
            raise ValueError(f"lora cannot train through {size.name}, a length that may change")
        self._steps.append(Step(size.name, "sym_size.int", (Of("x"), 0)))

    def _tensor(self, node: Any) -> NDArray[np.float32]:
        """The array behind a parameter, buffer or constant.

        Raises:
          ValueError: if it is not float32.
        """
        place = self._places[node.name]
        value = self._program.state_dict.get(place)
        if value is None:
            value = self._program.constants[place]
        if value.dtype != torch.float32:
            raise ValueError(f"lora trains in float32, {place} is {value.dtype}")
        return np.array(value.detach().numpy())


def _overwrites(node: fx.Node) -> bool:
    """Whether an operator changes its first input, such as an activation in place."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _in_memory_of(value: fx.Node, nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Those of some nodes whose results may lie in the memory of a value."""
    found, pairs = {value}, [{node, *node.all_input_nodes} for node in nodes if _shares(node)]
    while more := {node for pair in pairs if pair & found for node in pair} - found:
        found |= more
    return found


def _shares(node: fx.Node) -> bool:
    """Whether a result may lie in the memory of an input."""
    name = str(node.target).removeprefix("aten.").split(".")[0]
    return node.target is operator.getitem or name in SHARING or _overwrites(node)


def _named(node: fx.Node) -> dict[str, Any]:
    """The arguments of a layer by the names that torch gives them."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """One number for each axis of taps."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values

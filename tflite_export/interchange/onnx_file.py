"""The whole model as an ONNX file: samples in, logits out, for runtimes of computers and browsers.

The graph is written operator by operator from the arrays that every exported graph is made of, so
it needs neither torch's exporter nor TensorFlow. All its operators are ONNX's own, of opset 17. The
card is in the file's properties.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.extras import importing
from fedspeech.models.folded import FoldedConv
from fedspeech.rollout.adapter_file import CARD_ENTRY
from tflite_export.arrays import Network, convolution_steps, run_encoder
from tflite_export.card import Card
from tflite_export.interchange.transform import filters, waves

OPSET, IR_VERSION = 17, 8
INPUT, OUTPUT = "waveform", "logits"


@dataclass
class _Graph:
    """Nodes and constants as they are written; a method adds one and returns its output."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds an operator."""
        from onnx import helper

        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Adds a constant; returns its name."""
        self.constants[name] = np.array(value, dtype=dtype, order="C")
        return name


@dataclass(frozen=True)
class _Value:
    """An output while the encoder is written, which adds two of them."""

    graph: _Graph
    name: str

    def __add__(self, other: _Value) -> _Value:
        return _Value(self.graph, self.graph.add("Add", self.name, other.name))


def write_onnx(network: Network, card: Card) -> bytes:
    """Returns the bytes of an ONNX file: `waveform` (n, samples) to `logits` (n, c).

    Args:
      network: with the adapter merged.
      card: of the file.

    Raises:
      MissingExtra: if ONNX is not installed.
      ExportRefused: if ONNX's own checker refuses the graph.
    """
    with importing("onnx"):
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    graph = _Graph()
    frames = _encoder(graph, _standardized(graph, network), network)
    _scored(graph, frames, network)
    made = helper.make_graph(
        graph.nodes,
        "fedspeech",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", network.heard_samples])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", len(card.labels)])],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fedspeech",
        ir_version=IR_VERSION,
    )  # fmt: skip
    helper.set_model_props(model, {CARD_ENTRY: json.dumps(card.to_json(), sort_keys=True)})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportRefused(f"onnx: its checker refuses the graph: {str(error)[:300]}") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _standardized(graph: _Graph, network: Network) -> str:
    """Samples (n, s) to standardized log-mel (n, mels, frames)."""
    spec, constant = network.frontend, graph.constant
    signal = graph.add("Unsqueeze", INPUT, constant("channel", [1], np.int64))
    squares = []
    for name, wave in zip(("cosines", "sines"), waves(network), strict=True):
        part = graph.add("Conv", signal, constant(name, wave), strides=[spec.hop_samples])
        squares.append(graph.add("Mul", part, part))
    energies = graph.add(
        "MatMul", constant("filters", filters(network)), graph.add("Add", *squares)
    )
    log_mel = graph.add("Log", graph.add("Add", energies, constant("floor", spec.floor)))
    centered = graph.add("Sub", log_mel, constant("mean", network.feature_mean[:, np.newaxis]))
    return graph.add("Div", centered, constant("std", network.feature_std[:, np.newaxis]))


def _encoder(graph: _Graph, features: str, network: Network) -> str:
    """Features (n, mels, frames) to activated frames of the clip alone, (n, f, w)."""

    def convolve(name: str, conv: FoldedConv, x: _Value) -> _Value:
        weight = graph.constant(f"{name}.weight", conv.weight)
        bias = graph.constant(f"{name}.bias", conv.bias)
        # Causal: zeros stand before the first frame only.
        output = graph.add(
            "Conv", x.name, weight, bias, pads=[conv.left_padding, 0], strides=[conv.stride],
            kernel_shape=[conv.weight.shape[2]],
        )  # fmt: skip
        return _Value(graph, output)

    frames = run_encoder(
        network.encoder,
        _Value(graph, features),
        convolve=convolve,
        relu=lambda x: _Value(graph, graph.add("Relu", x.name)),
        note=lambda _, x: x,
    )
    activated = graph.add("Relu", frames.name)
    *_, (_, _, stride) = convolution_steps(network.encoder)
    bounds = {"from": network.context_frames // stride, "to": np.iinfo(np.int64).max, "axis": 2}
    places = (graph.constant(name, [value], np.int64) for name, value in bounds.items())
    return graph.add("Slice", activated, *places)


def _scored(graph: _Graph, frames: str, network: Network) -> None:
    """Activated frames (n, f, w) to logits, by a merged adapter."""
    adapter, parameters = network.adapter, network.parameters
    features = graph.add("ReduceMean", frames, axes=[2], keepdims=0)
    match adapter.name:
        case "head":
            pass
        case "bottleneck":
            down = graph.constant("down_weight", parameters["down_weight"].T)
            up = graph.constant("up_weight", parameters["up_weight"].T)
            hidden = graph.add("Relu", graph.add("MatMul", features, down))
            features = graph.add("Add", features, graph.add("MatMul", hidden, up))
        case _:
            raise ValueError(f"no graph is known for the adapter {adapter.name!r}")
    weight = graph.constant("head_weight", parameters["head_weight"])
    bias = graph.constant("head_bias", parameters["head_bias"])
    graph.add("Gemm", features, weight, bias, output=OUTPUT, transB=1)


class OnnxModel:
    """A loaded ONNX file, run by onnxruntime on one thread.

    Attributes:
      content: the file's bytes.
      card: of the file, JSON values.

    Raises:
      MissingExtra: if onnxruntime is not installed.
      ExportRefused: if onnxruntime cannot read the bytes, or the file carries no card.
    """

    def __init__(self, content: bytes) -> None:
        with importing("onnx"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            properties = self._session.get_modelmeta().custom_metadata_map
            self.card: dict[str, Any] = json.loads(properties[CARD_ENTRY])
        except KeyError as error:
            raise ExportRefused(f"card: the file has no property {error}") from error
        # Its exceptions have no common class but this one.
        except Exception as error:
            raise ExportRefused(
                f"onnxruntime cannot read this model of {len(content)} bytes: {error}"
            ) from error
        self.content = content

    def operators(self) -> dict[str, int]:
        """Counts the operators, by name.

        Raises:
          ExportRefused: if one is not ONNX's own.
        """
        import onnx

        graph = onnx.load_from_string(self.content).graph
        if foreign := sorted({node.op_type for node in graph.node if node.domain}):
            raise ExportRefused(f"operators: the file needs {', '.join(foreign)}, not ONNX's own")
        return dict(sorted(Counter(node.op_type for node in graph.node).items()))

    def run_each(self, signature: str, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Runs the graph once per row of a batch (n, samples), the way phones do.

        Raises:
          ValueError: if the signature is not its input, or rows have another shape.
        """
        (entry,) = self._session.get_inputs()
        if signature != entry.name or list(batch.shape[1:]) != entry.shape[1:]:
            raise ValueError(
                f"expected {entry.name} of shape {entry.shape}, got {signature} {batch.shape}"
            )
        rows = [self._session.run(None, {entry.name: row[np.newaxis]})[0] for row in batch]
        return np.concatenate(rows)

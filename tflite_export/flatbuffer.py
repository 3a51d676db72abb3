"""What stands in a .tflite file besides numbers: its operators, weights, and the card.

A .tflite file is a FlatBuffer. Both are read and written through the schema that LiteRT ships; the
caller has had LiteRT verify the bytes (`TfliteModel`) before they come here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedspeech.errors import ExportRefused
from fedspeech.extras import importing
from fedspeech.models.exported.litert import operator_name
from fedspeech.rollout.adapter_file import CARD_ENTRY

with importing("tflite"):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

CARD_TEXT_ENTRY = "fedspeech_card.md"
_BUFFER_ALIGNMENT = 16
_CALLING = {"WHILE", "IF", "CALL", "CALL_ONCE"}
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


def operators(content: bytes) -> dict[str, int]:
    """Counts the operators of every subgraph, by name as in the schema's BuiltinOperator, sorted.

    An operator that is not a builtin has the name "custom:" and its own.
    """
    model = _unpack(content)
    names = [operator_name(schema, code) for code in model.operatorCodes]
    counts = Counter(
        names[operator.opcodeIndex]
        for subgraph in model.subgraphs
        for operator in subgraph.operators or []
    )
    return dict(sorted(counts.items()))


def require_builtins(content: bytes) -> dict[str, int]:
    """Returns the operators of a file that needs nothing but TFLite's builtins.

    Raises:
      ExportRefused: if it needs a Flex (TensorFlow) or any other custom operator.
    """
    counts = operators(content)
    foreign = sorted(name for name in counts if name.startswith("custom:"))
    if foreign:
        raise ExportRefused(
            f"operators: a phone's runtime has builtins only, the file needs {', '.join(foreign)}"
        )
    return counts


def float_weights(content: bytes) -> int:
    """Counts the weights that compute in float, of the subgraph that has most of them.

    In a full-integer file those of the adapter are all: a converter that silently falls back to
    float would show here.
    """
    model = _unpack(content)
    names = [operator_name(schema, code) for code in model.operatorCodes]
    counts: list[int] = [
        sum(
            math.prod(subgraph.tensors[operator.inputs[1]].shape)
            for operator in subgraph.operators or []
            if names[operator.opcodeIndex] in _WEIGHTED
            # Weights are int8 in a dynamic file as well; what the input is tells how it computes.
            and subgraph.tensors[operator.inputs[0]].type != schema.TensorType.INT8
        )
        for subgraph in model.subgraphs
    ]
    # Signatures share weights, so a sum over subgraphs would count one weight several times.
    return max(counts)


def multiply_adds(content: bytes) -> dict[str, int]:
    """Signature to products of convolutions and matrices in one call of it.

    What is elementwise, a Fourier transform among it, is not counted.
    """
    model = _unpack(content)
    names = [operator_name(schema, code) for code in model.operatorCodes]
    found = {}
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        shapes = [tuple(tensor.shape) for tensor in graph.tensors]
        products = sum(
            math.prod(shapes[operator.outputs[0]]) * _products(shapes[operator.inputs[1]], name)
            for operator in graph.operators or []
            if (name := names[operator.opcodeIndex]) in _WEIGHTED
        )
        found[signature.signatureKey.decode()] = int(products)
    return dict(sorted(found.items()))


def _products(weights: tuple[int, ...], name: str) -> int:
    """Products behind one output: all weights of one channel, or the one dimension summed over."""
    match name:
        case "CONV_2D":
            return math.prod(weights[1:])
        case "DEPTHWISE_CONV_2D":
            return math.prod(weights[1:3])
        case "FULLY_CONNECTED":
            return weights[-1]
        case _:  # a matrix product, whose second factor is summed over its rows
            return weights[-2]


def embed_card(content: bytes, card: dict[str, Any], text: str = "") -> bytes:
    """Returns the file with the card as metadata entries; graph and weights stay as they are.

    `text` is the card for people, Markdown; empty leaves it out. Entries of the same names are
    replaced. What is written twice, such as the scales of a layer in two signatures, is stored
    once.
    """
    entries = {CARD_ENTRY: json.dumps(card, sort_keys=True, allow_nan=False).encode()}
    if text:
        entries[CARD_TEXT_ENTRY] = text.encode()
    return add_entries(content, entries)


def add_entries(content: bytes, entries: Mapping[str, bytes]) -> bytes:
    """Returns the file with metadata entries, name to bytes; those of the same names are replaced.

    What stands behind the model's own bytes is left out.
    """
    model = _unpack(content)
    # Metadata that the converter wrote (its version) stays.
    kept = [entry for entry in model.metadata or [] if entry.name.decode() not in entries]
    for name, value in entries.items():
        kept.append(schema.MetadataT(name=name, buffer=len(model.buffers)))
        model.buffers.append(schema.BufferT(data=np.frombuffer(value, dtype=np.uint8)))
    model.metadata = kept
    return _pack(model, len(content) + 2 * sum(map(len, entries.values())))


def read_entry(content: bytes, name: str) -> bytes | None:
    """The bytes of a metadata entry; None: there is none of this name."""
    model = _unpack(content)
    for entry in model.metadata or []:
        if entry.name == name.encode():
            return bytes(model.buffers[entry.buffer].data)
    return None


def alone(content: bytes, signature: str) -> bytes:
    """Returns the file with one signature and its subgraph, for tools that know no signatures.

    Raises:
      ExportRefused: if there is no such signature, or an operator calls another subgraph.
    """
    model = _unpack(content)
    kept = _signature(model, signature)
    if calling := _CALLING & set(operators(content)):
        raise ExportRefused(
            f"metadata: no subgraph stands alone where {', '.join(sorted(calling))} calls another"
        )
    (graph,) = model.subgraphs = [model.subgraphs[kept.subgraphIndex]]
    kept.subgraphIndex, model.signatureDefs = 0, [kept]
    used = {tensor.buffer for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
    return _pack(model, 2 * len(content))


def inputs(content: bytes) -> list[str]:
    """Names of the only signature's inputs, in the order of its subgraph."""
    model = _unpack(content)
    (signature,) = model.signatureDefs
    names = {entry.tensorIndex: entry.name.decode() for entry in signature.inputs}
    return [names[index] for index in model.subgraphs[0].inputs]


def _signature(model: schema.ModelT, name: str) -> schema.SignatureDefT:
    for entry in model.signatureDefs or []:
        if entry.signatureKey == name.encode():
            return entry
    raise ExportRefused(f"metadata: the file has no signature {name!r}")


def _pack(model: schema.ModelT, size: int) -> bytes:
    builder = _SharingBuilder(size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def read_card(content: bytes) -> dict[str, Any]:
    """Reads the card back.

    Raises:
      ExportRefused: if the file carries none, or one that is not JSON.
    """
    content_of_card = read_entry(content, CARD_ENTRY)
    if content_of_card is None:
        raise ExportRefused(f"card: the file has no metadata entry {CARD_ENTRY}")
    try:
        card: dict[str, Any] = json.loads(content_of_card)
    except ValueError as error:
        raise ExportRefused(f"card: the embedded card is not JSON: {error}") from error
    return card


def card_bytes(content: bytes) -> int:
    """Bytes of a file that are its card, for programs and for people."""
    model = _unpack(content)
    return sum(
        len(model.buffers[entry.buffer].data)
        for entry in model.metadata or []
        if entry.name.decode() in (CARD_ENTRY, CARD_TEXT_ENTRY)
    )


def _unpack(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes equal arrays once, and aligns bytes as the schema's `force_align: 16` asks.

    Flatbuffers' own Python does neither.
    """

    def __init__(self, initial_size: int) -> None:
        super().__init__(initial_size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802
        """Writes an array, or points at an equal one."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        """Begins a vector; byte vectors hold the weights."""
        if elemSize == 1:
            alignment = _BUFFER_ALIGNMENT
        start: int = super().StartVector(elemSize, numElems, alignment)
        return start

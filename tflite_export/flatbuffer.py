"""What stands in a .tflite file besides numbers: its operators, and the card embedded in it.

A .tflite file is a FlatBuffer. Both are read and written through the schema that LiteRT ships; the
caller has had LiteRT verify the bytes (`TfliteModel`) before they come here.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedspeech.errors import ExportRefused

CARD_ENTRY = "fedspeech_card.json"
_BUFFER_ALIGNMENT = 16
_OPERATOR_NAMES = {
    code: name
    for name, code in vars(schema.BuiltinOperator).items()
    if not name.startswith("_") and isinstance(code, int)
}


def operators(content: bytes) -> dict[str, int]:
    """Counts the operators of every subgraph.

    Args:
      content: bytes of a .tflite file.

    Returns:
      Name to count, names as in the schema's BuiltinOperator, sorted; an operator that is not a
      builtin has the name "custom:" and its own.
    """
    model = _unpack(content)
    names = [_operator_name(code) for code in model.operatorCodes]
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


def embed_card(content: bytes, card: dict[str, Any]) -> bytes:
    """Returns the file with the card as a metadata entry; graph and weights stay as they are.

    An entry of the same name is replaced.

    Args:
      content: bytes of a .tflite file.
      card: JSON values.
    """
    model = _unpack(content)
    entries = [entry for entry in model.metadata or [] if entry.name != CARD_ENTRY.encode()]
    text = json.dumps(card, sort_keys=True, allow_nan=False)
    entry = schema.MetadataT(name=CARD_ENTRY, buffer=len(model.buffers))
    model.buffers.append(schema.BufferT(data=np.frombuffer(text.encode(), dtype=np.uint8)))
    model.metadata = [*entries, entry]
    builder = _AlignedBuilder(len(content) + 2 * len(text))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def read_card(content: bytes) -> dict[str, Any]:
    """Reads the card back.

    Raises:
      ExportRefused: if the file carries none, or one that is not JSON.
    """
    model = _unpack(content)
    for entry in model.metadata or []:
        if entry.name == CARD_ENTRY.encode():
            try:
                card: dict[str, Any] = json.loads(bytes(model.buffers[entry.buffer].data))
            except ValueError as error:
                raise ExportRefused(f"card: the embedded card is not JSON: {error}") from error
            return card
    raise ExportRefused(f"card: the file has no metadata entry {CARD_ENTRY}")


def _unpack(content: bytes) -> schema.ModelT:
    """Parses a file into the schema's objects."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _operator_name(code: schema.OperatorCodeT) -> str:
    """Names an operator; old files keep its number in the deprecated field."""
    if code.customCode is not None:
        return f"custom:{code.customCode.decode()}"
    name: str = _OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return name


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns byte vectors as the schema's `force_align: 16` asks; flatbuffers' Python does not."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        """Begins a vector; byte vectors hold the weights."""
        if elemSize == 1:
            alignment = _BUFFER_ALIGNMENT
        start: int = super().StartVector(elemSize, numElems, alignment)
        return start

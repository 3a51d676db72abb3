"""What the process that holds TensorFlow is told to build: a graph and its arrays, in a file.

No pickle and neither torch nor TensorFlow: arrays in safetensors, the rest as JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from fedspeech.audio.spec import Cepstra, FrontendSpec
from fedspeech.models.folded import FoldedBlock, FoldedConv, FoldedEncoder
from fedspeech.vectors import ParameterSpec
from tflite_export.arrays import AdapterShape, Network

GraphName = Literal[
    "keyword",
    "firmware",
    "streaming",
    "micro",
    "wake-word",
    "personal",
    "sentence",
    "personal-sentence",
]
Precision = Literal["float", "fp16", "dynamic", "int8"]
Ranges = Mapping[str, tuple[float, float]]

_HEADER, _ARRAY, _CLASS = "blueprint", "array", "class"


@dataclass(frozen=True, kw_only=True, eq=False)
class Blueprint:
    """One graph to build and convert.

    Attributes:
      graph: which one.
      network: its arrays; merged, except for the personal graphs.
      precision: of the weights: "fp16" and "dynamic" (int8) compute in float, "int8" in integers.
      ranges: layer to smallest and largest value, for "int8".
      base_sha256: hex, of a personal graph's base: an adapter of another base is not restored.
      batch_clips: clips of one training step of the personal graph for words.
    """

    graph: GraphName
    network: Network
    precision: Precision = "float"
    ranges: Ranges | None = None
    base_sha256: str = ""
    batch_clips: int = 0

    def save(self, path: Path) -> None:
        """Writes the file."""
        arrays: dict[str, NDArray[Any]] = {}

        def form(value: Any) -> dict[str, Any]:
            """The JSON form of an array, which is kept apart, or of a dataclass."""
            if isinstance(value, np.ndarray):
                name = str(len(arrays))
                # safetensors writes the memory as it lies, whatever the strides say.
                arrays[name] = np.ascontiguousarray(value)
                return {_ARRAY: name}
            named = {field.name: getattr(value, field.name) for field in fields(value)}
            return {_CLASS: type(value).__name__, **named}

        header = json.dumps(self, default=form)
        save_file(arrays, path, metadata={_HEADER: header})

    @classmethod
    def load(cls, path: Path) -> Blueprint:
        """Reads what `save` wrote."""
        known = (
            AdapterShape, Blueprint, Cepstra, FoldedBlock, FoldedConv, FoldedEncoder, FrontendSpec,
            Network, ParameterSpec,
        )  # fmt: skip
        classes = {known_class.__name__: known_class for known_class in known}
        with safe_open(path, framework="numpy") as file:

            def value(form: dict[str, Any]) -> Any:
                """What stands for a JSON object: an array, a dataclass, or a mapping."""
                if _ARRAY in form:
                    return file.get_tensor(form[_ARRAY])
                named = {name: _tuples(entry) for name, entry in form.items() if name != _CLASS}
                return classes[form[_CLASS]](**named) if _CLASS in form else named

            found: Blueprint = json.loads(file.metadata()[_HEADER], object_hook=value)
        return found


def _tuples(value: Any) -> Any:
    """The tuples that JSON has made lists of."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

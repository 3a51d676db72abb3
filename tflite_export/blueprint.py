"""What the process that holds TensorFlow is told to build: a graph and its arrays, in a file.

No pickle and neither torch nor TensorFlow: arrays in safetensors, the rest as JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from fedspeech.audio.spec import Cepstra, FrontendSpec
from fedspeech.models.folded import FoldedBlock, FoldedConv, FoldedEncoder
from fedspeech.vectors import ParameterSpec
from tflite_export.arrays import AdapterShape, Network, convolution_steps

GraphName = Literal["keyword", "firmware", "streaming", "personal", "sentence", "personal-sentence"]
Precision = Literal["float", "fp16", "dynamic", "int8"]
Ranges = Mapping[str, tuple[float, float]]

_HEADER = "blueprint"
_ARRAYS = ("window", "mel_bins", "mel_weights", "feature_mean", "feature_std")


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
        network = self.network
        convolutions = {name: conv for name, conv, _ in convolution_steps(network.encoder)}
        arrays = {name: getattr(network, name) for name in _ARRAYS}
        if network.frontend.cepstra:
            arrays |= {"offset": network.offset, "cosines": network.cosines}
        arrays |= {f"parameters.{name}": value for name, value in network.parameters.items()}
        for name, conv in convolutions.items():
            arrays |= {f"encoder.{name}.weight": conv.weight, f"encoder.{name}.bias": conv.bias}
        header = {
            "graph": self.graph,
            "precision": self.precision,
            "ranges": None if self.ranges is None else dict(self.ranges),
            "base_sha256": self.base_sha256,
            "batch_clips": self.batch_clips,
            "frontend": asdict(network.frontend),
            "context_frames": network.context_frames,
            "strides": {name: conv.stride for name, conv in convolutions.items()},
            "adapter": asdict(network.adapter),
        }
        # safetensors writes the memory as it lies, whatever the strides say.
        packed = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        save_file(packed, path, metadata={_HEADER: json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> Blueprint:
        """Reads what `save` wrote."""
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ranges = header["ranges"]
        return cls(
            graph=header["graph"],
            network=_network(header, arrays),
            precision=header["precision"],
            ranges=None if ranges is None else {name: (a, b) for name, (a, b) in ranges.items()},
            base_sha256=header["base_sha256"],
            batch_clips=header["batch_clips"],
        )


def _network(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Network:
    """Puts the arrays back in their places."""
    frontend, adapter = header["frontend"], header["adapter"]
    # `asdict` made a mapping of it; the spec wants the dataclass.
    cepstra = frontend.pop("cepstra")
    shapes = tuple((name, tuple(shape)) for name, shape in adapter["spec"]["shapes"])
    prefix = "parameters."
    return Network(
        **{name: arrays[name] for name in _ARRAYS},
        offset=arrays.get("offset"),
        cosines=arrays.get("cosines"),
        context_frames=header["context_frames"],
        frontend=FrontendSpec(**frontend, cepstra=Cepstra(**cepstra) if cepstra else None),
        encoder=_encoder(header["strides"], arrays),
        adapter=AdapterShape(
            adapter["name"], ParameterSpec(shapes), tuple(adapter["embedding_shape"])
        ),
        parameters={
            name.removeprefix(prefix): value
            for name, value in arrays.items()
            if name.startswith(prefix)
        },
    )


def _encoder(strides: Mapping[str, int], arrays: Mapping[str, NDArray[Any]]) -> FoldedEncoder:
    """Rebuilds the encoder from the names that `convolution_steps` gives its layers."""

    def conv(name: str) -> FoldedConv:
        weight, bias = (arrays[f"encoder.{name}.{part}"] for part in ("weight", "bias"))
        return FoldedConv(weight, bias, strides[name])

    def block(name: str) -> FoldedBlock:
        shortcut = f"{name}.shortcut"
        passed = conv(shortcut) if shortcut in strides else None
        return FoldedBlock(conv(f"{name}.first"), conv(f"{name}.second"), passed)

    # Every block has a first convolution; a shortcut only some of them.
    count = sum(name.endswith(".first") for name in strides)
    blocks = tuple(block(f"block{index}") for index in range(count))
    return FoldedEncoder(conv("stem"), blocks, conv("output"))

"""Runs a .tflite file with LiteRT and checks what goes in.

LiteRT's own SignatureRunner resizes the graph to whatever shape it is given and computes something;
`TfliteModel` refuses instead.

    model = TfliteModel(Path("model_float.tflite").read_bytes())
    logits = model.run("waveform", waveform=clip)["logits"]     # (1, 16000) float32 -> (1, c)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.extras import importing
from fedspeech.models.exported.litert import without_banner

with importing("tflite"):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

Kernels = Literal["optimized", "reference"]
_RESOLVERS = {"optimized": OpResolverType.AUTO, "reference": OpResolverType.BUILTIN_REF}


@dataclass(frozen=True)
class TensorSpec:
    """Shape and element type of one input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Signature:
    """A named entry into the file: its inputs and outputs by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class TfliteModel:
    """A loaded .tflite file; one thread, so that bits do not depend on the machine's load.

    Args:
      content: the file's bytes.
      kernels: "optimized" are those that LiteRT takes by itself (XNNPACK among them), "reference"
        the plain ones, whose integer arithmetic others follow. In full-integer files they round
        differently.

    Attributes:
      content: the file's bytes.
      kernels: as given.
      signatures: what it can compute, by name.

    Raises:
      ExportRefused: if LiteRT cannot read the bytes: torn, truncated, or not TFLite at all.
    """

    def __init__(self, content: bytes, kernels: Kernels = "optimized") -> None:
        try:
            with without_banner():
                self._interpreter = Interpreter(
                    model_content=content,
                    num_threads=1,
                    experimental_op_resolver_type=_RESOLVERS[kernels],
                )
                # Shapes are worked out here: what does not fit together fails now, not in a call.
                self._interpreter.allocate_tensors()
                names = self._interpreter.get_signature_list()
                self._runners = {
                    name: self._interpreter.get_signature_runner(name) for name in names
                }
        except (ValueError, RuntimeError) as error:
            raise ExportRefused(
                f"LiteRT cannot read this model of {len(content)} bytes: {error}"
            ) from error
        self.content, self.kernels = content, kernels
        self.signatures = {
            name: Signature(_specs(runner.get_input_details()), _specs(runner.get_output_details()))
            for name, runner in self._runners.items()
        }

    def run(self, signature: str, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs one signature on every one of its inputs; returns its outputs by name.

        Raises:
          ValueError: if signature, names, a shape or an element type differ from the file's.
        """
        if signature not in self.signatures:
            raise ValueError(
                f"expected one of the signatures {sorted(self.signatures)}, got {signature!r}"
            )
        expected = self.signatures[signature].inputs
        if set(inputs) != set(expected):
            raise ValueError(
                f"{signature} takes the inputs {sorted(expected)}, got {sorted(inputs)}"
            )
        for name, spec in expected.items():
            value = inputs[name]
            # LiteRT's own runner resizes an input without a word and answers something.
            if value.shape != spec.shape or value.dtype != spec.dtype:
                raise ValueError(
                    f"{signature} takes {name} of shape {spec.shape} and type {spec.dtype}, "
                    f"got {value.shape} and {value.dtype}"
                )
        outputs: dict[str, NDArray[Any]] = self._runners[signature](**inputs)
        return outputs

    def call(self, signature: str) -> dict[str, NDArray[Any]]:
        """Runs a signature that needs nothing: its one input, `call`, may hold anything."""
        return self.run(signature, call=np.zeros(1, dtype=np.float32))

    def run_each(self, signature: str, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Runs a signature of one input and one output once per row of a batch (n, ...).

        Raises:
          ValueError: as `run`, or if the signature has several inputs or outputs.
        """
        spec = self.signatures.get(signature)
        if spec is not None and (len(spec.inputs) != 1 or len(spec.outputs) != 1):
            raise ValueError(f"expected one input and one output, got {spec}")
        name = next(iter(spec.inputs)) if spec is not None else ""
        rows = [
            next(iter(self.run(signature, **{name: batch[row : row + 1]}).values()))
            for row in range(len(batch))
        ]
        return np.concatenate(rows)


def _specs(details: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"]))
        for name, detail in details.items()
    }

"""Runs a file with TensorFlow Lite Micro's own interpreter, and measures the memory it needs.

model = MicroModel(content)
logits = model.run(frames)        # (1, 4, 40) int8 -> (1, c) float32
least_arena_bytes(content)
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.extras import importing
from fedspeech.models.exported.litert import standard_error_into
from tflite_export.micro.sources import MicroFile

_PLENTY = 1 << 20
_ALIGNMENT = 16


class MicroModel:
    """A file of one input and one output, loaded by TensorFlow Lite Micro.

    Args:
      content: the file's bytes.
      arena_bytes: memory that the interpreter gets; None: plenty.

    Attributes:
      resource_variables: how many variables hold the stream's past; an app makes room for them.

    Raises:
      MissingExtra: if TensorFlow Lite Micro is not installed.
      ExportRefused: if the interpreter refuses the file, as for an operator that it does not have
        or an arena that is too small.
    """

    def __init__(self, content: bytes, arena_bytes: int | None = None) -> None:
        # Not with this module: phones' files are checked where it is not installed.
        with importing("micro"):
            from tflite_micro.python.tflite_micro import runtime
        self.content = content
        self.resource_variables = int(runtime.count_resource_variables(content))
        with tempfile.TemporaryFile() as caught, standard_error_into(caught):
            try:
                self._interpreter = runtime.Interpreter.from_bytes(
                    content, arena_size=arena_bytes or _PLENTY
                )
            except RuntimeError as error:
                raise ExportRefused(
                    f"TensorFlow Lite Micro refuses this file of {len(content)} bytes: "
                    f"{_last_line(caught) or error}"
                ) from error

    def run(self, value: NDArray[Any]) -> NDArray[Any]:
        """Hands in the one input, of the file's own shape and type; returns the one output.

        Raises:
          ValueError: if shape or type differ.
        """
        details = self._interpreter.get_input_details(0)
        expected = tuple(int(size) for size in details["shape"]), np.dtype(details["dtype"])
        if (value.shape, value.dtype) != expected:
            raise ValueError(f"expected {expected}, got {value.shape} and {value.dtype}")
        self._interpreter.set_input(value, 0)
        self._interpreter.invoke()
        # The interpreter's own memory is behind what it returns, and the next call fills it anew.
        output: NDArray[Any] = np.array(self._interpreter.get_output(0))
        return output

    @property
    def input(self) -> tuple[tuple[int, ...], float, int]:
        """Shape, scale and zero point of the input."""
        details = self._interpreter.get_input_details(0)
        quantization = details["quantization_parameters"]
        shape = tuple(int(size) for size in details["shape"])
        return shape, float(quantization["scales"][0]), int(quantization["zero_points"][0])


def measured(content: bytes) -> MicroFile:
    """A file with what an app must know of it.

    Raises:
      ExportRefused: if TensorFlow Lite Micro refuses it.
    """
    model = MicroModel(content)
    (_, frames, _), scale, zero_point = model.input
    return MicroFile(
        content=content,
        frames=frames,
        scale=scale,
        zero_point=zero_point,
        resource_variables=model.resource_variables,
        arena_bytes=least_arena_bytes(content),
    )


def least_arena_bytes(content: bytes) -> int:
    """The smallest arena in which the file loads on this 64-bit machine, to 16 bytes.

    Found by trying: what the interpreter reports of itself leaves out what planning takes.

    Raises:
      ExportRefused: if it does not load at all.
    """
    MicroModel(content)
    low, high = 0, _PLENTY // _ALIGNMENT
    while high - low > 1:
        middle = (low + high) // 2
        try:
            MicroModel(content, middle * _ALIGNMENT)
            high = middle
        except ExportRefused:
            low = middle
    return high * _ALIGNMENT


def _last_line(caught: Any) -> str:
    caught.seek(0)
    lines = [line.strip() for line in caught.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")

"""From a graph to the bytes of a .tflite file."""

from __future__ import annotations

import re
import tempfile
from typing import Any, Literal

import tensorflow as tf

from fedspeech.errors import ExportRefused
from tflite_export.layers import Layers

Precision = Literal["float", "fp16", "dynamic", "int8"]


def convert(graph: Layers, precision: Precision = "float") -> bytes:
    """Converts with TFLite's builtin operators and nothing else.

    All signatures share one set of weights in the file. They travel through a SavedModel in a
    temporary folder because the converter takes several signatures in no other way.

    Args:
      graph: what to convert; for "int8" one that was made with ranges.
      precision: of the weights: "fp16" and "dynamic" (int8) compute in float, "int8" in integers.

    Returns:
      The file's bytes.

    Raises:
      ExportRefused: if an operation has no builtin counterpart.
    """
    signatures: dict[str, Any] = graph.signatures()
    with tempfile.TemporaryDirectory(prefix="fedspeech-export-") as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        if precision != "float":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content: bytes = converter.convert()
        # The converter's own exception type is private to TensorFlow; every one of them means that
        # there is no file.
        except Exception as error:
            raise ExportRefused(
                f"conversion: TensorFlow refused the graph: {_reason(error)}"
            ) from error
    return content


def _reason(error: Exception) -> str:
    """The operations the converter has no builtin for, else how its report begins."""
    needed = re.search(r"TF Select ops: (.+)", str(error))
    return f"no builtin operator for {needed[1]}" if needed else str(error)[:500]

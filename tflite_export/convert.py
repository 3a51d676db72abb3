"""From the graph to the bytes of a float .tflite file."""

from __future__ import annotations

import re
import tempfile

import tensorflow as tf

from fedspeech.errors import ExportRefused
from tflite_export.graph import KeywordGraph
from tflite_export.weights import Network


def convert_float(network: Network) -> bytes:
    """Converts with TFLite's builtin operators and nothing else.

    Both signatures share one set of weights in the file. They travel through a SavedModel in a
    temporary folder because the converter takes several signatures in no other way.

    Args:
      network: the arrays.

    Returns:
      The file's bytes, float32 throughout.

    Raises:
      ExportRefused: if an operation has no builtin counterpart.
    """
    graph = KeywordGraph(network)
    signatures = graph.signatures()
    with tempfile.TemporaryDirectory(prefix="fedspeech-export-") as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
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

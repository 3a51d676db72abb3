"""The process that holds TensorFlow, and no torch: blueprints in, .tflite files out.

`tflite_export.converter.Converter` starts it as `python -m tflite_export.convert` and nobody else
imports it: TensorFlow crashes a process that later loads triton, which comes with torch.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from fedspeech.errors import ExportRefused
from tflite_export.blueprint import Blueprint, Precision
from tflite_export.keyword_graphs import FirmwareGraph, KeywordGraph, StreamingGraph
from tflite_export.layers import Layers
from tflite_export.micro.graphs import MicroGraph
from tflite_export.micro.wake_word import WakeWordGraph
from tflite_export.personal import PersonalGraph
from tflite_export.sentence_graphs import PersonalSentenceGraph, SentenceGraph


def main() -> None:
    """Answers one line of JSON on standard output for every line on standard input.

    A line names the blueprint's file and the file to write. The reply says the CPU seconds that it
    took, and why the graph was refused, or null. The process ends with its input, that is at the
    latest with its parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    # TensorFlow's native code prints on standard output too, which would tear the replies: all that
    # it prints goes to standard error.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked, started, refused = json.loads(line), time.process_time(), None
        try:
            blueprint = Blueprint.load(Path(asked["blueprint"]))
            Path(asked["file"]).write_bytes(convert(graph_of(blueprint), blueprint.precision))
        except ExportRefused as error:
            refused = str(error)
        reply = {"refused": refused, "cpu_seconds": time.process_time() - started}
        print(json.dumps(reply), file=replies, flush=True)


def graph_of(blueprint: Blueprint) -> Layers:
    """Builds the graph that a blueprint names."""
    network, ranges = blueprint.network, blueprint.ranges
    match blueprint.graph:
        case "keyword":
            return KeywordGraph(network, ranges)
        case "firmware":
            return FirmwareGraph(network, ranges)
        case "streaming":
            return StreamingGraph(network, ranges)
        case "micro":
            return MicroGraph(network, ranges)
        case "wake-word":
            return WakeWordGraph(network, ranges)
        case "personal":
            return PersonalGraph(network, blueprint.base_sha256, blueprint.batch_clips)
        case "sentence":
            return SentenceGraph(network, ranges)
        case "personal-sentence":
            return PersonalSentenceGraph(network, blueprint.base_sha256)


def convert(graph: Layers, precision: Precision) -> bytes:
    """Converts with TFLite's builtin operators and nothing else; returns the file's bytes.

    All signatures share one set of weights in the file. For "int8" the graph has ranges.

    Raises:
      ExportRefused: if an operation has no builtin counterpart.
    """
    signatures: dict[str, Any] = graph.signatures()
    # The converter takes several signatures from a SavedModel and in no other way.
    with tempfile.TemporaryDirectory(prefix="fedspeech-export-") as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        # Without SELECT_TF_OPS: an operation that a phone's runtime lacks fails here, loudly.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        # What files remember (streams, adapters) are resource variables, taken with this flag only.
        converter.experimental_enable_resource_variables = True
        if precision != "float":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # Else every variable holds floats, of which each call makes integers and back.
        streams = isinstance(graph, StreamingGraph) and precision == "int8"
        converter._experimental_variable_quantization = graph.integer_stream or streams
        if graph.integer_stream:
            converter.inference_input_type = tf.int8
        if graph.integer_output:
            converter.inference_output_type = tf.uint8
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content: bytes = converter.convert()
        # The converter's own exception type is private to TensorFlow; every one of them means that
        # there is no file.
        except Exception as error:
            # The report is pages of MLIR; this line of it is what a person can act on.
            needed = re.search(r"TF Select ops: (.+)", str(error))
            reason = f"no builtin operator for {needed[1]}" if needed else str(error)[:500]
            raise ExportRefused(f"conversion: TensorFlow refused the graph: {reason}") from error
    return content


if __name__ == "__main__":
    main()

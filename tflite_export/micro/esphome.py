"""The manifest that ESPHome and pymicro-wakeword read beside a wake word, and what they require.

manifest("computer", "model_esphome.tflite", arena_bytes=24_000, recipe=recipe)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.detection_recipe import DetectionRecipe
from tflite_export.arrays import FloatArray, Network
from tflite_export.checks import Check, at_least, at_most
from tflite_export.evidence import Evidence
from tflite_export.files import json_bytes
from tflite_export.flatbuffer import operators
from tflite_export.interpreter import TfliteModel
from tflite_export.micro.blueprint import multiply_adds_per_second
from tflite_export.micro.checks import (
    ARENA_LIMIT_BYTES,
    LITERT_CLIPS,
    MULTIPLY_ADDS_LIMIT,
    MicroStream,
)
from tflite_export.micro.runtime import MicroModel, least_arena_bytes
from tflite_export.parity import least_of_sample

CUTOFF, WINDOW = 0.8, 5
"""Of a file without a recipe: answers, one every 40 ms, whose mean exceeds the cutoff."""
OPERATORS = frozenset(
    (
        "ADD", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D", "CALL_ONCE", "CONCATENATION", "CONV_2D",
        "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PACK",
        "PAD", "QUANTIZE", "READ_VARIABLE", "RESHAPE", "SPLIT_V", "STRIDED_SLICE", "VAR_HANDLE",
    )
)  # fmt: skip
"""What ESPHome's component `micro_wake_word` registers."""
LARGEST_NUMBER_OF_VARIABLES = 20
LEAST_AGREEMENT = 0.98
PROBABILITY_LIMIT = 0.5
"""A probability that is further from torch's is a fault, not rounding."""
_FIRST_VERSION = "2024.7.0"


def manifest(word: str, model: str, arena_bytes: int, recipe: DetectionRecipe | None) -> bytes:
    """The manifest of version 2, as JSON; with the recipe of the file, which counts its answers."""
    cutoff, window = CUTOFF, WINDOW
    if recipe is not None:
        (cutoff,), window = recipe.thresholds, recipe.rules.smoothing_hops
    return json_bytes(
        {
            "type": "micro",
            "wake_word": word,
            "author": "fedspeech",
            "website": "",
            "model": model,
            "trained_languages": ["en"],
            "version": 2,
            "micro": {
                # A mean must exceed it, and the threshold itself suffices: so it is rounded down.
                "probability_cutoff": math.floor(1e4 * cutoff) / 1e4,
                "sliding_window_size": window,
                "feature_step_size": 10,
                "tensor_arena_size": arena_bytes,
                "minimum_esphome_version": _FIRST_VERSION,
            },
        }
    )


def pairwise(logits: FloatArray) -> NDArray[np.float64]:
    """The product of the word against each other label, (n,), of logits (n, c), word first."""
    margins = logits[:, :1].astype(np.float64) - logits[:, 1:]
    product: NDArray[np.float64] = (1 / (1 + np.exp(-margins))).prod(axis=1)
    return product


def wake_word_checks(model: TfliteModel, evidence: Evidence, network: Network) -> Iterator[Check]:
    """The checks of a file for ESPHome.

    Raises:
      ExportRefused: if TensorFlow Lite Micro refuses the file, or a check fails.
    """
    micro, spec = MicroModel(model.content), network.frontend
    foreign = set(operators(model.content)) - OPERATORS
    yield at_most(
        "operators that ESPHome does not register", len(foreign), 0, ", ".join(sorted(foreign))
    )
    yield at_most(
        "resource variables",
        micro.resource_variables,
        LARGEST_NUMBER_OF_VARIABLES,
        "ESPHome's room",
    )
    stream = MicroStream(micro.run, micro, spec)
    places = evidence.held_out.evenly(LITERT_CLIPS)
    found = stream.answers_to(evidence.held_out_log_mel[places])[:, 0] / 256
    expected = pairwise(evidence.held_out_logits[places])
    clips = f"{len(found)} held-out clips, in TensorFlow Lite Micro"
    yield at_least(
        "wake word agreement", ((found >= 0.5) == (expected >= 0.5)).mean(),
        least_of_sample(LEAST_AGREEMENT, len(found)), clips,
    )  # fmt: skip
    yield at_most(
        "largest difference of a probability from torch", np.abs(found - expected).max(),
        PROBABILITY_LIMIT, clips,
    )  # fmt: skip
    yield at_most(
        "arena, bytes", least_arena_bytes(model.content), ARENA_LIMIT_BYTES,
        "TensorFlow Lite Micro with pointers of 64 bits; those of 32 need less",
    )  # fmt: skip
    yield at_most(
        "multiply-adds a second", multiply_adds_per_second(network), MULTIPLY_ADDS_LIMIT,
        "convolutions and head",
    )  # fmt: skip

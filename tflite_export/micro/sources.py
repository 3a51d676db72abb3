"""The C and C++ that stand around a model on a microcontroller, written for that model.

    micro_sources(measured(content), spec, labels, recipe)["front_end.c"]

`front_end.c` computes the log-mel of a `FrontendSpec` from 16-bit samples, `listener.cc` ties it to
the model; `front_end_test.c` holds golden vectors, and runs on a desk as on a board.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.evaluation.detection_recipe import DetectionRecipe
from fedspeech.evaluation.streaming import DEFAULT_THRESHOLD, ListeningRules
from tflite_export.evidence import log_mel
from tflite_export.flatbuffer import operators
from tflite_export.front_end import golden_waveform, render

SOURCES = (
    "front_end.h", "front_end.c", "front_end_tables.h", "front_end_test.c", "model_micro.h",
    "listener.h", "listener.cc",
)  # fmt: skip
GOLDEN_HOPS = 50
_ARENA_STEP = 512
_PER_LINE = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class MicroFile:
    """A file for microcontrollers, and what TensorFlow Lite Micro was found to need for it.

    Attributes:
      content: its bytes.
      frames: of log-mel, that a call takes.
      scale, zero_point: of the input: log-mel = scale * (integer - zero point).
      resource_variables: how many variables hold the past of the stream.
      arena_bytes: the least memory that it loads in, with pointers of 64 bits.
    """

    content: bytes = field(repr=False)
    frames: int
    scale: float
    zero_point: int
    resource_variables: int
    arena_bytes: int


def micro_sources(
    file: MicroFile, spec: FrontendSpec, labels: Sequence[str], recipe: DetectionRecipe | None
) -> dict[str, bytes]:
    """Name to text of every file in `SOURCES`.

    Args:
      file: the model.
      spec: of its front end.
      labels: of its answers.
      recipe: of this file, in its own calls; None: `DEFAULT_THRESHOLD` for every word, and the
        durations of `ListeningRules`.
    """
    values: dict[str, Mapping[str, Any]] = {
        "front_end.h": {
            "spec": spec, "floor": number(spec.floor), "scale": number(file.scale),
            "zero_point": number(file.zero_point),
        },
        "front_end.c": {},
        "front_end_tables.h": tables(spec),
        "front_end_test.c": golden(spec, file.scale, file.zero_point),
        "model_micro.h": {
            "file": file, "labels": [json.dumps(label) for label in labels],
            "arena": math.ceil(file.arena_bytes / _ARENA_STEP) * _ARENA_STEP,
        },
        "listener.h": {"rules": recipe.rules if recipe else _rules(spec, file.frames)},
        "listener.cc": {
            "operators": resolver_calls(operators(file.content)),
            "levels": _levels(labels[:-NUM_NEGATIVE_LABELS], recipe),
            "origin": _origin(recipe),
        },
    }  # fmt: skip
    return {
        name: render(
            f"micro/{name}", floats=_floats, integers=_integers, number=number, **given
        ).encode()
        for name, given in values.items()
    }


def _rules(spec: FrontendSpec, frames: int) -> ListeningRules:
    """Durations in calls of so many frames, for a file without a recipe."""
    return ListeningRules.every(spec.hop_ms * frames)


def _levels(words: Sequence[str], recipe: DetectionRecipe | None) -> list[tuple[str, float]]:
    """Each word's threshold as log-odds of its mean probability."""
    found = recipe.thresholds if recipe else (DEFAULT_THRESHOLD,) * len(words)
    return [(word, float(special.logit(one))) for word, one in zip(words, found, strict=True)]


def _origin(recipe: DetectionRecipe | None) -> str:
    """Where thresholds and durations come from, for a comment."""
    if recipe is None:
        return f"no recipe in card.json: {DEFAULT_THRESHOLD:g} for every word"
    return f"the detection recipe in card.json, for {recipe.rate:g} false accepts an hour"


def resolver_calls(counts: Mapping[str, int]) -> list[str]:
    """Names of the calls of a `MicroMutableOpResolver` that add these operators."""
    return [
        "Add"
        + "".join(part if part[0].isdigit() else part.capitalize() for part in name.split("_"))
        for name in counts
    ]


def tables(spec: FrontendSpec) -> dict[str, NDArray[np.float64] | list[int]]:
    """The tables of the front end in C, by name."""
    front_end = LogMel(spec)
    filters = front_end.filters.numpy()
    rows = [np.flatnonzero(column) for column in filters.T]
    turns = 2 * np.pi * np.arange(spec.fft_samples // 2) / spec.fft_samples
    return {
        "window": front_end.window.numpy().astype(np.float64) / 2**15,
        "cosines": np.cos(turns),
        "sines": np.sin(turns),
        "first": [int(row[0]) for row in rows],
        "bins": [int(row[-1] - row[0] + 1) for row in rows],
        "weights": np.concatenate(
            [filters[row[0] : row[-1] + 1, mel] for mel, row in enumerate(rows)]
        ),
    }


def golden(spec: FrontendSpec, scale: float, zero_point: int) -> dict[str, object]:
    """Samples, and the integers that the features of training become."""
    samples = golden_waveform(spec, GOLDEN_HOPS * spec.hop_samples)
    before = spec.window_samples - spec.hop_samples
    waveform = np.pad(samples, (before, 0)).astype(np.float32) / np.float32(2**15)
    features = log_mel(spec, waveform[np.newaxis])[0]
    integers = np.clip(np.round(features / np.float32(scale)) + zero_point, -128, 127)
    expected = integers.astype(int).ravel().tolist()
    return {"hops": GOLDEN_HOPS, "samples": samples.tolist(), "expected": expected}


def number(value: float) -> str:
    """A float of C with the digits that single precision has."""
    digits = f"{value:.9g}"
    return f"{digits}f" if set(digits) & set(".en") else f"{digits}.0f"


def _capitalized(part: str) -> str:
    return part if part[0].isdigit() else part.capitalize()  # Conv2D


def _floats(values: Iterable[float]) -> str:
    return _lines([number(float(value)) for value in values])


def _integers(values: Iterable[int]) -> str:
    return _lines([str(value) for value in values])


def _lines(written: Sequence[str]) -> str:
    return "".join(
        "    " + ", ".join(written[start : start + _PER_LINE]) + ",\n"
        for start in range(0, len(written), _PER_LINE)
    )

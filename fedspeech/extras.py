"""Packages that only an extra of fedspeech installs, asked for by name before they are needed.

require("export")         # MissingExtra: exporting needs TensorFlow ...: pip install ...
lacking("plots")          # the same sentence, or "" where the packages are there

with importing("tuning"):  # around the imports themselves
    import optuna
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from fedspeech.errors import FedspeechError


class MissingExtra(FedspeechError):
    """What was asked for needs packages that an extra of fedspeech installs."""


@dataclass(frozen=True)
class Extra:
    """What one extra of `pyproject.toml` is for.

    Attributes:
      serves: what needs it, as a sentence begins.
      brings: its packages, by the names that people know.
      modules: top-level modules by which they are imported; all must be there.
    """

    serves: str
    brings: str
    modules: tuple[str, ...]


EXTRAS: Mapping[str, Extra] = {
    "export": Extra(
        "exporting", "TensorFlow and LiteRT", ("tensorflow", "ai_edge_litert", "flatbuffers")
    ),
    "tflite": Extra(
        "reading a .tflite file, or making one of an encoder from elsewhere,",
        "LiteRT",
        ("ai_edge_litert", "flatbuffers"),
    ),
    "micro": Extra(
        "a file for microcontrollers",
        "the package tflite-micro, in which it is run before it is published,",
        ("tflite_micro",),
    ),
    "executorch": Extra("the file for ExecuTorch", "its package", ("executorch",)),
    "onnx": Extra("the file for ONNX", "ONNX and onnxruntime", ("onnx", "onnxruntime")),
    "speech-embedding": Extra(
        "the base speech-embedding",
        "the package pyopen-wakeword and LiteRT",
        ("pyopen_wakeword", "ai_edge_litert", "flatbuffers"),
    ),
    "audit": Extra(
        "judging voices by an independent encoder", "the package Resemblyzer", ("resemblyzer",)
    ),
    "world": Extra("changing the pitch of recordings", "the package pyworld", ("pyworld",)),
    "ray": Extra("Flower's simulation engine", "Ray", ("ray",)),
    "plots": Extra("drawing plots", "plotly", ("plotly",)),
    "tuning": Extra("tuning", "Optuna", ("optuna",)),
    "tensorboard": Extra("the TensorBoard logger", "TensorBoard", ("tensorboard",)),
    "mlflow": Extra("the MLflow logger", "MLflow", ("mlflow",)),
    "wandb": Extra("the Weights and Biases logger", "its package", ("wandb",)),
}


def lacking(name: str) -> str:
    """Says in one line that an extra is not installed, and how to install it; "" if it is.

    Nothing is imported.
    """
    return "" if all(map(_is_there, EXTRAS[name].modules)) else _sentence(name)


def require(name: str) -> None:
    """Refuses what needs an extra that is not installed.

    Raises:
      MissingExtra: in the words of `lacking`.
    """
    if said := lacking(name):
        raise MissingExtra(said)


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Surrounds imports of an extra's modules.

    Raises:
      MissingExtra: if one of them is not installed; any other error passes as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[name].modules:
            raise
        raise MissingExtra(_sentence(name)) from error


def _sentence(name: str) -> str:
    extra = EXTRAS[name]
    return f"{extra.serves} needs {extra.brings}: pip install 'fedspeech[{name}]'"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a finder refuses it, or what stands in for it has no spec
        return False

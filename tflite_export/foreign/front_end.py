"""The front end of an encoder from elsewhere as operators: samples in, what its network takes out.

The spectrum is a convolution with cosines and sines: half a megabyte for the bands up to 3,800 Hz,
and builtin operators on every phone.
"""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.models.exported.encoder import Declared
from fedspeech.models.exported.mel import FLOOR_DB, HOP_SAMPLES, SpeechEmbeddingMel
from tflite_export.foreign.graph import OperatorGraph


def append_front_end(graph: OperatorGraph, declared: Declared, samples: int) -> int:
    """Appends what an encoder does to samples (1, n) before its network; returns the result."""
    if declared.padding_samples:
        behind = graph.integers([[0, 0], [0, declared.padding_samples]])
        shape = (1, graph.shape(samples)[1] + declared.padding_samples)
        samples = graph.operator("PAD", (samples, behind), shape, schema.PadOptionsT())
    front_end = declared.front_end
    if isinstance(front_end, LogMel):
        energies = _energies(graph, samples, front_end, front_end.spec.hop_samples)
        floored = graph.binary("ADD", energies, graph.floats(front_end.spec.floor))
        return graph.unary("LOG", floored)
    if isinstance(front_end, SpeechEmbeddingMel):
        energies = _energies(graph, samples, front_end, HOP_SAMPLES)
        floored = graph.binary("MAXIMUM", energies, graph.floats(10 ** (FLOOR_DB / 10)))
        decades = graph.binary("MUL", graph.unary("LOG", floored), graph.floats(1 / math.log(10)))
        return graph.binary("ADD", decades, graph.floats(2.0))
    return samples


def _energies(
    graph: OperatorGraph, samples: int, front_end: LogMel | SpeechEmbeddingMel, hop: int
) -> int:
    """Energies of bands (1, frames, mels) of samples (1, n)."""
    waves, bands = _waves(front_end.window.numpy(), front_end.filters.numpy())
    length = graph.shape(samples)[1]
    frames = 1 + (length - waves.shape[2]) // hop
    row = graph.reshape(samples, (1, 1, length, 1))
    options = schema.Conv2DOptionsT(
        padding=schema.Padding.VALID, strideH=1, strideW=hop, dilationHFactor=1, dilationWFactor=1
    )  # fmt: skip
    given = (row, graph.floats(waves), graph.floats(np.zeros(len(waves))))
    spectrum = graph.operator("CONV_2D", given, (1, 1, frames, len(waves)), options)
    power = graph.binary("MUL", spectrum, spectrum)
    summed = graph.dense(power, bands, np.zeros(len(bands)))
    return graph.reshape(summed, (1, frames, len(bands)))


def _waves(
    window: NDArray[np.float32], filters: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windowed cosines and sines (2 b, 1, window, 1) of the bins in use, and bands (mels, 2 b)."""
    bins = np.flatnonzero(filters.any(axis=1))
    size = 2 * (len(filters) - 1)
    angles = 2 * np.pi * np.outer(bins, np.arange(len(window))) / size
    waves = np.concatenate([np.cos(angles), np.sin(angles)]) * window
    bands = np.concatenate([filters[bins], filters[bins]]).T
    return waves[:, None, :, None].astype(np.float32), np.ascontiguousarray(bands)

"""Files of a keyword model whose encoder comes from elsewhere: two `.tflite` files, the adapter.

A file takes samples, as a phone hears them. Front end, encoder, pooling, adapter and head are one
graph of builtin operators, put together here: that of a `.tflite` encoder is taken over as it is,
that of a torch program is rebuilt operator by operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from fedspeech.errors import ExportRefused
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.models.exported.tflite import TfliteNetwork
from tflite_export.adapter_file import write_adapter
from tflite_export.blueprint import Blueprint
from tflite_export.card import Card, TaskOnCard
from tflite_export.checks import Check, at_most
from tflite_export.converter import Converter, carrying
from tflite_export.evidence import Evidence, repeated
from tflite_export.family import Family, Material
from tflite_export.foreign.aten import append_program
from tflite_export.foreign.front_end import append_front_end
from tflite_export.foreign.graph import OperatorGraph
from tflite_export.interpreter import TfliteModel
from tflite_export.keywords import KEYWORDS
from tflite_export.parity import require_answers, require_logits
from tflite_export.weights import Trained

_BLOCK = 64  # clips whose sound is in memory at once

NARROW = "int8-weights"
SIGNATURE, INPUT, OUTPUT = "waveform", "waveform", "logits"
LOGIT_LIMIT = 1e-4
"""Of a logit, over the largest: features of an encoder from elsewhere have any scale."""

NARROW_LOGIT_LIMIT = 0.1
"""The same of the file with int8 weights: more is a fault and no rounding."""

LEAST_AGREEMENT = {"float": 0.999, NARROW: 0.99}


class ForeignFamily(Family):
    """See `family.Family`.

    Args:
      evidence: the trained model and what its files are compared on.
    """

    task: ClassVar[TaskOnCard] = KEYWORDS
    files: ClassVar = {
        "float": "model_float.tflite",
        NARROW: "model_int8_weights.tflite",
        "adapter": "adapter.safetensors",
    }
    # The one with fewer bits is judged on every held-out clip: longer than the end of a run should.
    run_kinds = ("float", "adapter")
    beside: ClassVar = {}
    own_recordings = False

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.trained = evidence, evidence.trained
        self.num_inputs, self.num_speech_inputs = len(evidence.probes), len(evidence.speech)
        self.logit_limit = LOGIT_LIMIT * max(1.0, float(np.abs(evidence.logits).max()))

    @classmethod
    def of(cls, trained: Trained, material: Material) -> Self:
        """See `family.Family.of`."""
        return cls(Evidence(trained, repeated(material.speech), material.held_out()))

    def make(self, kind: str, card: Card, converter: Converter) -> bytes:
        """See `family.Family.make`; nothing is converted by TensorFlow."""
        if kind == "adapter":
            return write_adapter(self.trained, card.inside(kind))
        content = whole_model(self.trained, narrow=kind == NARROW)
        return carrying(content, card.inside(kind))

    def blueprint(self, kind: str) -> Blueprint:
        """Refuses: TensorFlow builds none of these graphs."""
        raise ExportRefused(f"{kind}: TensorFlow builds no graph of an encoder from elsewhere")

    def calibrated_on(self, kind: str) -> dict[str, Any] | None:
        """See `family.Family.calibrated_on`."""
        return None

    def checks(self, kind: str, model: TfliteModel) -> Iterator[Check]:
        """Every logit of the probes, and every answer to held-out people."""
        if kind not in LEAST_AGREEMENT:
            raise ExportRefused(f"card: no file of the family is called {kind!r}")
        evidence, held_out = self.evidence, self.evidence.held_out
        every = len(held_out.labels)
        if kind == "float":
            found = model.run_each(SIGNATURE, evidence.probes)
            yield from require_logits(
                SIGNATURE, evidence.logits, found, limit=self.logit_limit,
                speech=len(evidence.speech),
            )  # fmt: skip
        blocks = (held_out.waveforms[start : start + _BLOCK] for start in range(0, every, _BLOCK))
        found = np.concatenate([model.run_each(SIGNATURE, block) for block in blocks])
        expected = evidence.held_out_logits
        yield from require_answers(
            SIGNATURE, expected, found, held_out, least_agreement=LEAST_AGREEMENT[kind]
        )
        if kind == NARROW:
            yield at_most(
                f"{SIGNATURE}, largest difference of a logit from torch, over the largest logit",
                float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())),
                NARROW_LOGIT_LIMIT, f"{len(found)} held-out clips",
            )  # fmt: skip

    def write_beside(self, name: str, detection: Mapping[str, Any] | None) -> bytes:
        """Refuses: nothing stands beside these files."""
        raise ExportRefused(f"{name}: nothing stands beside the files of such a base")


def whole_model(trained: Trained, *, narrow: bool = False) -> bytes:
    """Returns a `.tflite` file from samples (1, context + clip) to logits (1, c).

    Args:
      trained: the model.
      narrow: whether the encoder's weights are stored in int8; front end and adapter never are.

    Raises:
      ExportRefused: naming the torch operator, or the adapter, that has no counterpart.
    """
    trained = trained.merged()
    encoder = trained.base.encoder
    assert isinstance(encoder, ForeignEncoder)
    graph = OperatorGraph()
    samples = graph.input(INPUT, (1, trained.base.heard_samples))
    given = append_front_end(graph, encoder.declared, samples)
    given = graph.reshape(given, encoder.network.row_shape(graph.shape(given)))
    before = graph.num_operators
    frames = _append_network(graph, encoder, given)
    if narrow:
        graph.narrow_weights(before)
    frames = graph.reshape(frames, (1, encoder.num_windows, encoder.num_features))
    logits = _append_adapter(graph, trained, _append_pooling(graph, trained, frames))
    return graph.finish(SIGNATURE, {INPUT: samples}, {OUTPUT: logits})


def _append_network(graph: OperatorGraph, encoder: ForeignEncoder, given: int) -> int:
    network = encoder.network
    if isinstance(network, TfliteNetwork):
        return graph.graft(network.content, given)
    return append_program(graph, network.program, given, torch.zeros(graph.shape(given)))


def _append_pooling(graph: OperatorGraph, trained: Trained, frames: int) -> int:
    """What adapters take of frames (1, w, f): one vector as (1, 1, g), or the frames."""
    pooling = trained.base.pooling
    if pooling is None:
        return frames
    if pooling.layers:
        _, windows, features = graph.shape(frames)
        joined = graph.reshape(frames, (1, 1, windows * features))
        for weight, bias in pooling.layers:
            joined = graph.unary("RELU", graph.dense(joined, weight, bias))
    else:
        both = [graph.reduce(name, frames, (1,)) for name in ("MEAN", "REDUCE_MAX")]
        options = schema.ConcatenationOptionsT(axis=2)
        joined = graph.operator("CONCATENATION", both, (1, 1, len(pooling.mean)), options)
    # Before the product and not folded into its bias: whitening would enlarge what rounds off.
    centered = graph.binary("SUB", joined, graph.floats(pooling.mean))
    return graph.dense(centered, pooling.matrix.T, np.zeros(pooling.num_features))


def _append_adapter(graph: OperatorGraph, trained: Trained, x: int) -> int:
    """Logits (1, c) of what adapters take, (1, w, f)."""
    values = trained.parameters
    name, known = trained.adapter.name, ("head", "affine", "bottleneck")
    if name not in known:
        raise ExportRefused(
            f"adapter: files of an encoder from elsewhere are made with {', '.join(known)} and "
            f"lora, and not with {name}"
        )
    if name == "affine":
        x = graph.binary("MUL", x, graph.floats(values["scale"]))
        x = graph.binary("ADD", x, graph.floats(values["shift"]))
    pooled = graph.reshape(graph.reduce("MEAN", x, (1,)), (1, graph.shape(x)[2]))
    if name == "bottleneck":
        down, up = values["down_weight"], values["up_weight"]
        hidden = graph.unary("RELU", graph.dense(pooled, down, np.zeros(len(down))))
        pooled = graph.binary("ADD", pooled, graph.dense(hidden, up, np.zeros(len(up))))
    return graph.dense(pooled, values["head_weight"], values["head_bias"])

"""Low-rank factors on layers inside the encoder, and the head (LoRA, Hu et al. 2021).

Layer W of the encoder becomes W + (alpha / r) B A with A (r, inputs, *taps) and B (outputs, r), as
arXiv:2106.09685, Eq. 3, and for convolutions as PEFT lays them out. B is zero at first, so the
adapter begins as the base. What stands before the first adapted layer never changes: it is computed
once per clip and is all that a phone caches. What stands behind it is frozen but for the factors,
and training runs through it (`FrozenGraph`).

Phones share every frozen layer, so a block of phones goes through it as one batch; only the thin
products with A and B are each phone's own. A normalization that was folded into a layer scales B's
outputs as it scales W's, so that the factors are those of the layer as it was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedspeech.corpora.corpus import OutputUnit
from fedspeech.models.adapters.adapter import (
    Adapter,
    Batch,
    LogitGradient,
    labels_first,
)
from fedspeech.models.adapters.head import copied_head, head_logits, head_shapes
from fedspeech.models.base import Base
from fedspeech.models.cut import start_of, with_added
from fedspeech.models.encoder import Activation, Encoder
from fedspeech.models.frozen_graph import FrozenGraph, Layer
from fedspeech.seeds import stream
from fedspeech.vectors import ParameterSpec

_ByTap = tuple[int, int, int]  # frames, taps, rank
_Places = list[slice]  # of each tap, the frames that it meets


@dataclass(frozen=True, eq=False)
class LoraAdapter(Adapter):
    """See the module. Sizes: f features of the graph's output, c outputs.

    Attributes:
      graph: from what is cached of a clip to its features (f,).
      frames: shape of what is cached of a clip, before the first adapted layer.
      rank: r.
      alpha: the factors' product counts alpha / r.
    """

    name: ClassVar[str] = "lora"
    output_unit: ClassVar[OutputUnit] = "clip"
    activation: ClassVar[Activation] = "identity"  # the graph holds those of the encoder
    block_phones: ClassVar[int] = 16

    graph: FrozenGraph
    frames: tuple[int, ...]
    num_features: int
    num_labels: int
    rank: int
    alpha: float

    @property
    def spec(self) -> ParameterSpec:
        """Two factors of each layer, then the head; see `lora_shapes`."""
        shapes = [(layer.name, layer.weight_shape) for layer in self.graph.layers]
        return lora_spec(shapes, self.rank, self.num_features, self.num_labels)

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Shape of the frames before the cut."""
        return self.frames

    def initial(
        self, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """A uniform in +-1/sqrt(inputs * taps) from a fixed stream, B zero, and the base's head."""
        found = {}
        for layer in self.graph.layers:
            # Only B may be zero: with both at zero, neither would ever have a gradient.
            shape = (self.rank, *layer.weight_shape[1:])
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            drawn = stream(0, "lora_A", layer.name).uniform(-bound, bound, shape)
            found[factor_a(layer.name)] = drawn.astype(np.float32)
            found[factor_b(layer.name)] = np.zeros((layer.weight_shape[0], self.rank), np.float32)
        return found | copied_head(self.spec, head_weight, head_bias)

    def encoder(self, base: Base) -> Encoder:
        """What runs before the first adapted layer."""
        return start_of(base, [layer.name for layer in self.graph.layers])

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Keeps the frames before the first adapted layer as they are."""
        return encoder_output

    def embed_frames(self, base: Base, frames: Tensor) -> Tensor:
        """As `embed`: what pools a base's frames stands in the graph."""
        del base
        return frames

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores embeddings (p, n, *embedding_shape) as logits (p, n, c)."""
        return self._logits(parameters, embeddings, {})

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates by torch, and runs what depends on no factor once for all steps."""
        if "still" not in batch.kept:
            given = {self.graph.inputs[0]: batch.embeddings.flatten(0, 1)}
            batch.kept["still"] = self.graph.run(given, moving=False)
        own = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        with torch.enable_grad():
            logits = self._logits(own, batch.embeddings, batch.kept["still"])
        by_logit = logit_gradient(labels_first(logits.detach()).clone(), batch)
        found = torch.autograd.grad(logits, list(own.values()), by_logit.transpose(1, 2))
        return dict(zip(own, found, strict=True))

    def merged(self, base: Base, parameters: Mapping[str, NDArray[np.float32]]) -> Base:
        """A base that computes the same: W + (alpha / r) B A in the place of each W, and the head.

        Raises:
          ValueError: if the encoder is from elsewhere and with these weights fails a probe.
        """
        added = {}
        for layer in self.graph.layers:
            a, b = (
                parameters[name(layer.name)].astype(np.float64) for name in (factor_a, factor_b)
            )
            added[layer.name] = np.tensordot(b, a, axes=1) * (self.alpha / self.rank)
        return replace(
            base,
            encoder=with_added(base, added),
            head_weight=np.array(parameters["head_weight"]),
            head_bias=np.array(parameters["head_bias"]),
        )

    def _logits(
        self, parameters: Mapping[str, Tensor], embeddings: Tensor, known: Mapping[str, Tensor]
    ) -> Tensor:
        """Logits (p, n, c), with results of the graph that are known already."""
        given = known or {self.graph.inputs[0]: embeddings.flatten(0, 1)}

        def adapt(layer: Layer, output: Tensor, x: Tensor) -> Tensor:
            scale: Tensor | float = self.alpha / self.rank
            if layer.scale:
                scale = scale * self.graph.tensors(x.device)[layer.scale][:, None]
            a, b = parameters[factor_a(layer.name)], parameters[factor_b(layer.name)]
            return _ADDED[layer.kind](layer, output, x, a, b * scale)

        features = self.graph.run(given, adapt)[self.graph.output]
        return head_logits(parameters, features.view(*embeddings.shape[:2], self.num_features))


def factor_a(layer: str) -> str:
    """Name of the factor that meets a layer's input."""
    return f"{layer}.lora_A"


def factor_b(layer: str) -> str:
    """Name of the factor that gives a layer's output."""
    return f"{layer}.lora_B"


def lora_spec(
    layers: Sequence[tuple[str, tuple[int, ...]]], rank: int, num_features: int, num_labels: int
) -> ParameterSpec:
    """Of each layer, by name and weight shape, A (r, inputs, *taps) and B (outputs, r); the head.

    Raises:
      ValueError: if a rank is not positive or larger than a layer can use.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for name, (outputs, *inner) in layers:
        if not 1 <= rank <= min(outputs, math.prod(inner)):
            raise ValueError(
                f"rank must be in [1, {min(outputs, math.prod(inner))}], what the layer {name} can "
                f"use, got {rank}"
            )
        shapes += [(factor_a(name), (rank, *inner)), (factor_b(name), (outputs, rank))]
    return ParameterSpec((*shapes, *head_shapes(num_features, num_labels)))


def _add_linear(layer: Layer, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Adds B A x of each phone to (p * n, ..., outputs)."""
    del layer
    rows = x.reshape(len(a), -1, x.shape[-1])
    thin = torch.bmm(rows, a.transpose(1, 2))
    flat = output.reshape(len(a), -1, output.shape[-1])
    return torch.baddbmm(flat, thin, b.transpose(1, 2)).view(output.shape)


def _add_conv1d(layer: Layer, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Adds B (A * x) of each phone to (p * n, outputs, w).

    One matrix product over all frames serves every tap; what the taps give is then added up where
    they meet. That reads the frames once, and not once for each tap.
    """
    num_phones, rank, channels, taps = a.shape
    (stride,), (padding,), (dilation,) = layer.stride, layer.padding, layer.dilation
    if padding:
        x = functional.pad(x, (padding, padding))
    width, outputs = output.shape[2], output.shape[1]
    places = [
        slice(tap * dilation, tap * dilation + stride * (width - 1) + 1, stride)
        for tap in range(taps)
    ]
    added, _ = _Taps.apply(  # type: ignore[no-untyped-call]
        output.transpose(1, 2).reshape(num_phones, -1, outputs),
        x.transpose(1, 2).reshape(num_phones, -1, channels),
        a.permute(0, 3, 1, 2).reshape(num_phones, taps * rank, channels),
        b,
        (x.shape[2], taps, rank),
        places,
    )
    assert isinstance(added, Tensor)
    return added.view(len(x), width, outputs).transpose(1, 2)


class _Taps(torch.autograd.Function):
    """`output + B (A * x)`, differentiated by hand: torch would fill and add memory for each tap.

    Shapes: output (p, n * w, outputs), rows of x (p, n * frames, channels), A with its taps before
    its rank (p, taps * r, channels), B (p, outputs, r).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        output: Tensor, rows: Tensor, a: Tensor, b: Tensor, by_tap: _ByTap, places: _Places
    ) -> tuple[Tensor, Tensor]:
        """Returns the sum, and what A gives, (p, n * w, r)."""
        parts = torch.bmm(rows, a.transpose(1, 2)).view(-1, *by_tap)
        thin = parts[:, places[0], 0]
        for tap, place in enumerate(places[1:], start=1):
            thin = thin + parts[:, place, tap]
        thin = thin.reshape(len(a), -1, by_tap[2])
        return torch.baddbmm(output, thin, b.transpose(1, 2)), thin

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keeps what the way back needs."""
        _, rows, a, b, ctx.by_tap, ctx.places = inputs
        ctx.save_for_backward(rows, a, b, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, pull: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Derivatives by output, rows, A and B."""
        rows, a, b, thin = ctx.saved_tensors
        by_thin = torch.bmm(pull, b)
        parts = rows.new_zeros(len(rows), rows.shape[1], a.shape[1]).view(-1, *ctx.by_tap)
        by_clip = by_thin.view(len(parts), -1, ctx.by_tap[2])
        for tap, place in enumerate(ctx.places):
            parts[:, place, tap] = by_clip
        flat = parts.view(len(rows), rows.shape[1], a.shape[1])
        by_rows = torch.bmm(flat, a) if ctx.needs_input_grad[1] else None
        by_a = torch.bmm(flat.transpose(1, 2), rows)
        return pull, by_rows, by_a, torch.bmm(pull.transpose(1, 2), thin), None, None


def _add_conv2d(layer: Layer, output: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Adds B (A * x) of each phone to (p * n, outputs, h, w)."""
    num_phones, rank = a.shape[:2]
    patches = functional.unfold(
        x, layer.weight_shape[2:], layer.dilation, layer.padding, layer.stride
    ).view(num_phones, -1, math.prod(a.shape[2:]), output.shape[2] * output.shape[3])
    thin = a.reshape(num_phones, 1, rank, -1) @ patches
    return output + (b.unsqueeze(1) @ thin).reshape(output.shape)


_ADDED = {"linear": _add_linear, "conv1d": _add_conv1d, "conv2d": _add_conv2d}

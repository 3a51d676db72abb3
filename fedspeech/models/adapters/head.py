"""The head alone: the last linear layer of the base, trained on pooled encoder features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import OutputUnit
from fedspeech.models.adapters.adapter import Adapter, Batch, LogitGradient
from fedspeech.models.encoder import Activation, activated
from fedspeech.vectors import ParameterSpec


@dataclass(frozen=True)
class HeadAdapter(Adapter):
    """logits = W mean_w(a(x)) + b. What is cached per clip is the pooled embedding.

    Sizes: f features of the encoder, c outputs; a is the activation that the encoder leaves.
    """

    name: ClassVar[str] = "head"
    output_unit: ClassVar[OutputUnit] = "clip"

    num_features: int
    num_labels: int
    activation: Activation = "relu"

    @property
    def spec(self) -> ParameterSpec:
        """Parameters head_weight (c, f) and head_bias (c,)."""
        return ParameterSpec(head_shapes(self.num_features, self.num_labels))

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """(f,)."""
        return (self.num_features,)

    def initial(
        self, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Copies the base's head; see `Adapter.initial`."""
        return copied_head(self.spec, head_weight, head_bias)

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Pools (n, w, f) to (n, f)."""
        return pooled(encoder_output, self.activation)

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores embeddings (p, n, f) as logits (p, n, c)."""
        return head_logits(parameters, embeddings)

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates the objective; see `Adapter.gradients`."""
        return head_gradients(
            logit_gradient(head_scores(parameters, batch.by_feature), batch), batch.embeddings
        )


def pooled(encoder_output: Tensor, activation: Activation) -> Tensor:
    """Applies the encoder's last activation and averages the windows: (..., w, f) to (..., f)."""
    return activated(encoder_output, activation).mean(dim=-2)


def head_shapes(num_features: int, num_labels: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of the last linear layer, which every adapter ends with."""
    return (("head_weight", (num_labels, num_features)), ("head_bias", (num_labels,)))


def head_logits(parameters: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Applies the last linear layer of each phone: features (p, n, f) to logits (p, n, c)."""
    weight, bias = parameters["head_weight"], parameters["head_bias"]
    return torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))


def head_scores(parameters: Mapping[str, Tensor], by_feature: Tensor) -> Tensor:
    """Applies the last linear layer with labels before clips: (p, f, m) to (p, c, m).

    In this layout the softmax and both products of the last layer are several times faster.
    """
    weight, bias = parameters["head_weight"], parameters["head_bias"]
    return torch.baddbmm(bias.unsqueeze(2), weight, by_feature)


def head_gradients(by_logit: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Differentiates by the last layer: derivative by its logits (p, c, m), its input (p, m, f)."""
    return {"head_weight": torch.bmm(by_logit, features), "head_bias": by_logit.sum(dim=2)}


def copied_head(
    spec: ParameterSpec, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Copies the base's last layer after checking it against the adapter's spec.

    Raises:
      ValueError: if a shape differs or a value is not finite.
    """
    shapes = dict(spec.shapes)
    copies = {}
    for name, value in (("head_weight", head_weight), ("head_bias", head_bias)):
        if value.shape != shapes[name]:
            raise ValueError(f"expected {name} of shape {shapes[name]}, got {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        # Copies, since whoever trains the adapter in place must not change the frozen base.
        copies[name] = np.array(value, dtype=np.float32)
    return copies

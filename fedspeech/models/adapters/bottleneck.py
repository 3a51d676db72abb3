"""A residual bottleneck on the pooled features, then the head (Houlsby et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import OutputUnit
from fedspeech.models.adapters.adapter import Adapter, Batch, LogitGradient
from fedspeech.models.adapters.head import (
    copied_head,
    head_gradients,
    head_logits,
    head_scores,
    head_shapes,
    pooled,
)
from fedspeech.models.encoder import Activation
from fedspeech.seeds import stream
from fedspeech.vectors import ParameterSpec


@dataclass(frozen=True)
class BottleneckAdapter(Adapter):
    """h = mean_w(a(x)); logits = W (h + W2 relu(W1 h)) + b, with W2 zero at first.

    Houlsby et al. 2019 (arXiv:1902.00751), section 2.1, without their biases and with ReLU.

    Sizes: f features of the encoder, c outputs, r the width of the bottleneck; a is the activation
    that the encoder leaves.
    """

    name: ClassVar[str] = "bottleneck"
    output_unit: ClassVar[OutputUnit] = "clip"

    num_features: int
    num_labels: int
    rank: int = 16
    activation: Activation = "relu"

    @property
    def spec(self) -> ParameterSpec:
        """Parameters down_weight W1 (r, f), up_weight W2 (f, r) and the head's (c, f), (c,)."""
        return ParameterSpec(
            (
                ("down_weight", (self.rank, self.num_features)),
                ("up_weight", (self.num_features, self.rank)),
                *head_shapes(self.num_features, self.num_labels),
            )
        )

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """(f,)."""
        return (self.num_features,)

    def initial(
        self, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """W1 uniform in +-1/sqrt(f) from a fixed stream, W2 zero, and the base's head."""
        # Only W2 may be zero: with both at zero, neither would ever have a gradient.
        bound = 1 / math.sqrt(self.num_features)
        shape = (self.rank, self.num_features)
        down = stream(0, "bottleneck down_weight").uniform(-bound, bound, shape)
        return {
            "down_weight": down.astype(np.float32),
            "up_weight": np.zeros((self.num_features, self.rank), dtype=np.float32),
            **copied_head(self.spec, head_weight, head_bias),
        }

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Pools (n, w, f) to (n, f)."""
        return pooled(encoder_output, self.activation)

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores embeddings (p, n, f) as logits (p, n, c)."""
        down, up = parameters["down_weight"], parameters["up_weight"]
        hidden = torch.relu(torch.bmm(embeddings, down.transpose(1, 2)))
        return head_logits(parameters, torch.baddbmm(embeddings, hidden, up.transpose(1, 2)))

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates the objective; see `Adapter.gradients`."""
        down, up = parameters["down_weight"], parameters["up_weight"]
        hidden = torch.bmm(down, batch.by_feature).relu_()
        features = torch.baddbmm(batch.embeddings, hidden.transpose(1, 2), up.transpose(1, 2))
        by_logit = logit_gradient(
            head_scores(parameters, features.transpose(1, 2).contiguous()), batch
        )
        upstream = torch.bmm(parameters["head_weight"].transpose(1, 2), by_logit)
        into_hidden = torch.bmm(up.transpose(1, 2), upstream).mul_(hidden > 0)
        return {
            "down_weight": torch.bmm(into_hidden, batch.embeddings),
            "up_weight": torch.bmm(upstream, hidden.transpose(1, 2)),
            **head_gradients(by_logit, features),
        }

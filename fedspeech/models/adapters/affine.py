"""Head and a scale and shift per feature, applied before the encoder's last activation.

The affine moves the thresholds of the activation, which is where a new microphone or accent shows;
in effect it re-fits the encoder's last normalization to the phone.
"""

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
from fedspeech.models.adapters.head import (
    copied_head,
    head_gradients,
    head_logits,
    head_scores,
    head_shapes,
    pooled,
)
from fedspeech.models.encoder import Activation
from fedspeech.vectors import ParameterSpec


@dataclass(frozen=True)
class AffineAdapter(Adapter):
    """logits = W mean_w(a(scale * x + shift)) + b. What is cached is the whole encoder output.

    Sizes: w windows and f features of the encoder, c outputs; a is the activation that the encoder
    leaves.
    """

    name: ClassVar[str] = "affine"
    output_unit: ClassVar[OutputUnit] = "clip"

    num_windows: int
    num_features: int
    num_labels: int
    activation: Activation = "relu"

    @property
    def spec(self) -> ParameterSpec:
        """Parameters scale (f,), shift (f,), head_weight (c, f) and head_bias (c,)."""
        return ParameterSpec(
            (
                ("scale", (self.num_features,)),
                ("shift", (self.num_features,)),
                *head_shapes(self.num_features, self.num_labels),
            )
        )

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """(w, f)."""
        return (self.num_windows, self.num_features)

    def initial(
        self, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Scale 1, shift 0 and the base's head; see `Adapter.initial`."""
        return {
            "scale": np.ones(self.num_features, dtype=np.float32),
            "shift": np.zeros(self.num_features, dtype=np.float32),
            **copied_head(self.spec, head_weight, head_bias),
        }

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Keeps the encoder output (n, w, f) as it is: the affine acts before the activation."""
        return encoder_output

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores embeddings (p, n, w, f) as logits (p, n, c)."""
        scale, shift = (parameters[name][:, None, None, :] for name in ("scale", "shift"))
        return head_logits(parameters, pooled(embeddings * scale + shift, self.activation))

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates the objective; see `Adapter.gradients`.

        With m = [scale * x + shift > 0], or 1 where nothing is left to activate, the pooled feature
        is linear in both parameters: w h = scale * sum_w(m x) + shift * sum_w(m), so two sums over
        the windows give its value and its derivatives.
        """
        x, room = batch.embeddings, batch.scratch
        scale, shift = (parameters[name][:, None, None, :] for name in ("scale", "shift"))
        if self.activation == "relu":
            active = torch.gt(torch.addcmul(shift, x, scale, out=room), 0, out=room)
        else:
            active = room.fill_(1)
        by_shift = active.sum(dim=2).div_(self.num_windows)
        by_scale = active.mul_(x).sum(dim=2).div_(self.num_windows)
        features = torch.addcmul(by_scale * scale[:, 0], by_shift, shift[:, 0])
        by_logit = logit_gradient(
            head_scores(parameters, features.transpose(1, 2).contiguous()), batch
        )
        upstream = torch.bmm(by_logit.transpose(1, 2), parameters["head_weight"])
        return {
            "scale": by_scale.mul_(upstream).sum(dim=1),
            "shift": by_shift.mul_(upstream).sum(dim=1),
            **head_gradients(by_logit, features),
        }

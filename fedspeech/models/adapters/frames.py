"""Adapters of sentences: the same few parameters, but every frame of a sentence has logits.

Nothing is pooled. Frames that were never recorded are zeros and stand in no loss; the objective
gives them a logit gradient of zero, so they pull at no parameter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import OutputUnit
from fedspeech.models.adapters.adapter import Adapter, Batch, LogitGradient
from fedspeech.models.adapters.affine import AffineAdapter
from fedspeech.models.adapters.bottleneck import BottleneckAdapter
from fedspeech.models.adapters.head import head_gradients, head_logits
from fedspeech.models.encoder import Activation, activated
from fedspeech.vectors import ParameterSpec


@dataclass(frozen=True)
class _FrameAdapter(Adapter):
    """What adapters of sentences share: the parameters of one of words, and logits for every frame.

    Sizes: w frames and f features of the encoder, c outputs: blank and characters.
    """

    output_unit: ClassVar[OutputUnit] = "frame"

    num_windows: int
    num_features: int
    num_labels: int
    activation: Activation = "relu"

    @property
    @abstractmethod
    def _of_words(self) -> Adapter:
        """The same arithmetic, with a frame for a clip."""

    @property
    def name(self) -> str:
        """The name in scenarios and adapter files."""
        return f"frame_{self._of_words.name}"

    @property
    def spec(self) -> ParameterSpec:
        """The parameters of the adapter of words."""
        return self._of_words.spec

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """(w, f)."""
        return (self.num_windows, self.num_features)

    def initial(
        self, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """As for words; see `Adapter.initial`."""
        return self._of_words.initial(head_weight, head_bias)


class FrameAffineAdapter(_FrameAdapter):
    """logits_w = W a(scale * x_w + shift) + b for every frame w."""

    @property
    def _of_words(self) -> AffineAdapter:
        return AffineAdapter(1, self.num_features, self.num_labels)

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Keeps the encoder output (n, w, f): the affine acts before the activation."""
        return encoder_output

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores embeddings (p, n, w, f) as logits (p, n, w, c)."""
        scale, shift = (parameters[name][:, None, None, :] for name in ("scale", "shift"))
        features = activated(embeddings * scale + shift, self.activation)
        return head_logits(parameters, features.flatten(1, 2)).view(*features.shape[:3], -1)

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates the objective; see `Adapter.gradients`."""
        x = batch.embeddings.flatten(1, 2)
        room, more_room = batch.scratch.view(x.shape), batch.second_scratch.view(x.shape)
        scale, shift = (parameters[name][:, None, :] for name in ("scale", "shift"))
        features = torch.addcmul(shift, x, scale, out=room)
        if self.activation == "relu":
            features.relu_()
        by_logit = logit_gradient(head_logits(parameters, features).transpose(1, 2), batch)
        head = head_gradients(by_logit, features)
        upstream = torch.bmm(by_logit.transpose(1, 2), parameters["head_weight"], out=more_room)
        if self.activation == "relu":
            # The sign of a ReLU's output, 0 or 1, is its derivative, and needs no room for a mask.
            upstream.mul_(features.sign_())
        shifted = upstream.sum(dim=1)
        return {"scale": upstream.mul_(x).sum(dim=1), "shift": shifted, **head}


class FrameBottleneckAdapter(_FrameAdapter):
    """h_w = a(x_w); logits_w = W (h_w + W2 relu(W1 h_w)) + b for every frame w."""

    @property
    def _of_words(self) -> BottleneckAdapter:
        return BottleneckAdapter(self.num_features, self.num_labels)

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Applies the encoder's last activation to (n, w, f)."""
        return activated(encoder_output, self.activation)

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores embeddings (p, n, w, f) as logits (p, n, w, c)."""
        scored = self._of_words.logits(parameters, embeddings.flatten(1, 2))
        return scored.view(*embeddings.shape[:3], -1)

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates the objective; see `Adapter.gradients`.

        Frames stay before features throughout: the kernel of CTC wants its logits so.
        """
        x = batch.embeddings.flatten(1, 2)
        room, more_room = batch.scratch.view(x.shape), batch.second_scratch.view(x.shape)
        down, up = parameters["down_weight"], parameters["up_weight"]
        hidden = torch.bmm(x, down.transpose(1, 2)).relu_()
        features = torch.baddbmm(x, hidden, up.transpose(1, 2), out=room)
        by_logit = logit_gradient(head_logits(parameters, features).transpose(1, 2), batch)
        upstream = torch.bmm(by_logit.transpose(1, 2), parameters["head_weight"], out=more_room)
        into_hidden = torch.bmm(upstream, up).mul_(hidden > 0)
        return {
            "down_weight": torch.bmm(into_hidden.transpose(1, 2), x),
            "up_weight": torch.bmm(upstream.transpose(1, 2), hidden),
            **head_gradients(by_logit, features),
        }

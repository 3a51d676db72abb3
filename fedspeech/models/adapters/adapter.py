"""What an adapter is: few parameters after a frozen encoder, as pure functions of named tensors.

The leading axis of every tensor is the phone, so that one phone (1, ...) and a block of phones run
the same code as batched matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import OutputUnit
from fedspeech.models.base import Base
from fedspeech.models.encoder import Activation, Encoder
from fedspeech.vectors import ParameterSpec


@dataclass(frozen=True, eq=False)
class Batch:
    """The clips of one step on every phone of a block. Printing it shows its shape only.

    What depends on the clips alone is computed once and kept, since a phone that trains on all its
    clips in every step meets the same batch again.

    Attributes:
      embeddings: shape (p, n, *embedding_shape), contiguous.
      labels: shape (p, n), or (p, n, characters) with -1 after the last character; int64.
      weights: shape (p, n): 1 / (clips of the phone in this batch), 0 for padding.
    """

    embeddings: Tensor
    labels: Tensor
    weights: Tensor

    def __repr__(self) -> str:
        """Shows the shape only."""
        return f"Batch(shape={tuple(self.embeddings.shape)})"

    @cached_property
    def by_feature(self) -> Tensor:
        """Flat embeddings with clips last, shape (p, f, n): the layout a fast product wants."""
        return self.embeddings.transpose(1, 2).contiguous()

    @cached_property
    def windows(self) -> Tensor:
        """Windows that were recorded, shape (p, n)."""
        return present_windows(self.embeddings)

    @cached_property
    def scratch(self) -> Tensor:
        """Room of the embeddings' shape; asking for fresh memory in every step costs more."""
        return torch.empty_like(self.embeddings)

    @cached_property
    def second_scratch(self) -> Tensor:
        """As much room again."""
        return torch.empty_like(self.embeddings)

    @cached_property
    def kept(self) -> dict[str, Any]:
        """Room for what an adapter computes of the clips alone, once for all steps, by name."""
        return {}


LogitGradient = Callable[[Tensor, Batch], Tensor]
"""Derivative of an objective by the logits (p, c, m), m clips or windows; same shape."""


def present_windows(embeddings: Tensor) -> Tensor:
    """Counts the windows up to the last that is not all zeros, (..., w, f) to (...).

    What was never recorded is zeros, in samples, in features and in the encoder's windows.
    """
    there = (embeddings != 0).any(dim=-1)
    # The place of the last one and not their number: behind an activation, a window in the middle
    # of a sentence may be all zeros.
    places = torch.arange(1, there.shape[-1] + 1, device=there.device)
    return (there * places).amax(dim=-1)


class Adapter(Protocol):
    """Trainable part after the encoder. It alone names its parameters.

    Whoever writes one subclasses this class, gives the five members without a body, and has
    gradients from torch. `fedspeech.models.adapters.checking.check_adapter` says what is wrong.

    Shapes: p phones, n clips, w windows and f features of the encoder, c labels.

    Attributes:
      block_phones: phones that train side by side. A multiple of the widest vector register (16
        floats), so that no elementwise kernel ends a block in its scalar tail, whose last bit can
        differ. Fewer where a phone's clips take much memory.
    """

    block_phones: ClassVar[int] = 64

    @property
    def name(self) -> str:
        """What scenarios and adapter files call it, such as "head" or "frame_affine"."""
        ...

    @property
    def output_unit(self) -> OutputUnit:
        """What has a logit per label: a clip, or every window of it."""
        ...

    @property
    def activation(self) -> Activation:
        """What it applies to the encoder's output."""
        ...

    @property
    def spec(self) -> ParameterSpec:
        """Names and shapes of what is trained."""
        ...

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Shape of what is cached per clip."""
        ...

    def initial(
        self, head_weight: NDArray[np.float32], head_bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Parameters with which the adapter computes exactly the base's head, (c, f) and (c,)."""
        ...

    def embed(self, encoder_output: Tensor) -> Tensor:
        """Computes the part that no parameter touches: (n, w, f) to (n, *embedding_shape), once.

        The encoder's output comes before its activation.
        """
        ...

    def encoder(self, base: Base) -> Encoder:
        """What runs before the adapter and is cached: of an inner adapter, the encoder's start."""
        return base.encoder

    def embed_frames(self, base: Base, frames: Tensor) -> Tensor:
        """Computes embeddings of frames of `encoder`: (n, w, f) to (n, *embedding_shape)."""
        return self.embed(base.pooled(frames))

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores clips, differentiable in the parameters, which have a leading axis p.

        Embeddings have shape (p, n, *embedding_shape), logits (p, n, c) or (p, n, w, c).
        """
        ...

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Batch, logit_gradient: LogitGradient
    ) -> dict[str, Tensor]:
        """Differentiates the weighted objective of every phone by parameters (p, *shape).

        Here by torch, through `logits`. An adapter that does it by hand gives the same numbers
        several times faster, and simple enough to be repeated inside an exported training
        signature. `logit_gradient` is the derivative of the objective by the logits.
        """
        return differentiated(self, parameters, batch, logit_gradient)


def differentiated(
    adapter: Adapter,
    parameters: Mapping[str, Tensor],
    batch: Batch,
    logit_gradient: LogitGradient,
) -> dict[str, Tensor]:
    """Differentiates by torch, through `Adapter.logits`; see `Adapter.gradients`.

    One pass for all phones of a block: each has parameters of its own, so the derivative of the
    sum over phones is the derivative of each. `torch.func.vmap` of `torch.func.grad` gives the same
    numbers, and its import takes two seconds of every process.
    """
    own = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        logits = labels_first(adapter.logits(own, batch.embeddings))
    # A copy: an objective may overwrite what it is given, and the way back still needs it.
    by_logit = logit_gradient(logits.detach().clone(), batch)
    found = torch.autograd.grad(
        logits, list(own.values()), by_logit, allow_unused=True, materialize_grads=True
    )
    return dict(zip(own, found, strict=True))


def labels_first(logits: Tensor) -> Tensor:
    """Lays logits (p, n, c) or (p, n, w, c) as objectives take them: (p, c, n) or (p, c, n * w)."""
    return logits.flatten(1, -2).transpose(1, 2)

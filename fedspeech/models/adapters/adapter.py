"""What an adapter is: few parameters after a frozen trunk, as pure functions of named tensors.

The leading axis of every tensor is the phone, so that one phone (1, ...) and a block of phones run
the same code as batched matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.vectors import ParameterSpec


class Adapter(Protocol):
    """Trainable part after the trunk. It alone names its parameters.

    Shapes: p phones, n clips, w windows and f features of the trunk, c labels.
    """

    @property
    def name(self) -> str:
        """What scenarios and adapter files call it: "head", "affine" or "bottleneck"."""
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
        """Parameters with which the adapter computes exactly the base's own head.

        Args:
          head_weight: the base's output layer, shape (c, f).
          head_bias: shape (c,).
        """
        ...

    def embed(self, trunk_output: Tensor) -> Tensor:
        """Computes the part that no parameter touches, once per clip.

        Args:
          trunk_output: the trunk's last layer before its activation, shape (n, w, f).

        Returns:
          Shape (n, *embedding_shape).
        """
        ...

    def logits(self, parameters: Mapping[str, Tensor], embeddings: Tensor) -> Tensor:
        """Scores clips, differentiable in the parameters.

        Args:
          parameters: name to tensor of shape (p, *shape).
          embeddings: shape (p, n, *embedding_shape).

        Returns:
          Shape (p, n, c).
        """
        ...

"""From the frames of an encoder that comes from elsewhere to the one vector that adapters take.

Mean and maximum over the frames, minus a mean, times a matrix that whitens: constants from public
speakers only. Whitening evens out directions that differ in scale by orders of magnitude, so that
one learning rate, one clip norm and one noise fit all of them. It is linear, so an exported head
can absorb it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.models.built_in import check_array, check_finite


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooling:
    """(max and mean over frames - mean) @ matrix.

    Attributes:
      mean: shape (2 f,), of pooled features.
      matrix: shape (2 f, g).

    Raises:
      ValueError: if the shapes do not fit together or a value is not finite.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        check_array("pooling_mean", self.mean, self.matrix.shape[:1])
        check_array("pooling_matrix", self.matrix, (len(self.mean), *self.matrix.shape[1:2]))
        check_finite("pooling_mean", self.mean)
        check_finite("pooling_matrix", self.matrix)

    @classmethod
    def identity(cls, num_features: int) -> Pooling:
        """Pools and changes nothing else."""
        size = 2 * num_features
        return cls(mean=np.zeros(size, np.float32), matrix=np.eye(size, dtype=np.float32))

    @property
    def num_features(self) -> int:
        """Length of the vector, g."""
        return int(self.matrix.shape[1])

    def check(self, num_features: int) -> None:
        """Refuses the constants of another encoder.

        Raises:
          ValueError: if they are not for twice `num_features` values.
        """
        check_array("pooling_mean", self.mean, (2 * num_features,))

    def __call__(self, frames: Tensor) -> Tensor:
        """Pools (..., w, f) to (..., 1, g); differentiable."""
        pooled = torch.cat([frames.mean(dim=-2), frames.amax(dim=-2)], dim=-1)
        return ((pooled - self._mean) @ self._matrix).unsqueeze(-2)

    @cached_property
    def _mean(self) -> Tensor:
        return torch.from_numpy(self.mean)

    @cached_property
    def _matrix(self) -> Tensor:
        return torch.from_numpy(self.matrix)

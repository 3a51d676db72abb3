"""From the frames of an encoder that comes from elsewhere to the one vector that adapters take.

Mean and maximum over the frames, or what a small network makes of all of them side by side; minus a
mean, times a matrix that whitens. All are constants from public speakers only. Whitening evens out
directions that differ in scale by orders of magnitude, so that one learning rate, one clip norm and
one noise fit all of them. It is linear, so an exported head can absorb it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.models.built_in import check_array, check_finite

FloatArray = NDArray[np.float32]
Layer = tuple[FloatArray, FloatArray]
"""Weight (outputs, inputs) and bias (outputs,) before a ReLU."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooling:
    """(pooled frames - mean) @ matrix.

    Attributes:
      mean: shape (p,), of pooled features; without layers p is 2 f.
      matrix: shape (p, g).
      layers: of the network that pools; empty: mean and maximum over frames.

    Raises:
      ValueError: if the shapes do not fit together or a value is not finite.
    """

    mean: FloatArray
    matrix: FloatArray
    layers: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        check_array("pooling_mean", self.mean, self.matrix.shape[:1])
        check_array("pooling_matrix", self.matrix, (len(self.mean), *self.matrix.shape[1:2]))
        inputs = self.layers[0][0].shape[1] if self.layers else 0
        for index, (weight, bias) in enumerate(self.layers):
            check_array(f"pooling_{index}_weight", weight, (len(bias), inputs))
            check_array(f"pooling_{index}_bias", bias, (len(weight),))
            inputs = len(bias)
        if self.layers:
            check_array("pooling_mean", self.mean, (inputs,))
        for name, values in self.to_arrays().items():
            check_finite(name, values)

    @classmethod
    def identity(cls, num_features: int) -> Pooling:
        """Takes mean and maximum and changes nothing else."""
        size = 2 * num_features
        return cls(mean=np.zeros(size, np.float32), matrix=np.eye(size, dtype=np.float32))

    @property
    def num_features(self) -> int:
        """Length of the vector, g."""
        return int(self.matrix.shape[1])

    def check(self, num_windows: int, num_features: int) -> None:
        """Refuses the constants of another encoder.

        Raises:
          ValueError: if they are not for clips of so many frames of so many features.
        """
        if self.layers:
            weight = self.layers[0][0]
            check_array("pooling_0_weight", weight, (len(weight), num_windows * num_features))
        else:
            check_array("pooling_mean", self.mean, (2 * num_features,))

    def to_arrays(self) -> dict[str, FloatArray]:
        """The constants by the names that they have in a base's file."""
        arrays = {"pooling_mean": self.mean, "pooling_matrix": self.matrix}
        for index, (weight, bias) in enumerate(self.layers):
            arrays |= {f"pooling_{index}_weight": weight, f"pooling_{index}_bias": bias}
        return arrays

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, FloatArray]) -> Pooling:
        """Inverts `to_arrays`; other arrays may stand beside them.

        Raises:
          KeyError: if one is missing.
          ValueError: if they do not fit together.
        """
        layers: list[Layer] = []
        while f"pooling_{len(layers)}_weight" in arrays:
            name = f"pooling_{len(layers)}"
            layers.append((arrays[f"{name}_weight"], arrays[f"{name}_bias"]))
        return cls(
            mean=arrays["pooling_mean"], matrix=arrays["pooling_matrix"], layers=tuple(layers)
        )

    def __call__(self, frames: Tensor) -> Tensor:
        """Pools (..., w, f) to (..., 1, g); differentiable."""
        if self.layers:
            pooled = frames.flatten(-2)
            for weight, bias in self._layers:
                pooled = torch.relu(pooled @ weight.T + bias)
        else:
            pooled = torch.cat([frames.mean(dim=-2), frames.amax(dim=-2)], dim=-1)
        return ((pooled - self._mean) @ self._matrix).unsqueeze(-2)

    @cached_property
    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        return [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in self.layers]

    @cached_property
    def _mean(self) -> Tensor:
        return torch.from_numpy(self.mean)

    @cached_property
    def _matrix(self) -> Tensor:
        return torch.from_numpy(self.matrix)

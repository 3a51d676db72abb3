"""Named tensors and the one flat vector that training, privacy and aggregation speak of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedspeech.seeds import canonical

FloatVector = NDArray[np.float32]
Vector = NDArray[np.float64]

_PARAMETERS = "parameters"


@dataclass(frozen=True)
class ParameterSpec:
    """Names and shapes of the trainable parameters, in the order in which they are flattened.

    Attributes:
      shapes: (name, shape) pairs; names are unique.

    Raises:
      ValueError: if a name repeats or a dimension is not positive.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        """Checks names and dimensions."""
        names = [name for name, _ in self.shapes]
        if len(set(names)) != len(names):
            raise ValueError(f"parameter names must be unique, got {names}")
        for name, shape in self.shapes:
            if any(dimension < 1 for dimension in shape):
                raise ValueError(f"dimensions must be positive, got {name} of shape {shape}")

    @property
    def size(self) -> int:
        """Number of coordinates of the flat vector."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and shapes, hex: two sides agree on the layout or stop."""
        parts: list[str | int] = []
        for name, shape in self.shapes:
            parts += [name, len(shape), *shape]
        return hashlib.sha256(canonical(*parts)).hexdigest()

    def slices(self) -> Iterator[tuple[str, tuple[int, ...], slice]]:
        """Yields name, shape and place in the flat vector of each parameter."""
        start = 0
        for name, shape in self.shapes:
            stop = start + math.prod(shape)
            yield name, shape, slice(start, stop)
            start = stop

    def flatten(self, tensors: Mapping[str, NDArray[np.floating]]) -> FloatVector:
        """Joins named tensors into one float32 vector, shape (size,).

        Raises:
          ValueError: if names or shapes differ from the spec.
        """
        if set(tensors) != {name for name, _ in self.shapes}:
            raise ValueError(
                f"expected parameters {[name for name, _ in self.shapes]}, got {sorted(tensors)}"
            )
        vector = np.empty(self.size, dtype=np.float32)
        for name, shape, place in self.slices():
            if tensors[name].shape != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {tensors[name].shape}")
            vector[place] = tensors[name].reshape(-1)
        return vector

    def unflatten(self, vector: FloatVector) -> dict[str, FloatVector]:
        """Splits a vector of shape (size,) into named tensors (views, float32).

        Raises:
          ValueError: if the vector has another length.
        """
        if vector.shape != (self.size,):
            raise ValueError(f"expected a vector of shape ({self.size},), got {vector.shape}")
        return {name: vector[place].reshape(shape) for name, shape, place in self.slices()}


@dataclass(frozen=True, eq=False)
class Delta:
    """What local training changed: local minus global parameters. Printing it shows no value.

    Attributes:
      vector: shape (d,), float32. The server adds it.
    """

    vector: FloatVector

    def __repr__(self) -> str:
        """Shows the shape only."""
        return f"Delta(shape={self.vector.shape})"


@dataclass(frozen=True, eq=False)
class GlobalState:
    """What a query carries on the server from round to round. Printing it shows no value.

    Attributes:
      parameters: what phones are sent, as float32, shape (d,), float64.
      moments: what only the server keeps, by name, for instance an optimizer's; float64.
    """

    parameters: Vector
    moments: Mapping[str, Vector] = field(default_factory=dict)

    def to_arrays(self) -> dict[str, Vector]:
        """Returns everything by name, for a checkpoint."""
        return {_PARAMETERS: self.parameters, **self.moments}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Vector]) -> GlobalState:
        """Restores what `to_arrays` gave.

        Raises:
          ValueError: if parameters are missing.
        """
        if _PARAMETERS not in arrays:
            raise ValueError(f"expected an array named {_PARAMETERS!r}, got {sorted(arrays)}")
        wide = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
        return cls(wide.pop(_PARAMETERS), wide)

    def __repr__(self) -> str:
        """Shows shape and names only."""
        return f"GlobalState(shape={self.parameters.shape}, moments={sorted(self.moments)})"

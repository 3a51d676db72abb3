"""The encoder as plain arrays, BatchNorm folded in: what is left of it where there is no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FoldedConv:
    """One causal convolution along time with its BatchNorm folded in, as plain arrays.

    Attributes:
      weight: shape (outputs, inputs, taps), float32; the last tap meets the current frame.
      bias: shape (outputs,), float32.
      stride: input frames between outputs; the first output stands at input frame 0.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int

    @property
    def left_padding(self) -> int:
        """Zero frames before the first, taps - 1; there are none after the last."""
        return int(self.weight.shape[2]) - 1


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """relu(second(relu(first(x))) + shortcut(x)); without a shortcut x itself is added."""

    first: FoldedConv
    second: FoldedConv
    shortcut: FoldedConv | None


@dataclass(frozen=True, eq=False)
class FoldedEncoder:
    """output(blocks(relu(stem(x)))), and no activation after `output`."""

    stem: FoldedConv
    blocks: tuple[FoldedBlock, ...]
    output: FoldedConv

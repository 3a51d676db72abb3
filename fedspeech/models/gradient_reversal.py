"""Gradient reversal: what comes before a classifier unlearns what the classifier learns.

loss = classifier(gradient_reversal(hidden, strength=1.0))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def gradient_reversal(x: Tensor, strength: float) -> Tensor:
    """The identity, whose gradient is turned around and weighted (Ganin et al. 2016).

    Source: Domain-Adversarial Training of Neural Networks (arXiv:1505.07818).
    """
    found: Tensor = _Reversed.apply(x, strength)  # type: ignore[no-untyped-call]
    return found


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None

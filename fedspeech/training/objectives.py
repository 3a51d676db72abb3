"""What local training minimises."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the mean cross-entropy of a batch, in nats.

    Args:
      logits: shape (n, c).
      labels: shape (n,), int64.

    Returns:
      A scalar.
    """
    return functional.cross_entropy(logits, labels)


def proximal(local: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """Computes ||local - start||^2 / 2, a scalar; FedProx adds mu times it to the loss."""
    distances = [(local[name] - start[name]).square().sum() for name in local]
    return torch.stack(distances).sum() / 2

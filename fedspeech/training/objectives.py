"""What local training minimizes: one label per clip, or one sequence of labels over its frames.

An objective says the same thing twice. `loss` is for the loop to read, differentiated by torch;
`logit_gradient` is its derivative by the logits for many phones at once, from which an adapter
derives the gradient of its parameters by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fedspeech.models.adapters.adapter import Adapter, Batch, present_windows

BLANK = 0


class Objective(Protocol):
    """A loss over the clips of a phone, averaged over them."""

    def loss(
        self, logits: Tensor, embeddings: Tensor, labels: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Computes the loss of one phone's batch, a scalar in nats.

        Args:
          logits: shape (n, c) or (n, w, c).
          embeddings: what they were computed from, shape (n, *embedding_shape).
          labels: shape (n,) or (n, characters).
          weights: of clips, shape (n,); None: all count 1.
        """
        ...

    def logit_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        """Differentiates the weighted loss of every phone by the logits.

        Args:
          logits: shape (p, c, n) or (p, c, n * w); may be overwritten.
          batch: labels and weights.

        Returns:
          Same shape as the logits.
        """
        ...


class CrossEntropy:
    """One label per clip."""

    def loss(
        self, logits: Tensor, embeddings: Tensor, labels: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Mean cross-entropy over clips; see `Objective.loss`."""
        del embeddings
        if weights is None:
            return cross_entropy(logits, labels)
        return (functional.cross_entropy(logits, labels, reduction="none") * weights).mean()

    def logit_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        """Softmax minus one-hot, weighted; see `Objective.logit_gradient`."""
        weights = batch.weights.unsqueeze(1)
        error = torch.softmax(logits, dim=1).mul_(weights)
        return error.scatter_add_(1, batch.labels.unsqueeze(1), -weights)


class Ctc:
    """One sentence per clip (Graves et al. 2006), each divided by its number of characters.

    A sentence that cannot be answered in its windows has no loss and pulls at nothing.
    """

    def loss(
        self, logits: Tensor, embeddings: Tensor, labels: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Mean over sentences; see `Objective.loss`."""
        losses = ctc(logits, present_windows(embeddings), labels)
        return losses.mean() if weights is None else (losses * weights).mean()

    def logit_gradient(self, logits: Tensor, batch: Batch) -> Tensor:
        """All sentences of all phones in one call of the kernel; see `Objective.logit_gradient`."""
        num_phones, num_labels, num_rows = logits.shape
        num_clips = batch.labels.shape[1]
        with torch.enable_grad():
            by_clip = (
                logits.detach()
                .transpose(1, 2)
                .reshape(num_phones * num_clips, num_rows // num_clips, num_labels)
            )
            losses = ctc(
                by_clip.requires_grad_(), batch.windows.flatten(), batch.labels.flatten(0, 1)
            )
            (error,) = torch.autograd.grad(losses, by_clip, batch.weights.flatten())
        return error.reshape(num_phones, num_rows, num_labels).transpose(1, 2)


def objective_of(adapter: Adapter) -> Objective:
    """CTC for an adapter that answers every window, cross-entropy for one that answers clips."""
    return Ctc() if adapter.output_unit == "frame" else CrossEntropy()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the mean cross-entropy of a batch, in nats: logits (n, c), labels (n,)."""
    return functional.cross_entropy(logits, labels)


def ctc(logits: Tensor, windows: Tensor, labels: Tensor) -> Tensor:
    """Computes the CTC loss of every sentence per character, in nats, shape (n,).

    Args:
      logits: shape (n, w, c); label 0 is the blank.
      windows: shape (n,): how many frames of each sentence count.
      labels: shape (n, characters), int64, -1 after the last character.
    """
    lengths = (labels >= 0).sum(dim=1)
    # In double: over 80 frames torch's kernel loses four digits in float32. Too few windows for a
    # sentence make its loss infinite, which as a gradient would be NaN for all of the phone.
    losses = functional.ctc_loss(
        torch.log_softmax(logits, dim=2, dtype=torch.float64).transpose(0, 1),
        labels.clamp(min=0),
        windows,
        lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return losses / lengths.clamp(min=1)


def proximal(local: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """Computes ||local - start||^2 / 2, a scalar; FedProx adds mu times it to the loss."""
    distances = [(local[name] - start[name]).square().sum() for name in local]
    return torch.stack(distances).sum() / 2

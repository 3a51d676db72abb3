"""A head's local training in terms of the phone's clips, where that costs less.

Every gradient of a linear layer is a sum of the clips it saw, so after any number of steps
W - W_0 = A X and b - b_0 = A 1, with one row of coefficients A per label and X the clips (the
representer theorem, Kimeldorf and Wahba 1971). Scores are then W_0 X + b_0 + A (X X' + 1): with the
products of clips computed once, a step touches neither weights nor features. It is gradient descent
on the weights, step for step, in other coordinates; only the order of float32 sums differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fedspeech.models.adapters.adapter import Adapter, Batch, Error
from fedspeech.models.adapters.head import HeadAdapter, head_scores
from fedspeech.training.local import LocalTraining


def pays(adapter: Adapter, training: LocalTraining) -> bool:
    """Whether coefficients can be used and take fewer multiplications than weights.

    Can be: a head under SGD whose every step sees all clips. It follows from shapes and settings
    alone, so all phones of a run train the same way.
    """
    if not isinstance(adapter, HeadAdapter) or training.optimizer != "sgd":
        return False
    if not training.takes_all_at_once:
        return False
    clips, features, labels = training.max_examples, adapter.num_features, adapter.num_labels
    steps = min(training.local_epochs, training.max_steps or training.local_epochs)
    once = features * clips + 2 * features * labels
    return once + steps * labels * clips < 2 * steps * features * labels


def train_head(
    start: Mapping[str, Tensor],
    steps: Iterator[tuple[Batch, Tensor]],
    error: Error,
    training: LocalTraining,
) -> dict[str, Tensor]:
    """Trains the heads of a block of phones by SGD.

    Args:
      start: head_weight (p, c, f) and head_bias (p, c).
      steps: the same batch in every step, and (p,) 1 for a phone that takes the step, else 0.
      error: the objective's derivative by the logits.
      training: rate, momentum, pull towards the start.

    Returns:
      What each parameter has changed by, by name.
    """
    coefficients: Tensor | None = None
    for batch, active in steps:
        if coefficients is None:
            clips = batch.embeddings
            initial = head_scores(start, clips.transpose(1, 2))
            products = torch.bmm(clips, clips.transpose(1, 2)).add_(1)  # 1: the bias's own feature
            velocity = coefficients = torch.zeros_like(initial)
        scores = torch.baddbmm(initial, coefficients, products)
        gradient = error(scores, batch)
        if training.proximal_mu:
            gradient.add_(coefficients, alpha=training.proximal_mu)
        if training.momentum:  # else nothing is remembered
            velocity = gradient = gradient.add_(velocity, alpha=training.momentum)
        rate = active * -training.learning_rate
        coefficients = torch.addcmul(coefficients, gradient, rate.view(-1, 1, 1))
    if coefficients is None:
        return {name: torch.zeros_like(value) for name, value in start.items()}
    return {"head_weight": torch.bmm(coefficients, clips), "head_bias": coefficients.sum(dim=2)}

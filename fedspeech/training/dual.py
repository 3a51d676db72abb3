"""A head's local training in terms of the phone's clips, where that costs less.

Every gradient of a linear layer is a sum of the clips it saw, so after any number of steps
W - W_0 = A X and b - b_0 = A 1, with one row of coefficients A per label and X the clips (the
representer theorem, Kimeldorf and Wahba 1971). Scores are then W_0 X + b_0 + A (X X' + 1): with the
products of clips computed once, a step touches neither weights nor features. It is gradient descent
on the weights, step for step, in other coordinates; only the order of float32 sums differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from fedspeech.models.adapters.adapter import Adapter, Batch, LogitGradient
from fedspeech.models.adapters.head import HeadAdapter, head_scores
from fedspeech.training.settings import LocalTraining

Update = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Tensor], None]
"""One step of an optimizer: moves tensors (p, ...) in place, given their gradients and (p,) 1 for a
phone that takes the step."""


def pays(adapter: Adapter, training: LocalTraining) -> bool:
    """Whether coefficients can be used and take fewer multiplications than weights.

    Can be: a head under SGD whose every step sees all clips. It follows from shapes and settings
    alone, so all phones of a run train the same way.
    """
    if not (isinstance(adapter, HeadAdapter) and training.optimizer == "sgd"):
        return False
    if not training.takes_all_at_once:
        return False
    clips, features, labels = training.max_examples, adapter.num_features, adapter.num_labels
    once = features * clips + 2 * features * labels
    return once + training.num_steps * labels * clips < 2 * training.num_steps * features * labels


def train_head(
    start: Mapping[str, Tensor],
    clips: Tensor,
    steps: Iterable[tuple[Batch, Tensor]],
    logit_gradient: LogitGradient,
    update: Update,
    proximal_mu: float,
) -> dict[str, Tensor]:
    """Trains the heads of a block of phones; returns what each parameter has changed by, by name.

    Args:
      start: head_weight (p, c, f) and head_bias (p, c).
      clips: of every step, shape (p, n, f).
      steps: the batch of all clips again and again, and (p,) 1 for a phone that takes the step.
      logit_gradient: the objective's derivative by the logits.
      update: SGD's, which moves coefficients as it would move weights.
      proximal_mu: pull towards the start.
    """
    initial = head_scores(start, clips.transpose(1, 2))
    products = torch.bmm(clips, clips.transpose(1, 2)).add_(1)  # 1: the bias's own feature
    coefficients = torch.zeros_like(initial)
    for batch, active in steps:
        gradient = logit_gradient(torch.baddbmm(initial, coefficients, products), batch)
        if proximal_mu:
            # mu (W - W_0) = mu A X: in these coordinates the pull is mu A.
            gradient.add_(coefficients, alpha=proximal_mu)
        update({"coefficients": coefficients}, {"coefficients": gradient}, active)
    return {"head_weight": torch.bmm(coefficients, clips), "head_bias": coefficients.sum(dim=2)}

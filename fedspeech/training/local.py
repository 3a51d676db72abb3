"""Adapter training on one phone: the loop to read. `cohort.py` does the same for many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.models.adapters.adapter import Adapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.objectives import objective_of, proximal
from fedspeech.training.one_thread import one_thread
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-4
"""Larger than Adam's usual 1e-8: with it a coordinate whose gradient is rounding noise moves as far
as any other, which spends the clip norm on nothing (compare Reddi et al. 2021, arXiv:2003.00295,
whose adaptivity is 1e-3 and more)."""


def train_adapter(
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    dataset: LocalDataset,
    training: LocalTraining,
    rng: np.random.Generator,
) -> Delta:
    """Trains the adapter on one phone's clips; returns local minus global parameters.

    An empty dataset gives a zero delta. Nothing is refused for its values: a delta that is not
    finite is dealt with where it leaves the phone, so that taking part does not depend on data.
    """
    start = {name: torch.tensor(value[np.newaxis]) for name, value in parameters.items()}
    local = {name: value.clone().requires_grad_() for name, value in start.items()}
    schedule = training.schedule(len(dataset), [rng], 0)
    optimizer = make_optimizer(list(local.values()), training)
    objective = objective_of(adapter)
    for batch in schedule.batches:
        clips = schedule.examples[batch[batch >= 0]]
        embeddings = torch.from_numpy(dataset.embeddings[clips][np.newaxis])
        labels = torch.from_numpy(dataset.labels[clips])
        weights = torch.from_numpy(dataset.weights[clips]) if len(dataset.weights) else None
        logits = adapter.logits(local, embeddings)[0]
        loss = objective.loss(logits, embeddings[0], labels, weights)
        loss = loss + training.proximal_mu * proximal(local, start)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    changed = {name: (local[name] - start[name])[0].detach().numpy() for name in local}
    return Delta(adapter.spec.flatten(changed))


def adapter_loss(
    adapter: Adapter, parameters: Mapping[str, NDArray[np.float32]], dataset: LocalDataset
) -> float:
    """Mean loss of an adapter on some clips, in nats, with bits that no other thread changes."""
    stacked = {name: torch.tensor(value[np.newaxis]) for name, value in parameters.items()}
    embeddings, labels = torch.tensor(dataset.embeddings), torch.tensor(dataset.labels)
    with one_thread(), torch.no_grad():
        logits = adapter.logits(stacked, embeddings[np.newaxis])[0]
        return float(objective_of(adapter).loss(logits, embeddings, labels))


def make_optimizer(
    tensors: Sequence[torch.Tensor], training: LocalTraining
) -> torch.optim.Optimizer:
    """Torch's own optimizer with the phone's settings."""
    if training.optimizer == "adam":
        return torch.optim.Adam(
            tensors, lr=training.learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON
        )
    return torch.optim.SGD(tensors, lr=training.learning_rate, momentum=training.momentum)

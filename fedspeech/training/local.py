"""Adapter training on one phone: the loop to read. `cohort.py` does the same for many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.limits import Count, Decay, NotNegative, Positive, check_limits
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.training.dataset import LocalDataset, Schedule, in_order
from fedspeech.training.objectives import objective_of, proximal
from fedspeech.vectors import Delta

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-4
"""Larger than Adam's usual 1e-8: with it a coordinate whose gradient is rounding noise moves as far
as any other, which spends the clip norm on nothing (compare Reddi et al. 2021, arXiv:2003.00295,
whose adaptivity is 1e-3 and more)."""


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Adapter training on the phone.

    Attributes:
      optimizer: local optimizer; its state starts at zero in every round.
      learning_rate: step size of the local optimizer.
      momentum: momentum of SGD, a heavy ball without dampening; Adam does not read it.
      batch_size: number of examples in a step; a phone with fewer uses all it has.
      local_epochs: number of passes over a phone's examples.
      max_steps: largest number of steps in a round. Not set: no cap.
      max_examples: largest number of examples of a phone in a round, drawn without replacement;
        phones are padded to it, so the time of a phone does not tell how many it has.
      proximal_mu: FedProx: weight of half the squared distance from the global adapter (Li et al.
        2020, arXiv:1812.06127, Eq. 2).

    Raises:
      ValueError: if a value is outside its range.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.1
    momentum: Decay = 0.9
    batch_size: Count = 16
    local_epochs: Count = 2
    max_steps: Count | None = None
    max_examples: Count = 64
    proximal_mu: NotNegative = 0.0

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)

    @property
    def num_steps(self) -> int:
        """Most steps of one round: of a phone with `max_examples` clips."""
        steps = self.local_epochs * math.ceil(self.max_examples / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def takes_all_at_once(self) -> bool:
        """Whether one batch holds all that any phone may train on, so every step sees the same."""
        return self.batch_size >= self.max_examples

    def schedule(
        self, num_examples: int, rngs: Sequence[np.random.Generator], phone: int
    ) -> Schedule:
        """Draws the clips and batches of one of many phones in one round.

        A phone with more than `max_examples` clips draws that many without replacement. Each local
        epoch shuffles them and cuts batches; its last batch may be short. If one batch holds
        everything there is nothing to shuffle, and the phone's stream is not opened.
        """
        size = min(self.batch_size, self.max_examples)
        if num_examples <= size:
            return in_order(num_examples, size, self.local_epochs, self.max_steps)
        rng, examples = rngs[phone], np.arange(num_examples)
        if num_examples > self.max_examples:
            examples = rng.choice(num_examples, self.max_examples, replace=False)
        if len(examples) <= size:
            whole = in_order(len(examples), size, self.local_epochs, self.max_steps)
            return Schedule(examples, whole.batches)
        steps_per_epoch = -(-len(examples) // size)
        padded = np.full((self.local_epochs, steps_per_epoch * size), -1, dtype=np.int64)
        for epoch in padded:
            epoch[: len(examples)] = rng.permutation(len(examples))
        return Schedule(examples, padded.reshape(-1, size)[: self.max_steps])


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
        loss = objective.loss(adapter.logits(local, embeddings)[0], embeddings[0], labels)
        loss = loss + training.proximal_mu * proximal(local, start)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    changed = {name: (local[name] - start[name])[0].detach().numpy() for name in local}
    return Delta(adapter.spec.flatten(changed))


def make_optimizer(
    tensors: Sequence[torch.Tensor], training: LocalTraining
) -> torch.optim.Optimizer:
    """Torch's own optimizer with the phone's settings."""
    if training.optimizer == "adam":
        return torch.optim.Adam(
            tensors, lr=training.learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON
        )
    return torch.optim.SGD(tensors, lr=training.learning_rate, momentum=training.momentum)

"""Adapter training on one phone: the loop to read. `cohort.py` does the same for many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.models.adapters.adapter import Adapter
from fedspeech.training.dataset import LocalDataset, Schedule, batch_schedule
from fedspeech.training.objectives import objective_of, proximal
from fedspeech.vectors import Delta

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-4
"""Larger than Adam's usual 1e-8: with it a coordinate whose gradient is rounding noise moves as far
as any other, which spends the clip norm on nothing (compare Reddi et al. 2021, arXiv:2003.00295,
whose adaptivity is 1e-3 and more)."""


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """How a phone trains in one round.

    Attributes:
      optimizer: "sgd" (with momentum) or "adam"; its state starts at zero in every round.
      learning_rate: step size.
      momentum: of SGD, heavy ball without dampening; Adam does not read it.
      batch_size: clips per step; a phone with fewer uses all it has.
      local_epochs: passes over the phone's clips.
      max_steps: cap on the steps of one round, or None.
      max_examples: limit on the clips of one round, drawn without replacement; also the length
        to which phones are padded, so that the time a phone takes does not tell how many it has.
      proximal_mu: FedProx (Li et al. 2020, arXiv:1812.06127, Eq. 2): adds
        mu / 2 ||parameters - global parameters||^2 to the loss of every step.

    Raises:
      ValueError: if a value is outside its range.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    batch_size: int
    local_epochs: int
    max_steps: int | None = None
    max_examples: int = 64
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        """Checks every value."""
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"optimizer must be sgd or adam, got {self.optimizer!r}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not (math.isfinite(self.proximal_mu) and self.proximal_mu >= 0):
            raise ValueError(f"proximal_mu must be finite and not negative, got {self.proximal_mu}")
        for name in ("batch_size", "local_epochs", "max_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1 or None, got {self.max_steps}")

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
        """Draws which clips a phone trains on in this round, and in which batches.

        Args:
          num_examples: clips on the phone.
          rngs: streams of this round; the phone's is asked for only if something is drawn.
          phone: its place among them.
        """
        return batch_schedule(
            num_examples,
            max_examples=self.max_examples,
            batch_size=self.batch_size,
            local_epochs=self.local_epochs,
            max_steps=self.max_steps,
            rng=lambda: rngs[phone],
        )


def train_adapter(
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    dataset: LocalDataset,
    training: LocalTraining,
    rng: np.random.Generator,
) -> Delta:
    """Trains the adapter on one phone's clips and returns what changed.

    An empty dataset gives a zero delta. Nothing is refused for its values: a delta that is not
    finite is dealt with where it leaves the phone, so that taking part does not depend on data.

    Args:
      adapter: what is trained.
      parameters: the global adapter, named as in `adapter.spec`.
      dataset: the phone's clips.
      training: how.
      rng: `stream(seed, "batches", round, phone)`.

    Returns:
      Local minus global parameters, shape (adapter.spec.size,).
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

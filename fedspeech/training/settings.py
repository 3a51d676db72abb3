"""Settings of local training and their schedule, without torch: a scenario is read in no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedspeech.limits import Count, Decay, NotNegative, Positive, check_limits
from fedspeech.training.dataset import Schedule, in_order


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

"""A server rule and a local trainer of another package, which do what this library's do.

The `dist-info` folder beside this file is what an installed package has: it declares both.
"""

from dataclasses import dataclass

import numpy as np

from fedspeech.training.local import train_adapter
from fedspeech.vectors import GlobalState


@dataclass(frozen=True)
class HeavyBall:
    """FedAvgM.

    Attributes:
      rate: step size.
      decay: of what it remembers.
    """

    rate: float = 0.5
    decay: float = 0.5

    def init(self, parameters):
        """Nothing is remembered."""
        return GlobalState(parameters, {"first": np.zeros_like(parameters)})

    def apply(self, state, mean_delta):
        """A step along what is remembered."""
        first = self.decay * state.moments["first"] + mean_delta
        return GlobalState(state.parameters + self.rate * first, {"first": first})


@dataclass(frozen=True)
class OneByOne:
    """The loop to read, for one phone at a time.

    Attributes:
      longer: what a delta is multiplied with; the plan clips it all the same.
    """

    longer: float = 1.0

    def __call__(self, adapter, parameters, dataset, training, rng):
        """Trains as `fedspeech.training.local` does."""
        delta = train_adapter(adapter, parameters, dataset, training, rng)
        return delta.vector * np.float32(self.longer)

"""A query of another package, as small as one can be: the mean of one number per phone.

The `dist-info` folder beside this file is what an installed package has: it declares the query.
"""

from dataclasses import dataclass

import numpy as np

from fedspeech.queries.query import Query
from fedspeech.vectors import GlobalState


@dataclass(frozen=True, kw_only=True)
class BoundedMean(Query):
    """How many examples a phone holds, on average.

    Attributes:
      most: examples that count as 1.
    """

    most: int = 16
    dimension = 1

    def initial(self, arrays):
        """Nothing is known; phones are sent the last mean and do not need it."""
        return GlobalState(np.zeros(1))

    def contributions(self, phones, model, rngs):
        """One number in [0, 1] of each phone."""
        return [np.array([min(len(phone) / self.most, 1)], np.float32) for phone in phones]

    def update(self, state, mean):
        """Keeps the last mean, and all of them."""
        means = state.moments.get("means", np.zeros(0))
        return GlobalState(mean, {"means": np.append(means, mean)})


class Impostor:
    """No query, though its package could declare it as one."""

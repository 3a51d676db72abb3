"""Did noise cost the model its accuracy? A verdict from what a server may see, and from no more.

Two things are tested, since neither is enough alone:

* **The model answers fewer clips of the public validation speakers than the base did**
  (`fell`): by more than three standard errors of the difference of two independent shares. Of a
  model that is as good as its base this is said with a probability of at most 0.3 %. Both were
  judged on the same clips, which makes the true error smaller. Public speakers may be unlike the
  phones that train, so a fall alone is no fault: phones can gain what public speakers lose.
* **Noise alone does it** (`noise_did_it`): steps of the same lengths in random directions, of
  which only the noise's share is kept, cost at least half of that fall, in at least 19 of 20
  draws. Where the typical draw (the median over directions) costs less than half, noise is blamed
  with a probability under 1 in 40,000. Models can stand much noise: a way through 780 coordinates
  misses most of what matters for the answers.

Directions are drawn by flipping the sign of each coordinate of the way that the model went: its
step by step lengths stay, whatever the server's optimizer made of them, and what phones taught is
gone from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEVIATIONS = 3.0
DRAWS, MOST_EXCEPTIONS = 20, 1


def fell(before: float, after: float, clips: int) -> bool:
    """Whether accuracy on so many clips fell, beyond chance, from that of the base."""
    if clips < 1:
        return False
    spread = math.sqrt((before * (1 - before) + after * (1 - after)) / clips)
    return before - after > DEVIATIONS * spread


def moved_by_noise(
    base: NDArray[np.float32],
    model: NDArray[np.float32],
    signal_to_noise: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Models that noise alone would have made of a base, shape (DRAWS, d).

    The ratio of signal to noise is that of lengths in the sum of all decoded means
    (`fedspeech.round.ServerState`); the noise has 1 / (1 + ratio^2) of the squared way.
    """
    way = (model - base) / math.sqrt(1 + signal_to_noise**2)
    signs = rng.choice((-1.0, 1.0), (DRAWS, len(way)))
    moved: NDArray[np.float32] = (base + signs * way).astype(np.float32)
    return moved


def noise_did_it(before: float, after: float, by_noise: Sequence[float]) -> bool:
    """Whether noise alone costs at least half of a fall: accuracies of `moved_by_noise`."""
    exceptions = sum(before - alone < (before - after) / 2 for alone in by_noise)
    return exceptions <= MOST_EXCEPTIONS

"""Something to look at: log-mel from features that an attack recovered.

Many sounds have the same features, so an attacker needs to know what speech is like. Here it is the
principal components of public log-mel (Turk and Pentland 1991): a picture is searched among their
sums whose features, through the frozen encoder, are those that were recovered, and which is as
likely as speech is, each component weighed by its spread (maximum a posteriori of a Gaussian).

    prior = SpeechPrior.of(public)                        # (n, frames, mels)
    picture = log_mel_of(recovered, encode, prior)        # (m, frames, mels)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

Encode = Callable[[Tensor], Tensor]
"""Log-mel (m, frames, mels) to what an attack recovers of it, (m, f); can be differentiated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechPrior:
    """What public log-mel is like.

    Attributes:
      mean: shape (frames, mels).
      components: each as long as its spread, shape (k, frames, mels).
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def of(cls, public: NDArray[np.float32], components: int = 64) -> Self:
        """The prior of public log-mel, shape (n, frames, mels); fewer components than n."""
        mean = public.mean(axis=0)
        flat = (public - mean).reshape(len(public), -1)
        _, spreads, rows = np.linalg.svd(flat, full_matrices=False)
        kept = min(components, len(public) - 1, flat.shape[1])
        scaled = rows[:kept] * (spreads[:kept, np.newaxis] / np.sqrt(len(public) - 1))
        return cls(mean=mean, components=scaled.reshape(kept, *mean.shape).astype(np.float32))

    def pictures(self, weights: Tensor) -> Tensor:
        """Log-mel of weights (m, k), each of deviation 1 in speech; shape (m, frames, mels)."""
        flat = weights @ torch.tensor(self.components).flatten(1)
        return torch.tensor(self.mean) + flat.view(len(weights), *self.mean.shape)


def log_mel_of(
    recovered: NDArray[np.floating],
    encode: Encode,
    prior: SpeechPrior,
    *,
    trust: float = 30.0,
    steps: int = 100,
) -> NDArray[np.float32]:
    """The likeliest speech with features like these, shape (m, frames, mels).

    Args:
      recovered: what an attack answered, shape (m, f).
      encode: the frozen encoder, up to what the attack recovers.
      prior: what speech is like.
      trust: how much a mean squared error of one squared spread of the features costs, beside a
        squared deviation of a component.
      steps: of the search, at most.
    """
    wanted = torch.tensor(np.asarray(recovered), dtype=torch.float32)
    count, kept = len(wanted), len(prior.components)
    with torch.no_grad():
        typical = encode(prior.pictures(torch.eye(kept)))
        spread = float((typical - encode(prior.pictures(torch.zeros(1, kept)))).std()) + 1e-6

    def cost(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.tensor(point.reshape(count, kept), dtype=torch.float32, requires_grad=True)
        missed = ((encode(prior.pictures(weights)) - wanted) / spread).square().mean(dim=1).sum()
        value = trust * missed + weights.square().sum() / 2
        (slope,) = torch.autograd.grad(value, weights)
        return float(value.detach()), slope.numpy().astype(np.float64).reshape(-1)

    found = minimize(
        cost, np.zeros(count * kept), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    weights = torch.tensor(found.x.reshape(count, kept), dtype=torch.float32)
    return prior.pictures(weights).numpy()

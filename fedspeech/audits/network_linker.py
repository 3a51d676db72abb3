"""The linker that judges defences: a network, trained from scratch in every evaluation.

Whoever tunes a defence against the linkers of `linkers.py` may end with one that stops those and no
others. This one is of another kind (discriminative, not linear), takes no part in any tuning, and
learns anew from the evaluation's own training speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.audits.linkers import Directions, Link
from fedspeech.training.one_thread import one_thread

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NetworkLinker:
    """Two updates through one small network; the cosine of what comes out.

    In every step each update of a training speaker has to find the speaker's other one among all
    (InfoNCE: van den Oord et al. 2018, arXiv:1807.03748, Eq. 4). Noise on the inputs and dropout
    stand against learning the few speakers by heart.

    Attributes:
      components: most principal components that it takes.
      width: of the hidden layer and of what comes out.
      steps: of training.
      learning_rate: of Adam.
      dropout: share of hidden units that are left out in a step.
      temperature: by which cosines are divided.
      jitter: standard deviation of the noise on inputs, of which the strongest has 2.
    """

    name: str = "network (evaluation)"
    components: int = 64
    width: int = 128
    steps: int = 150
    learning_rate: float = 3e-3
    dropout: float = 0.3
    temperature: float = 0.1
    jitter: float = 0.3

    def fit(self, one: Matrix, other: Matrix, rng: np.random.Generator) -> Link:
        """Trains the network; see `Linker.fit`."""
        directions = Directions.of(one, other)
        both = np.concatenate([directions(one), directions(other)])
        mean = both.mean(axis=0)
        _, sizes, axes = np.linalg.svd(both - mean, full_matrices=False)
        # A direction in which nobody differs would come out as rounding errors of size 1.
        count = min(self.components, len(one) - 1, int((sizes > 1e-6 * sizes[0]).sum()))
        # Half-way to equal: where noise is in every direction, the weak ones are mostly noise.
        scaled = axes[:count].T * (2 * np.sqrt(len(both)) / np.sqrt(sizes[:count] * sizes[0]))

        def inputs(updates: Matrix) -> Tensor:
            return torch.from_numpy((directions(updates) - mean) @ scaled).float()

        network = self._trained(inputs(one), inputs(other), int(rng.integers(2**62)))

        def link(probes: Matrix, enrolled: Matrix) -> Matrix:
            with one_thread(), torch.inference_mode():
                found = _out(network, inputs(probes)) @ _out(network, inputs(enrolled)).T
            return np.asarray(found.numpy(), dtype=np.float64)

        return link

    def _trained(self, one: Tensor, other: Tensor, seed: int) -> nn.Module:
        """The network after its steps, in evaluation mode."""
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = nn.Sequential(
                nn.Linear(one.shape[1], self.width),
                nn.ReLU(),
                nn.Dropout(self.dropout),
                nn.Linear(self.width, self.width),
            )
            adam = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=0.01)
            target = torch.arange(len(one))
            for _ in range(self.steps):
                adam.zero_grad()
                here, there = (
                    _out(network, side + self.jitter * torch.randn_like(side))
                    for side in (one, other)
                )
                cosines = here @ there.T / self.temperature
                there_and_back = [
                    nn.functional.cross_entropy(way, target) for way in (cosines, cosines.T)
                ]
                torch.autograd.backward(torch.stack(there_and_back).sum())
                adam.step()
        return network.eval()


def _out(network: nn.Module, inputs: Tensor) -> Tensor:
    """What comes out, at length 1."""
    found: Tensor = nn.functional.normalize(network(inputs), dim=1)
    return found

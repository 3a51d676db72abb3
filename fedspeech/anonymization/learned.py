"""Embeddings through a network that was trained to forget speakers: projection and autoencoder.

    method = adversarial_projection(public, speakers, seed=1)
    method(embeddings, draws=keystream)

A classifier that a network was trained against is fooled; one that comes after may not be. An
attacker who is trained anew on what comes out is what counts (docs/anonymization.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedspeech.anonymization.embedding import Labels, LinearMap, Rows, checked, whitening
from fedspeech.anonymization.waveform import gaussian
from fedspeech.models.gradient_reversal import gradient_reversal
from fedspeech.seeds import Keystream

STEPS, BATCH, LEARNING_RATE = 400, 128, 2e-3


def adversarial_projection(
    rows: Rows, speakers: Labels, *, width: int = 32, strength: float = 1.0, seed: int
) -> LinearMap:
    """A linear map from which rows can be rebuilt and a classifier of speakers learns little.

    Args:
      rows: of public speakers, shape (n, d).
      speakers: who they are of, from 0.
      width: of what comes out.
      strength: of the classifier's turned gradient.
      seed: of initial values and batches.
    """
    white, inputs = _whitened(rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        down = nn.Linear(inputs.shape[1], width, bias=False)
        up = nn.Linear(width, inputs.shape[1])
        told = nn.Sequential(
            nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, int(speakers.max()) + 1)
        )
        labels = torch.from_numpy(speakers)

        def loss(batch: Tensor) -> Tensor:
            hidden = down(inputs[batch])
            turned = gradient_reversal(hidden, 1.0)  # the loss weighs it
            heard = nn.functional.cross_entropy(told(turned), labels[batch])
            found: Tensor = ((up(hidden) - inputs[batch]) ** 2).mean() + strength * heard
            return found

        _train(nn.ModuleList([down, up, told]), loss, len(inputs))
    return LinearMap(white.center, white.matrix @ down.weight.detach().numpy().T.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Vae:
    """Rebuilt from a draw of a few Gaussian numbers (Kingma and Welling 2014, arXiv:1312.6114).

    Attributes:
      white: applied first; what comes out is white too.
      encoder: to means and log-variances.
      decoder: back.
    """

    white: LinearMap
    encoder: nn.Module
    decoder: nn.Module

    @classmethod
    def fit(cls, rows: Rows, *, latent: int = 16, beta: float = 0.05, seed: int) -> Vae:
        """Trains on public embeddings (n, d); `beta` weighs how few bits are kept."""
        white, inputs = _whitened(rows)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wide = inputs.shape[1]
            encoder = nn.Sequential(nn.Linear(wide, 128), nn.ReLU(), nn.Linear(128, 2 * latent))
            decoder = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, wide))

            def loss(batch: Tensor) -> Tensor:
                mean, spread = encoder(inputs[batch]).chunk(2, dim=1)
                drawn = mean + torch.exp(spread / 2) * torch.randn_like(mean)
                told = (mean**2 + spread.exp() - 1 - spread).sum(dim=1).mean() / 2
                rebuilt: Tensor = ((decoder(drawn) - inputs[batch]) ** 2).mean()
                found: Tensor = rebuilt + beta * told / latent
                return found

            _train(nn.ModuleList([encoder, decoder]), loss, len(inputs))
        return cls(white, encoder.eval(), decoder.eval())

    def __call__(self, rows: Rows, *, draws: Keystream) -> Rows:
        """Rebuilds rows from a draw each; see `EmbeddingMethod`."""
        inputs = torch.from_numpy(self.white(rows, draws=draws)).float()
        with torch.inference_mode():
            mean, spread = self.encoder(inputs).chunk(2, dim=1)
            noise = gaussian(draws, mean.numel()).reshape(tuple(mean.shape))
            drawn = mean + torch.exp(spread / 2) * torch.from_numpy(noise).float()
            return np.asarray(self.decoder(drawn).numpy(), dtype=np.float64)


def _whitened(rows: Rows) -> tuple[LinearMap, Tensor]:
    white = whitening(checked(rows))
    return white, torch.from_numpy((rows - white.center) @ white.matrix).float()


def _train(network: nn.Module, loss: Any, count: int) -> None:
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        adam.zero_grad()
        torch.autograd.backward(loss(torch.randint(count, (min(BATCH, count),))))
        adam.step()

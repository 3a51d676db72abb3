"""Example-level DP-SGD on the phone, through Opacus: what hides one clip in what its phone sends.

Beside the plan's protection of a whole phone and apart from it: the delta that comes out is
clipped, encoded, noised and masked like any other, and neither epsilon is part of the other. The
adversary here is whoever sees what the phone sends, the server included, as if nothing followed.

One step (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1) keeps each of the phone's clips with
probability q, clips each gradient, adds Gaussian noise to their sum and divides by the expected
batch. Neighbors differ in one clip of one phone, added or removed. So nothing but the sum may
depend on how many clips there are: q = batch_size / max_examples, the divisor batch_size and the
number of steps are public. `max_examples` only sets these numbers: no clip is left out beyond it,
since which one stays would depend on the others.

The public background clips are drawn, clipped and noised like the phone's own. Taken in full they
would need no noise, but a step would move by them whether or not the phone's clips were drawn.

Coins and noise are read from a ChaCha20 keystream whose key comes from `NoiseEntropy`. Opacus would
draw noise from torch's Mersenne Twister, which is no cryptographic generator and takes 32 bits of
its seed: few enough to try them all. Four draws make one value, against attacks on the bits of one
(Holohan and Braghin 2021, arXiv:2107.10138); for the rest, floats are taken for the reals they
stand for.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fedspeech.models.adapters.adapter import Adapter
from fedspeech.privacy.events import Gaussian, PoissonSampled
from fedspeech.privacy.examples import ExampleCost, ExamplePrivacy
from fedspeech.seeds import Keystream
from fedspeech.training.dataset import LocalDataset, refuse_weights
from fedspeech.training.local import make_optimizer
from fedspeech.training.one_thread import one_thread
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta


def example_cost(
    privacy: ExamplePrivacy, training: LocalTraining, max_participations: int
) -> ExampleCost | None:
    """What the rounds of a phone cost one example of it, at most; None if no example is hidden."""
    if privacy.noise_multiplier == 0:
        return None
    step = Gaussian(noise_multiplier=privacy.noise_multiplier)
    return ExampleCost(
        event=PoissonSampled(probability=sampling_rate(training), event=step),
        steps=training.num_steps,
        max_participations=max_participations,
        clip_norm=privacy.clip_norm,
        delta=privacy.delta,
    )


def sampling_rate(training: LocalTraining) -> float:
    """Probability q of a clip being in a step, the same on every phone."""
    return min(1.0, training.batch_size / training.max_examples)


def train_private(
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    datasets: Sequence[LocalDataset],
    training: LocalTraining,
    rngs: Sequence[np.random.Generator],
    *,
    privacy: ExamplePrivacy,
) -> list[Delta]:
    """Trains the adapter on each phone's clips, one phone after the other; one delta per phone.

    A phone's bits depend on its clips and its generator, not on who else is trained. Each generator
    is seeded from `NoiseEntropy` for one phone and attempt alone, and gives the key of a keystream.

    Raises:
      ValueError: if there is not one generator per phone, or clips have weights.
    """
    if len(datasets) != len(rngs):
        raise ValueError(f"expected a stream per phone, got {len(rngs)} for {len(datasets)}")
    refuse_weights(datasets, "DP-SGD on examples")
    with one_thread(), warnings.catch_warnings():
        # Clips need no gradient of their own, which torch remarks on.
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        return [
            _train_phone(adapter, parameters, dataset, training, rng, privacy)
            for dataset, rng in zip(datasets, rngs, strict=True)
        ]


def _train_phone(
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    dataset: LocalDataset,
    training: LocalTraining,
    rng: np.random.Generator,
    privacy: ExamplePrivacy,
) -> Delta:
    """Takes the public number of steps, whatever clips there are."""
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    rate, secret = sampling_rate(training), Keystream(rng.bytes(32))
    module = GradSampleModule(_Scorer(adapter, parameters))
    local = list(module.parameters())
    start = [parameter.detach().clone() for parameter in local]
    expected_batch = min(training.batch_size, training.max_examples)
    optimizer = DPOptimizer(
        make_optimizer(local, training),
        noise_multiplier=0.0,  # ours comes from a keystream, below
        max_grad_norm=privacy.clip_norm,
        expected_batch_size=expected_batch,
    )
    # Noise is added behind Opacus' own scaling: the sum was divided by the expected batch before
    # the hook runs, so the noise is divided here. In double, and rounded once with the sum.
    stddev = privacy.noise_multiplier * privacy.clip_norm / expected_batch

    def protect(_: object) -> None:
        """Adds the noise, then FedProx's pull towards the global adapter, which sees no clip."""
        noises = step_noise(secret, [parameter.numel() for parameter in local])
        for parameter, before, noise in zip(local, start, noises, strict=True):
            assert parameter.grad is not None
            drawn = torch.from_numpy(stddev * noise)
            parameter.grad.copy_(parameter.grad + drawn.view_as(parameter))
            parameter.grad.add_(parameter.detach() - before, alpha=training.proximal_mu)

    optimizer.attach_step_hook(protect)
    embeddings, labels = _padded(dataset, training.max_examples)
    for _ in range(training.num_steps):  # the same on every phone
        drawn = np.zeros(len(labels), dtype=np.float32)
        drawn[: len(dataset)] = in_step(secret, len(dataset), rate)
        optimizer.zero_grad()
        # Clips that are not drawn keep their place with weight 0: otherwise the shape of a batch,
        # and with it the time that it takes, would tell how many were drawn. Opacus multiplies the
        # mean by the number of rows, so a clip's gradient does not depend on that number.
        losses = functional.cross_entropy(module(embeddings), labels, reduction="none")
        torch.autograd.backward((losses * torch.from_numpy(drawn)).mean())
        # After weighting, for clips that were not drawn too: 0 times infinity is NaN.
        _silence_non_finite(optimizer.grad_samples)
        optimizer.step()
    changed = {
        name: (after.detach() - before).numpy()
        for (name, _), after, before in zip(adapter.spec.shapes, local, start, strict=True)
    }
    return Delta(adapter.spec.flatten(changed))


class _Scorer(nn.Module):
    """An adapter as a module, as Opacus wants it."""

    def __init__(self, adapter: Adapter, parameters: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__()
        self._adapter = adapter
        for name, _ in adapter.spec.shapes:
            self.register_parameter(_plain(name), nn.Parameter(torch.tensor(parameters[name])))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores clips (n, *embedding_shape) as logits (n, c)."""
        own = {
            name: getattr(self, _plain(name)).unsqueeze(0) for name, _ in self._adapter.spec.shapes
        }
        return self._adapter.logits(own, embeddings.unsqueeze(0)).squeeze(0)


def _plain(name: str) -> str:
    """A parameter's name without dots, which torch takes for the path to a module."""
    return name.replace(".", "/")


def in_step(secret: Keystream, num_examples: int, rate: float) -> NDArray[np.bool_]:
    """Tosses the coin of each example for one step, shape (num_examples,)."""
    return secret.uniform(num_examples) < rate


def step_noise(secret: Keystream, sizes: Sequence[int]) -> list[NDArray[np.float64]]:
    """Draws standard normal noise for one step, parameter by parameter in the adapter's order."""
    return [normal(secret, size) for size in sizes]


def normal(keystream: Keystream, num_values: int) -> NDArray[np.float64]:
    """Returns standard normal values (num_values,), each made of four by Box and Muller (1958)."""
    # A uniform may be 0 and is never 1: log1p(-u) is finite where log(u) is not.
    radius = np.sqrt(-2 * np.log1p(-keystream.uniform(4 * num_values)))
    values = radius * np.cos(2 * np.pi * keystream.uniform(4 * num_values))
    summed: NDArray[np.float64] = values.reshape(4, num_values).sum(axis=0) / 2
    return summed


def _padded(dataset: LocalDataset, multiple: int) -> tuple[Tensor, Tensor]:
    """Clips and labels, with zeros up to whole blocks: time tells no more than their number."""
    rows = multiple * max(1, math.ceil(len(dataset) / multiple))
    embeddings = torch.zeros(rows, *dataset.embeddings.shape[1:])
    labels = torch.zeros(rows, dtype=torch.int64)
    embeddings[: len(dataset)] = torch.tensor(dataset.embeddings)
    labels[: len(dataset)] = torch.tensor(dataset.labels)
    return embeddings, labels


def _silence_non_finite(samples: Sequence[Tensor]) -> None:
    """Makes gradients of clips zero that are not numbers: one such clip would spoil all others."""
    finite = torch.stack([sample.flatten(1).isfinite().all(dim=1) for sample in samples]).all(dim=0)
    for sample in samples:
        # In all parameters, though one alone is not finite: such a clip counts as absent.
        sample[~finite] = 0.0

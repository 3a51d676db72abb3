"""Adapter training on many phones at once: `local.py` as batched matrix products.

Phones are laid side by side in blocks of one fixed shape, the adapter's `block_phones` phones of
`max_examples` clips each; what is missing is padding of weight zero. Every phone's arithmetic
then runs through the same kernels over the same shapes wherever it stands, so its bits depend
neither on its neighbors nor on the number of workers that share the cohort. Against the
one-phone loop, whose shapes differ, it agrees to 1e-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.models.adapters.adapter import Adapter, Batch, LogitGradient
from fedspeech.models.compute import compute_device
from fedspeech.training import dual
from fedspeech.training.dataset import Block, LocalDataset, pad_block
from fedspeech.training.local import ADAM_BETAS, ADAM_EPSILON
from fedspeech.training.objectives import objective_of
from fedspeech.training.one_thread import one_thread
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta


def train_cohort(
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    datasets: Sequence[LocalDataset],
    training: LocalTraining,
    rngs: Sequence[np.random.Generator],
) -> list[Delta]:
    """Trains the adapter on each phone's clips, as `local.train_adapter` would, to one delta each.

    Both sequences may be lazy: datasets are read block by block, and a stream
    (`stream(seed, "batches", round, phone)`) is asked for only where its phone draws something.

    Raises:
      ValueError: if there is not one stream per phone or an embedding has another shape.
    """
    if len(datasets) != len(rngs):
        raise ValueError(f"expected a stream per phone, got {len(rngs)} for {len(datasets)}")
    device, block_phones = compute_device(), adapter.block_phones
    start = {
        name: torch.tensor(value, device=device).expand(block_phones, *value.shape)
        for name, value in parameters.items()
    }
    shape = (block_phones, training.max_examples, *adapter.embedding_shape)
    room = np.empty(shape, dtype=np.float32)
    deltas: list[Delta] = []
    with one_thread(), torch.no_grad():
        for first in range(0, len(datasets), block_phones):
            places = range(first, min(first + block_phones, len(datasets)))
            members = [datasets[place] for place in places]
            schedules = [
                training.schedule(len(dataset), rngs, place)
                for place, dataset in zip(places, members, strict=True)
            ]
            block = pad_block(members, schedules, room)
            rows = _train_block(adapter, start, block, training, device)
            deltas += [Delta(row) for row in rows[: len(members)].cpu().numpy()]
    return deltas


def _train_block(
    adapter: Adapter,
    start: Mapping[str, Tensor],
    block: Block,
    training: LocalTraining,
    device: torch.device,
) -> Tensor:
    """Trains one block on a device; returns deltas of shape (block_phones, d)."""
    clips = torch.from_numpy(block.embeddings).to(device)
    steps = _batches(clips, block, training, device)
    logit_gradient = objective_of(adapter).logit_gradient
    update = _Adam(training) if training.optimizer == "adam" else _Sgd(training)
    if dual.pays(adapter, training):
        changed = dual.train_head(start, clips, steps, logit_gradient, update, training.proximal_mu)
    else:
        changed = _train_parameters(
            adapter, start, steps, logit_gradient, update, training.proximal_mu
        )
    return torch.cat([changed[name].flatten(1) for name, _ in adapter.spec.shapes], dim=1)


def _train_parameters(
    adapter: Adapter,
    start: Mapping[str, Tensor],
    steps: Iterator[tuple[Batch, Tensor]],
    logit_gradient: LogitGradient,
    update: dual.Update,
    proximal_mu: float,
) -> dict[str, Tensor]:
    """Trains the parameters themselves; returns what each has changed by, (p, *shape)."""
    local = {name: value.clone() for name, value in start.items()}
    for batch, active in steps:
        gradients = adapter.gradients(local, batch, logit_gradient)
        if proximal_mu:
            for name, gradient in gradients.items():
                gradient.add_(local[name] - start[name], alpha=proximal_mu)
        update(local, gradients, active)
    return {name: value.sub_(start[name]) for name, value in local.items()}


def _batches(
    embeddings: Tensor, block: Block, training: LocalTraining, device: torch.device
) -> Iterator[tuple[Batch, Tensor]]:
    """Yields the steps of a block: clips, and (p,) 1 for a phone that takes the step, else 0."""
    labels = torch.from_numpy(block.labels).to(device)
    positions = torch.from_numpy(block.batches).to(device)
    present = positions >= 0
    counts = present.sum(dim=2, keepdim=True)
    # A phone without a clip in this step gets weights 0 / 1: 0 / 0 would make it NaN.
    shares = present / counts.clamp(min=1)
    own = torch.from_numpy(block.weights).to(device)
    # A zero gradient does not stop a phone that has fewer steps than its block: momentum and
    # FedProx's pull would move it on.
    active = (counts[:, :, 0] > 0).to(torch.float32)
    num_phones, num_steps, batch_size = positions.shape
    if training.takes_all_at_once:  # every step is the same batch, in the order of the block
        whole = Batch(embeddings, labels, shares[:, :1].sum(dim=1) * own)
        yield from ((whole, active[:, step]) for step in range(num_steps))
        return
    first_row = torch.arange(num_phones, device=device).view(-1, 1, 1) * training.max_examples
    # Padding reads the phone's own first clip: 0 times NaN is NaN, and another phone's clip could
    # spoil this one.
    rows = positions.clamp(min=0) + first_row
    flat_embeddings, flat_labels = embeddings.flatten(0, 1), labels.flatten(0, 1)
    weights = own.flatten()[rows] * shares
    for step in range(num_steps):
        chosen = rows[:, step].flatten()
        batch = Batch(
            flat_embeddings.index_select(0, chosen).view(
                num_phones, batch_size, *embeddings.shape[2:]
            ),
            flat_labels.index_select(0, chosen).view(num_phones, batch_size, *labels.shape[2:]),
            weights[:, step].contiguous(),
        )
        yield batch, active[:, step]


class _Sgd:
    """SGD with heavy-ball momentum, as `torch.optim.SGD`."""

    def __init__(self, training: LocalTraining) -> None:
        self._training = training
        self._velocity: dict[str, Tensor] = {}

    def __call__(
        self, local: Mapping[str, Tensor], gradients: Mapping[str, Tensor], active: Tensor
    ) -> None:
        """Moves the active phones one step."""
        rate = active * self._training.learning_rate
        for name, gradient in gradients.items():
            velocity = gradient
            if self._training.momentum:  # else nothing is remembered
                if name in self._velocity:
                    velocity = self._velocity[name]
                    torch.add(gradient, velocity, alpha=self._training.momentum, out=velocity)
                # The first velocity is the gradient itself, not a fraction of it: as in torch.
                self._velocity[name] = velocity
            local[name].addcmul_(velocity, _per_phone(rate, velocity), value=-1)


class _Adam:
    """Adam (Kingma and Ba 2015, Algorithm 1), as `torch.optim.Adam`."""

    def __init__(self, training: LocalTraining) -> None:
        self._training = training
        self._steps = 0
        self._moments: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(
        self, local: Mapping[str, Tensor], gradients: Mapping[str, Tensor], active: Tensor
    ) -> None:
        """Moves the active phones one step."""
        # One count for all phones: steps fill a schedule from its start, so an active phone has
        # taken all before.
        self._steps += 1
        corrections = [1 - beta**self._steps for beta in ADAM_BETAS]
        rate = active * (self._training.learning_rate / corrections[0])
        for name, gradient in gradients.items():
            if name not in self._moments:
                self._moments[name] = (torch.zeros_like(gradient), torch.zeros_like(gradient))
            first, second = self._moments[name]
            first.mul_(ADAM_BETAS[0]).add_(gradient, alpha=1 - ADAM_BETAS[0])
            second.mul_(ADAM_BETAS[1]).addcmul_(gradient, gradient, value=1 - ADAM_BETAS[1])
            direction = first / (second / corrections[1]).sqrt_().add_(ADAM_EPSILON)
            local[name].addcmul_(direction, _per_phone(rate, direction), value=-1)


def _per_phone(values: Tensor, like: Tensor) -> Tensor:
    """Shapes (p,) so that it multiplies a tensor of shape (p, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))

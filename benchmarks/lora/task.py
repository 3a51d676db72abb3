"""The task that every contender gets: the shipped encoder, rank 4 on its last two blocks.

40 clips a phone, 5 steps of SGD over all of them: A, B and the head. A contender that knows nothing
of fedspeech's cut holds the encoder as a torch module with a thin branch beside each adapted layer,
as PEFT does, and runs all of it in every step.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedspeech.models.adapters.peft_layout import Scorer, scorer
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.cut import start_of

CLIPS, STEPS, LEARNING_RATE = 40, 5, 0.01
BASE = Base.load(default_base_path())
SHAPE = AdapterShape.of(BASE, "lora", len(BASE.vocabulary.labels))
assert SHAPE.lora is not None
LAYERS = [name for name, _ in SHAPE.lora.layers]


def write(folder: Path, phones: int) -> None:
    """Draws features of the phones, (phones, 40, frames, mels), and frames before the cut."""
    rng = np.random.default_rng(1)
    spec = BASE.built_in
    shape = (phones, CLIPS, spec.context_frames + spec.frontend.frames_per_clip, spec.spec.num_mels)
    features = rng.standard_normal(shape, dtype=np.float32)
    start = start_of(BASE, LAYERS)
    with torch.inference_mode():
        frames = np.stack(
            [start._frames(torch.from_numpy(one))[:, -start.num_windows :] for one in features]
        )
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "features.npy", features)
    np.save(folder / "frames.npy", frames)
    np.save(folder / "labels.npy", rng.integers(0, SHAPE.num_labels, (phones, CLIPS)))


def read(folder: Path, name: str) -> np.ndarray:
    """Maps an array of all phones."""
    return np.load(folder / f"{name}.npy", mmap_mode="r")


class Branch(nn.Module):
    """A frozen layer and a thin one beside it."""

    def __init__(self, layer: nn.Conv1d, a: Tensor, b: Tensor) -> None:
        super().__init__()
        assert SHAPE.lora is not None
        self.layer = layer.requires_grad_(False)
        taps, stride = layer.kernel_size, layer.stride
        self.a = nn.Conv1d(layer.in_channels, SHAPE.lora.rank, taps, stride, bias=False)
        self.b = nn.Conv1d(SHAPE.lora.rank, layer.out_channels, 1, bias=False)
        self.a.weight.data, self.b.weight.data = a.clone(), b.clone().unsqueeze(2)

    def forward(self, x: Tensor) -> Tensor:
        """W x + B A x."""
        return self.layer(x) + self.b(self.a(x))


def module() -> Scorer:
    """The base with branches at their start."""
    found = scorer(BASE).requires_grad_(False)
    adapter = SHAPE.build(SHAPE.frozen(BASE))
    start = adapter.initial(BASE.head_weight, BASE.head_bias)
    for name in LAYERS:
        a, b = (torch.from_numpy(start[f"{name}.lora_{part}"]) for part in "AB")
        parent, _, last = name.rpartition(".")
        owner = found.encoder.get_submodule(parent)
        setattr(owner, last, Branch(getattr(owner, last), a, b))
    found.head.requires_grad_(True)
    return found


def trained(network: nn.Module) -> dict[str, Tensor]:
    """What a phone sends."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def train(network: nn.Module, features: Tensor, labels: Tensor) -> None:
    """Five steps of one phone, in place."""
    # Without torch.optim, which imports triton: in the threads of Ray's actors that has crashed.
    moving = list(trained(network).values())
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(network(features), labels)
        with torch.no_grad():
            for parameter, gradient in zip(moving, torch.autograd.grad(loss, moving), strict=True):
                parameter.sub_(gradient, alpha=LEARNING_RATE)


def fresh(start: nn.Module) -> nn.Module:
    """A phone's own copy."""
    return copy.deepcopy(start)

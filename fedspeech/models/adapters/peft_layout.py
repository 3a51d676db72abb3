"""Low-rank factors in the layout of PEFT, and the module that PEFT puts them on.

    save_adapter(folder, shape, parameters, ...)
    model = peft.PeftModel.from_pretrained(scorer(base), folder)
    logits = model(base.built_in.features(heard))

Of a base that was made of a module, `scorer(base, network)` takes what its encoder's `inputs` give.
Names and shapes are those of peft 0.14 and later, the first that adapts one-dimensional
convolutions: `lora_A` is a layer with r outputs and the layer's own taps, `lora_B` one with a
single tap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.models.adapters.lora import factor_a, factor_b
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import frames_of
from fedspeech.models.pooling import Pooling

if TYPE_CHECKING:
    from fedspeech.models.adapters.shape import LoraShape

_PREFIX = "base_model.model."
_ENCODER, _HEAD = "encoder", "head"

Arrays = Mapping[str, NDArray[np.float32]]


class Scorer(nn.Module):
    """A base as one module: standardized features (n, frames, mels) to logits (n, c)."""

    def __init__(self, encoder: nn.Module, head: nn.Linear, num_windows: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self._num_windows = num_windows

    def forward(self, features: Tensor) -> Tensor:
        """Scores the clips at the end of some features, after their left context."""
        windows = self.encoder(features)[:, -self._num_windows :]
        logits: Tensor = self.head(torch.relu(windows).mean(dim=1))
        return logits


class BroughtScorer(nn.Module):
    """A base from elsewhere as one module: what its network takes to logits (n, c)."""

    def __init__(self, encoder: nn.Module, head: nn.Linear, pooling: Pooling | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self._pooling = pooling

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores what `ForeignEncoder.inputs` gives."""
        frames = frames_of(self.encoder(inputs))
        pooled = frames if self._pooling is None else self._pooling(frames)
        logits: Tensor = self.head(pooled.mean(dim=1))
        return logits


def scorer(base: Base, network: nn.Module | None = None) -> Scorer | BroughtScorer:
    """The base as a module of its own weights, which may be changed.

    Args:
      base: of words.
      network: the module that a base from elsewhere was made of (`Base.from_module`), which the
        result holds as it is; None: the base has the built-in encoder.

    Raises:
      ValueError: if the base brings its own encoder and no network is given.
    """
    if network is not None:
        return BroughtScorer(network, _head(base), base.pooling).eval()
    encoder = type(base).from_bytes(base.to_bytes()).built_in
    return Scorer(encoder.network, _head(base), encoder.num_windows).eval()


def _head(base: Base) -> nn.Linear:
    """The base's head as a layer."""
    labels, features = base.head_weight.shape
    head = nn.Linear(features, labels)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(base.head_weight))
        head.bias.copy_(torch.from_numpy(base.head_bias))
    return head


def config(lora: LoraShape) -> dict[str, Any]:
    """What PEFT's `adapter_config.json` says of the factors."""
    whole = lora.alpha == int(lora.alpha)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if whole else lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [f"{_ENCODER}.{name}" for name, _ in lora.layers],
        "modules_to_save": [_HEAD],
        "inference_mode": True,
    }


def to_peft(lora: LoraShape, parameters: Arrays) -> dict[str, NDArray[np.float32]]:
    """Parameters as PEFT names and shapes them."""
    found = {f"{_PREFIX}{_HEAD}.{part}": parameters[f"head_{part}"] for part in ("weight", "bias")}
    for name, shape in lora.layers:
        place = f"{_PREFIX}{_ENCODER}.{name}"
        found[f"{place}.lora_A.weight"] = parameters[factor_a(name)]
        taps = [1] * (len(shape) - 2)
        wide = parameters[factor_b(name)]
        found[f"{place}.lora_B.weight"] = wide.reshape(*wide.shape, *taps)
    return found


def from_peft(lora: LoraShape, tensors: Arrays) -> dict[str, NDArray[np.float32]]:
    """Inverts `to_peft`.

    Raises:
      KeyError: if a tensor is missing.
      ValueError: if there are others.
    """
    left = dict(tensors)
    found = {f"head_{part}": left.pop(f"{_PREFIX}{_HEAD}.{part}") for part in ("weight", "bias")}
    for name, _ in lora.layers:
        place = f"{_PREFIX}{_ENCODER}.{name}"
        found[factor_a(name)] = left.pop(f"{place}.lora_A.weight")
        wide = left.pop(f"{place}.lora_B.weight")
        found[factor_b(name)] = wide.reshape(wide.shape[:2])
    if left:
        raise ValueError(f"tensors of no adapted layer: {sorted(left)}")
    return found

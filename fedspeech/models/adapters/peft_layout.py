"""Low-rank factors in the layout of PEFT, and the module that PEFT puts them on.

    save_adapter(folder, shape, parameters, ...)
    model = peft.PeftModel.from_pretrained(scorer(base), folder)
    logits = model(base.built_in.features(heard))

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


def scorer(base: Base) -> Scorer:
    """The base as a module of its own weights, which may be changed.

    Raises:
      ValueError: if the base brings its own encoder.
    """
    encoder = type(base).from_bytes(base.to_bytes()).built_in
    labels, features = base.head_weight.shape
    head = nn.Linear(features, labels)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(base.head_weight))
        head.bias.copy_(torch.from_numpy(base.head_bias))
    return Scorer(encoder.network, head, encoder.num_windows).eval()


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

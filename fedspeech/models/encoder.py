"""What an encoder is: a frozen network, from what was heard to frames of features.

A base holds one and adapters train behind it, so its output for an utterance never changes and is
computed once. The built-in encoder is one implementation (`fedspeech.models.built_in`); a network
from elsewhere is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 64  # clips per call while it listens clip by clip

Activation = Literal["relu", "identity"]
"""What adapters apply to an encoder's output: the built-in encoder leaves its last ReLU to them."""


class Encoder(Protocol):
    """Heard samples in, frames of features out. Shapes: n utterances, w frames, f features.

    Attributes:
      rate_hz: sample rate.
      clip_samples: length of an utterance.
      context_samples: heard before an utterance; 0: nothing.
      hop_samples: between two answers of a stream.
      num_windows: frames of an utterance, w.
      num_features: features of a frame, f.
      activation: what adapters apply to the output.
      sha256: names what is computed, hex: cached outputs are found by it.
    """

    @property
    def rate_hz(self) -> int: ...  # noqa: D102
    @property
    def clip_samples(self) -> int: ...  # noqa: D102
    @property
    def context_samples(self) -> int: ...  # noqa: D102
    @property
    def hop_samples(self) -> int: ...  # noqa: D102
    @property
    def num_windows(self) -> int: ...  # noqa: D102
    @property
    def num_features(self) -> int: ...  # noqa: D102
    @property
    def activation(self) -> Activation: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102

    def __call__(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns (n, w, f) of left context and utterance, (n, context + clip), full scale 1."""
        ...

    def listening(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns (hops, w, f): the output of the utterance that ends with each hop of a stream.

        Digital silence is before the samples (n,).
        """
        ...


@dataclass(frozen=True, eq=False)
class EncoderPart:
    """The first part of an encoder: it hears what the whole one hears."""

    encoder: Encoder

    @property
    def rate_hz(self) -> int:
        """The encoder's."""
        return self.encoder.rate_hz

    @property
    def clip_samples(self) -> int:
        """The encoder's."""
        return self.encoder.clip_samples

    @property
    def context_samples(self) -> int:
        """The encoder's."""
        return self.encoder.context_samples

    @property
    def hop_samples(self) -> int:
        """The encoder's."""
        return self.encoder.hop_samples


def clip_by_clip(encoder: Encoder, samples: NDArray[np.float32]) -> Tensor:
    """`Encoder.listening` by a whole pass per hop: nothing is assumed of what time does to it."""
    length, hop = encoder.context_samples + encoder.clip_samples, encoder.hop_samples
    hops = len(samples) // hop
    if not hops:
        return torch.zeros(0, encoder.num_windows, encoder.num_features)
    before = np.zeros(max(length - hop, 0), dtype=np.float32)
    stream = np.concatenate([before, samples[: hops * hop]])
    ends = len(before) + hop * np.arange(1, hops + 1)
    blocks = [
        encoder(np.stack([stream[end - length : end] for end in ends[start : start + _BLOCK]]))
        for start in range(0, hops, _BLOCK)
    ]
    return torch.cat(blocks)


def activated(output: Tensor, activation: Activation) -> Tensor:
    """Applies the activation that an encoder leaves to adapters."""
    return torch.relu(output) if activation == "relu" else output

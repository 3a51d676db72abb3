"""Everything a graph is made of, as plain arrays: neither torch nor TensorFlow is needed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.folded import FoldedConv, FoldedEncoder
from fedspeech.vectors import ParameterSpec

FloatArray = NDArray[np.float32]
Parameters = Mapping[str, FloatArray]
T = TypeVar("T")

EMBEDDING_LIMIT = 1e4
"""Largest size of a value of an embedding, or of a derivative by a logit, that counts."""

# Of learning rates, clip norms and counts: above any that trains, below any that overflows.
SETTING_LIMIT = 1e6
# A clip norm of zero would turn every gradient into nothing, and the noise beside it too.
SMALLEST_CLIP_NORM = 1e-12
VALUE_LIMIT = 1e30
"""Largest size of a value of the noise, and of what momentum remembers."""

TRAINING_WINDOWS = 256
"""Windows of one step on sentences: all of a sentence of ten seconds."""


@dataclass(frozen=True)
class AdapterShape:
    """What a graph must know of an adapter beside its values; an embedding is cached per clip."""

    name: str
    spec: ParameterSpec
    embedding_shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """Everything the exported graph computes with.

    Attributes:
      context_frames: frames of left context before a clip; 0 for sentences.
      window: shape (window,), divided by its sum.
      mel_bins: bins of the spectrum under each filter, shape (mels, widest), int32.
      mel_weights: their weights, shape (mels, widest); 0 where a filter is narrower.
      offset: added to log energies before the cosines, shape (mels,); None for log-mel.
      cosines: what turns them into cepstra, shape (mels, cepstra); None for log-mel.
      feature_mean: shape (m,), mels or cepstra.
      feature_std: shape (m,).
      encoder: convolutions with BatchNorm folded in.
      parameters: the adapter's, by name.
    """

    frontend: FrontendSpec
    context_frames: int
    window: NDArray[np.float32]
    mel_bins: NDArray[np.int32]
    mel_weights: NDArray[np.float32]
    offset: NDArray[np.float32] | None
    cosines: NDArray[np.float32] | None
    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    encoder: FoldedEncoder
    adapter: AdapterShape
    parameters: Parameters

    @property
    def heard_frames(self) -> int:
        """Frames of left context and clip."""
        return self.context_frames + self.frontend.frames_per_clip

    @property
    def heard_samples(self) -> int:
        """Samples of left context and clip."""
        return self.context_frames * self.frontend.hop_samples + self.frontend.clip_samples

    def merged(self) -> Network:
        """The same function with an affine adapter folded into the last convolution.

        What is left of the affine is a head; other adapters stay as they are.
        """
        if self.adapter.name not in ("affine", "frame_affine"):
            return self
        # An affine stands before the activation, so the last convolution can take it over: the
        # merged file has no layer more than the base.
        scale, shift = self.parameters["scale"], self.parameters["shift"]
        last = self.encoder.output
        output = FoldedConv(
            last.weight * scale[:, None, None], last.bias * scale + shift, last.stride
        )
        head = {name: self.parameters[name] for name in ("head_weight", "head_bias")}
        spec = ParameterSpec(tuple((name, value.shape) for name, value in head.items()))
        return replace(
            self,
            encoder=FoldedEncoder(self.encoder.stem, self.encoder.blocks, output),
            adapter=AdapterShape("head", spec, (len(scale),)),
            parameters=head,
        )


def kernel(conv: FoldedConv) -> NDArray[np.float32]:
    """Turns torch's (outputs, inputs, taps) into TensorFlow's (taps, 1, inputs, outputs)."""
    return np.ascontiguousarray(conv.weight.transpose(2, 1, 0)[:, None])


def run_encoder(
    encoder: FoldedEncoder,
    x: T,
    *,
    convolve: Callable[[str, FoldedConv, T], T],
    relu: Callable[[T], T],
    note: Callable[[str, T], T],
) -> T:
    """Runs the encoder on standardized log-mel in whatever library brings convolution and ReLU.

    `note` is called with name and value after every layer, and what it returns goes on. The last
    layer is returned before its activation, not noted.
    """
    x = note("stem", relu(convolve("stem", encoder.stem, x)))
    for index, block in enumerate(encoder.blocks):
        name = f"block{index}"
        passed = x
        if block.shortcut is not None:
            shortcut = f"{name}.shortcut"
            passed = note(shortcut, convolve(shortcut, block.shortcut, x))
        y = note(f"{name}.first", relu(convolve(f"{name}.first", block.first, x)))
        y = note(f"{name}.second", convolve(f"{name}.second", block.second, y))
        x = note(name, relu(y + passed))  # type: ignore[operator]  # arrays of either library
    return convolve("output", encoder.output, x)


def convolution_steps(encoder: FoldedEncoder) -> Iterator[tuple[str, FoldedConv, int]]:
    """Yields name, convolution and the frames of the clip between two of its input frames."""
    yield "stem", encoder.stem, 1
    step = encoder.stem.stride
    for index, block in enumerate(encoder.blocks):
        if block.shortcut is not None:
            yield f"block{index}.shortcut", block.shortcut, step
        yield f"block{index}.first", block.first, step
        # From here on frames lie further apart; the shortcut starts where the block does.
        step *= block.first.stride
        yield f"block{index}.second", block.second, step
    yield "output", encoder.output, step

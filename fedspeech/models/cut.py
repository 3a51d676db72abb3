"""The built-in encoder, cut before a block: what runs once per clip, and what phones train through.

The windows of a clip depend on a limited stretch of the frames before the cut, since every
convolution looks back by a fixed number of frames. Only that stretch is kept, and what stands
behind the cut runs without padding: each convolution shortens it by what it looks back, down to the
clip's windows. Frames in which padding shows are never among them, so both parts together compute
what the whole encoder computes after its left context.

    layers = layers_of_last(base, blocks=2)
    frames = start_of(base, layers)(heard)                    # (n, 39040) -> (n, 53, 48)
    values = rest_of(base, layers).run({"x": frames})         # "features": (n, 64)
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.models.base import Base
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.encoder import Activation, Encoder, EncoderPart
from fedspeech.models.exported.cutting import ProgramStart, rest_of_program
from fedspeech.models.exported.cutting import adaptable as adaptable_of_program
from fedspeech.models.exported.cutting import with_added as with_added_to_program
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.models.frozen_graph import ADAPT, FrozenGraph, Layer, Of, Step
from fedspeech.models.kws import CausalConv, KwsEncoder, ResidualBlock
from fedspeech.seeds import canonical


@dataclass(frozen=True, eq=False)
class EncoderStart(EncoderPart):
    """The encoder's front end, stem and first blocks, as an `Encoder` of their own.

    Attributes:
      first_block: the first that does not run.
    """

    activation: ClassVar[Activation] = "identity"  # its last ReLU is behind it

    encoder: BuiltInEncoder
    first_block: int

    @property
    def num_windows(self) -> int:
        """Frames before the cut on which the windows of a clip depend."""
        return _stretches(self.encoder)[self.first_block]

    @property
    def num_features(self) -> int:
        """Channels before the cut."""
        spec = self.encoder.spec
        return (spec.stem_channels, *spec.channels)[self.first_block]

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the encoder's hash and the place of the cut."""
        named = canonical("encoder start", self.encoder.sha256, self.first_block)
        return hashlib.sha256(named).hexdigest()

    def __call__(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns the last frames before the cut; see `Encoder.__call__`."""
        samples = self.context_samples + self.clip_samples
        if heard.shape[1] != samples:
            raise ValueError(f"a clip is heard with its left context, {samples} samples together")
        with torch.inference_mode():
            return self._frames(self.encoder.features(heard))[:, -self.num_windows :]

    def listening(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns the frames of the clip that ends with each hop; see `Encoder.listening`."""
        spec, stride = self.encoder.frontend, self._stride
        before = self.encoder.context_frames + (self.encoder.num_windows - 1) * (
            self.encoder.spec.stride
        )
        silence = before * spec.hop_samples + spec.window_samples - spec.hop_samples
        with torch.inference_mode():
            features = self.encoder.features(np.pad(samples, (silence, 0))[np.newaxis])
            every = torch.empty(features.shape[1], self.num_features)
            # A pass answers every `stride`-th frame; passes that begin later fill in those between.
            for phase in range(stride):
                every[phase::stride] = self._frames(features[:, phase:])[0]
            reach = (self.num_windows - 1) * stride
            clips = every[before - reach :].unfold(0, reach + 1, 1)
            return clips[:, :, ::stride].transpose(1, 2)

    @property
    def _stride(self) -> int:
        """Frames of the front end between two frames before the cut."""
        return int(np.prod(self.encoder.spec.strides[: self.first_block], dtype=int))

    def _frames(self, features: Tensor) -> Tensor:
        """Runs stem and first blocks: (n, frames, mels) to (n, frames / stride, channels)."""
        network = self.encoder.network
        x = torch.relu(network.stem(features.transpose(1, 2)))
        for block, _ in zip(network.blocks, range(self.first_block), strict=False):
            x = block(x)
        return x.transpose(1, 2)


def adaptable(network: KwsEncoder) -> dict[str, CausalConv]:
    """Layers behind the stem by the paths of their convolutions."""
    found = {}
    for index, block in enumerate(network.blocks):
        assert isinstance(block, ResidualBlock)
        for name in ("first", "second", "shortcut"):
            if getattr(block, name) is not None:
                found[f"blocks.{index}.{name}.conv"] = getattr(block, name)
    return {**found, "output.conv": network.output}


def layers_of_last(base: Base, blocks: int) -> tuple[str, ...]:
    """Every convolution of the last so many blocks.

    Raises:
      ValueError: if there are not so many, or the base brings its own encoder.
    """
    if isinstance(base.encoder, ForeignEncoder):
        raise ValueError(
            "lora.layers must name layers of an encoder from elsewhere, such as "
            f"{', '.join(list(adaptable_of_program(base.encoder))[-3:])}"
        )
    network = base.built_in.network
    count = len(network.blocks)
    if not 1 <= blocks <= count:
        raise ValueError(f"the encoder has {count} blocks, got lora.blocks={blocks}")
    names = adaptable(network)
    return tuple(name for i in range(count - blocks, count) for name in names if _block(name) == i)


def start_of(base: Base, layers: Sequence[str]) -> EncoderStart | ProgramStart:
    """What of a base's encoder stands before the first of these layers, or the block of it.

    Raises:
      ValueError: if there is no layer, one is named twice, or one is not the encoder's; or the base
        is of sentences, or its encoder no torch program.
    """
    if not base.per_clip:
        raise ValueError(
            "lora adapts encoders of words, and the base recognizes sentences (docs/adapters.md "
            "says why); frame_affine and frame_bottleneck train what follows such an encoder"
        )
    if isinstance(base.encoder, ForeignEncoder):
        return ProgramStart(base.encoder, tuple(layers))
    encoder = base.built_in
    return EncoderStart(encoder, _first_block(encoder.network, layers))


def rest_of(base: Base, layers: Sequence[str]) -> FrozenGraph:
    """What stands behind `start_of`, with the pooling of the base's head, as a graph.

    Its input "x" are frames (n, w, channels), its output "features" (n, f).
    """
    start = start_of(base, layers)
    if isinstance(start, ProgramStart):
        return rest_of_program(start, base.pooling)
    return _Builder(start.encoder.network, frozenset(layers)).graph(start.first_block)


def with_added(base: Base, added: Mapping[str, NDArray[np.float64]]) -> Encoder:
    """The base's encoder with something added to the weights of layers, by their names.

    Weights are those of the layers as they were trained, without what is folded into them.
    """
    if isinstance(base.encoder, ForeignEncoder):
        return with_added_to_program(base.encoder, added)
    network = copy.deepcopy(base.built_in.network)
    for layer, more in added.items():
        weight = network.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        weight.data = (weight.double() + torch.from_numpy(more)).float()
    return replace(base.built_in, network=network)


def _first_block(network: KwsEncoder, layers: Sequence[str]) -> int:
    """The block before which the encoder is cut so that all layers stand behind."""
    known = adaptable(network)
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be at least one, each once, got {list(layers)}")
    if unknown := [name for name in layers if name not in known]:
        raise ValueError(
            f"the encoder has no adaptable layer {unknown[0]!r}; it has {', '.join(known)}"
        )
    last = len(network.blocks) - 1
    return min(last if name == "output.conv" else _block(name) for name in layers)


def _block(name: str) -> int:
    """The block of a layer; -1 for the output layer."""
    return int(name.split(".")[1]) if name.startswith("blocks.") else -1


def _stretches(encoder: BuiltInEncoder) -> list[int]:
    """Frames that each block needs of its input for the windows of a clip, then those windows."""
    spec, found = encoder.spec, [encoder.num_windows]
    for stride in reversed(spec.strides):
        first = found[0] + spec.kernel - 1
        found.insert(0, stride * (first - 1) + spec.kernel)
    return found


class _Builder:
    """Writes the steps of the blocks behind the cut."""

    def __init__(self, network: KwsEncoder, adapted: frozenset[str]) -> None:
        self._network, self._adapted = network, adapted
        self._steps: list[Step] = []
        self._layers: list[Layer] = []
        self._arrays: dict[str, NDArray[np.float32]] = {}

    def graph(self, start: int) -> FrozenGraph:
        """Blocks from `start` on, the output layer, its activation and the mean over windows."""
        x = self._step("frames", "transpose.int", Of("x"), 1, 2)
        for index, block in list(enumerate(self._network.blocks))[start:]:
            assert isinstance(block, ResidualBlock)
            x = self._residual(f"blocks.{index}", block, x)
        windows = self._step(
            "windows", "relu.default", self._conv("output", self._network.output, x)
        )
        # Frames before channels, here and at the shortcut: derivatives then lie in memory as the
        # values do, and no step on the way back has to turn them over.
        frames = self._step("windows.frames", "transpose.int", windows, 1, 2)
        pooled = self._step("features", "mean.dim", frames, (1,))
        return FrozenGraph(
            inputs=("x",),
            steps=tuple(self._steps),
            output=pooled.name,
            layers=tuple(self._layers),
            arrays=self._arrays,
        )

    def _residual(self, name: str, block: ResidualBlock, x: Of) -> Of:
        """A block without padding: the shortcut leaves out what the convolutions look back."""
        inner = self._conv(f"{name}.first", block.first, x)
        inner = self._conv(
            f"{name}.second", block.second, self._step(f"{name}.relu", "relu.default", inner)
        )
        # The second convolution's first output stands at the first one's output number taps - 1.
        begin = block.first.left_padding + block.first.stride * block.second.left_padding
        frames = self._step(f"{name}.frames", "transpose.int", x, 1, 2)
        last = self._step(f"{name}.last", "slice.Tensor", frames, 1, begin, 2**31 - 1, 1)
        passed = self._step(f"{name}.passed", "transpose.int", last, 1, 2)
        if block.shortcut is not None:
            passed = self._conv(f"{name}.shortcut", block.shortcut, passed)
        added = self._step(f"{name}.sum", "add.Tensor", inner, passed)
        return self._step(name, "relu.default", added)

    def _conv(self, name: str, conv: CausalConv, x: Of) -> Of:
        """One convolution with its normalization folded in, and what phones add to it."""
        folded, layer = conv.folded(), f"{name}.conv"
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        self._arrays |= {weight: folded.weight, bias: folded.bias}
        found = self._step(
            f"{layer}.frozen",
            "conv1d.default",
            x,
            Of(weight),
            Of(bias),
            (conv.stride,),
            (0,),
            (1,),
            1,
        )
        if layer not in self._adapted:
            return found
        scale = f"{layer}.scale"
        self._arrays[scale] = conv.scale().float().numpy()
        self._layers.append(
            Layer(layer, "conv1d", folded.weight.shape, (conv.stride,), (0,), (1,), scale)
        )
        return self._step(layer, ADAPT, found, x, layer=layer)

    def _step(self, result: str, operator: str, *arguments: object, layer: str = "") -> Of:
        self._steps.append(Step(result, operator, arguments, layer))
        return Of(result)

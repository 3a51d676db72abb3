"""Layout of the built-in encoder, in numbers alone: scenarios read it without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedspeech.audio.spec import LOG_MEL, PCAN, FrontendSpec


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Layout of the encoder: a stem, residual blocks of two convolutions, a pointwise output layer.

    Attributes:
      num_mels: input channels: mel bands, or cepstra.
      stem_channels: outputs of the first convolution.
      channels: outputs of each block.
      strides: frames between outputs of each block, in frames of its input.
      stem_kernel: taps of the first convolution.
      kernel: taps of the convolutions inside the blocks.
      features: outputs of the last layer, f.

    Raises:
      ValueError: if a number is not positive or the blocks' tuples differ in length.
    """

    num_mels: int = 40
    stem_channels: int = 48
    channels: tuple[int, ...] = (48, 64, 64)
    strides: tuple[int, ...] = (2, 2, 1)
    stem_kernel: int = 3
    kernel: int = 5
    features: int = 64

    def __post_init__(self) -> None:
        """Checks the layout."""
        if len(self.channels) != len(self.strides) or not self.channels:
            raise ValueError(
                "channels and strides must name the same blocks, at least one, got "
                f"channels={self.channels}, strides={self.strides}"
            )
        sizes = (self.num_mels, self.stem_channels, self.stem_kernel, self.kernel, self.features)
        if min(*sizes, *self.channels, *self.strides) < 1:
            raise ValueError(f"every size in an encoder must be positive, got {self}")

    @property
    def stride(self) -> int:
        """Input frames between two outputs."""
        return math.prod(self.strides)

    @property
    def receptive_frames(self) -> int:
        """Input frames that one output can see; its own frame is the last of them."""
        frames, step = 1 + (self.stem_kernel - 1), 1
        for stride in self.strides:
            frames += (self.kernel - 1) * step
            step *= stride
            frames += (self.kernel - 1) * step
        return frames

    @property
    def context_frames(self) -> int:
        """Input frames before an example on which its outputs depend, rounded up to whole outputs.

        With so many frames before it, no output of the example can see that a stream once began.
        """
        return self.stride * self.num_windows(self.receptive_frames - 1)

    def num_windows(self, num_frames: int) -> int:
        """Outputs for `num_frames` input frames: one at frames 0, stride, 2 stride, ..."""
        return -(-num_frames // self.stride)


ENCODERS: Mapping[str, EncoderSpec] = {
    "standard": EncoderSpec(),
    "micro": (_MICRO := EncoderSpec(stem_channels=32, channels=(32, 40, 40), features=48)),
    "esphome": _MICRO,
}
"""Layouts by the name that scenarios and `fedspeech pretrain` choose them by.

"micro" has 49,456 parameters for the 116,224 of "standard", the same strides and the same receptive
field: a microcontroller has room for its weights and for what it remembers of a stream. "esphome"
is the same behind the front end that ESPHome has.
"""


def front_end_of(encoder: str) -> FrontendSpec:
    """The front end before an encoder of `ENCODERS`."""
    return PCAN if encoder == "esphome" else LOG_MEL

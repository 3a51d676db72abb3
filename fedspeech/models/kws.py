"""The encoder: a small causal residual network over time, frozen once it is pre-trained.

Mel bands are the input channels and every convolution runs along time (TC-ResNet, Choi et al. 2019,
arXiv:1904.03814), padded on the left only: no output looks at a later frame. BatchNorm carries
fixed statistics when the encoder is used, so it folds into the convolutions, and nothing normalizes
over time: a phone can run the encoder hop by hop and get what the whole clip gives.

An output sees more frames than a clip has, so it depends on what was heard before the clip. A
listening phone has always heard something: `EncoderSpec.context_frames` says how much of it counts,
and a clip is never scored without it (`fedspeech.corpora.left_context`).

    encoder = KwsEncoder(EncoderSpec()).eval()
    outputs = encoder(features)           # (n, 72 + 49, 40) -> (n, 18 + 13, 64), not yet activated
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fedspeech.models.encoder import Activation, activated
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.folded import FoldedBlock, FoldedConv, FoldedEncoder


class CausalConv(nn.Module):
    """Convolution along time that sees the present and the past, then BatchNorm."""

    def __init__(self, inputs: int, outputs: int, taps: int, stride: int = 1) -> None:
        """Makes the layer; the initial values come from torch's generator."""
        super().__init__()
        # No bias: BatchNorm subtracts the mean, and with it whatever a bias had added.
        self.conv = nn.Conv1d(inputs, outputs, taps, stride=stride, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.left_padding = taps - 1
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, inputs, frames) to (n, outputs, ceil(frames / stride))."""
        normalized: Tensor = self.norm(self.conv(nn.functional.pad(x, (self.left_padding, 0))))
        return normalized

    def scale(self) -> Tensor:
        """Returns what the normalization multiplies each output by, (outputs,), in double."""
        norm = self.norm
        assert norm.running_var is not None
        # In double: the division by a small deviation would cost float32 its last digits.
        return norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)

    def folded(self) -> FoldedConv:
        """Returns the layer with its running statistics folded into weight and bias."""
        norm, scale = self.norm, self.scale()
        assert norm.running_mean is not None
        with torch.no_grad():
            weight = self.conv.weight.double() * scale[:, None, None]
            bias = norm.bias.double() - norm.running_mean.double() * scale
        return FoldedConv(weight.float().numpy(), bias.float().numpy(), self.stride)


class ResidualBlock(nn.Module):
    """Two causal convolutions and a shortcut, He et al. 2016 (arXiv:1512.03385), Fig. 2."""

    def __init__(self, inputs: int, outputs: int, taps: int, stride: int) -> None:
        """Makes the block; its shortcut is a pointwise convolution only where shapes differ."""
        super().__init__()
        self.first = CausalConv(inputs, outputs, taps, stride)
        self.second = CausalConv(outputs, outputs, taps)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else CausalConv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, inputs, frames) to (n, outputs, ceil(frames / stride))."""
        passed = x if self.shortcut is None else self.shortcut(x)
        return torch.relu(self.second(torch.relu(self.first(x))) + passed)

    def folded(self) -> FoldedBlock:
        """Returns the block with BatchNorm folded in."""
        shortcut = None if self.shortcut is None else self.shortcut.folded()
        return FoldedBlock(self.first.folded(), self.second.folded(), shortcut)


class KwsEncoder(nn.Module):
    """Standardized log-mel to the last layer before its activation.

    With the default spec: 116,224 parameters, an output every 80 ms, look-ahead 0 ms, and
    a receptive field of 71 frames (1,432 ms), which is more than a clip. The head pools over the
    clip's 13 outputs, that is over 1,000 ms.

    Raises:
      ValueError: if the spec asks for more than `MAX_PARAMETERS` parameters.
    """

    MAX_PARAMETERS = 150_000

    def __init__(self, spec: EncoderSpec) -> None:
        """Makes the layers; the initial values come from torch's generator."""
        super().__init__()
        self.spec = spec
        self.stem = CausalConv(spec.num_mels, spec.stem_channels, spec.stem_kernel)
        widths = (spec.stem_channels, *spec.channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs, outputs, spec.kernel, stride)
            for inputs, outputs, stride in zip(widths, spec.channels, spec.strides, strict=False)
        )
        self.output = CausalConv(spec.channels[-1], spec.features, 1)
        if self.num_parameters > self.MAX_PARAMETERS:
            raise ValueError(
                f"an encoder may have at most {self.MAX_PARAMETERS} parameters, "
                f"got {self.num_parameters}"
            )

    @property
    def num_parameters(self) -> int:
        """Trained values, BatchNorm's included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, features: Tensor) -> Tensor:
        """Computes encoder outputs before the activation: (n, frames, mels) to (n, windows, f).

        Features are standardized; windows = ceil(frames / stride). Window w depends on frames 0 to
        stride * w and on nothing later.
        """
        x = torch.relu(self.stem(features.transpose(1, 2)))
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.output(x)
        return output.transpose(1, 2)

    def folded(self) -> FoldedEncoder:
        """Returns plain arrays that compute what this encoder computes in `eval` mode."""
        return FoldedEncoder(
            self.stem.folded(),
            tuple(block.folded() for block in self._blocks()),
            self.output.folded(),
        )

    def _blocks(self) -> Iterator[ResidualBlock]:
        """The blocks, with their type."""
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            yield block


def pooled_logits(
    encoder_output: Tensor, weight: Tensor, bias: Tensor, activation: Activation = "relu"
) -> Tensor:
    """The base's own head: activation, mean over windows, linear.

    Shapes (n, w, f), (c, f) and (c,) give (n, c).
    """
    return activated(encoder_output, activation).mean(dim=1) @ weight.T + bias

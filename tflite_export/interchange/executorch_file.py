"""The whole model as an ExecuTorch program: samples in, logits out, by XNNPACK's kernels.

torch exports a module that is written from the same arrays as every graph, and ExecuTorch lowers
it. The Fourier transform is a convolution, as in the ONNX file: ExecuTorch has no kernel of it. The
card is what the program's method `fedspeech_card` returns.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fedspeech.errors import ExportRefused
from fedspeech.extras import importing
from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import Network, convolution_steps, run_encoder
from tflite_export.card import Card
from tflite_export.interchange.transform import filters, waves

INPUT, METHOD, CARD_METHOD = "waveform", "forward", "fedspeech_card"


class WholeModel(nn.Module):
    """Samples (1, s) to logits (1, c), from plain arrays."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        self._constants: dict[str, Tensor] = {}
        cosines, sines = waves(network)
        for name, value in (
            ("cosines", cosines), ("sines", sines), ("filters", filters(network)),
            ("mean", network.feature_mean[:, np.newaxis]),
            ("std", network.feature_std[:, np.newaxis]),
        ):  # fmt: skip
            self._hold(name, value)
        for name, conv, _ in convolution_steps(network.encoder):
            self._hold(f"{name}_weight", conv.weight)
            self._hold(f"{name}_bias", conv.bias)
        for name, value in network.parameters.items():
            self._hold(name, value)

    def _hold(self, name: str, value: NDArray[Any]) -> None:
        array = np.array(value, np.float32, order="C")
        self.register_buffer(_named(name), torch.from_numpy(array))

    def _held(self, name: str) -> Tensor:
        return self.get_buffer(_named(name))

    def forward(self, waveform: Tensor) -> Tensor:
        """Front end, encoder and merged adapter."""
        network, held = self._network, self._held
        hop, floor = network.frontend.hop_samples, network.frontend.floor
        signal = waveform[:, None]
        real = functional.conv1d(signal, held("cosines"), stride=hop)
        imaginary = functional.conv1d(signal, held("sines"), stride=hop)
        energies = held("filters") @ (real * real + imaginary * imaginary)
        features = (torch.log(energies + floor) - held("mean")) / held("std")

        def convolve(name: str, conv: FoldedConv, x: Tensor) -> Tensor:
            padded = functional.pad(x, (conv.left_padding, 0))
            weight, bias = held(f"{name}_weight"), held(f"{name}_bias")
            return functional.conv1d(padded, weight, bias, stride=conv.stride)

        frames = run_encoder(
            network.encoder, features, convolve=convolve, relu=torch.relu, note=lambda _, x: x
        )
        *_, (_, _, stride) = convolution_steps(network.encoder)
        pooled = torch.relu(frames)[:, :, network.context_frames // stride :].mean(2)
        if network.adapter.name == "bottleneck":
            hidden = torch.relu(functional.linear(pooled, held("down_weight")))
            pooled = pooled + functional.linear(hidden, held("up_weight"))
        return functional.linear(pooled, held("head_weight"), held("head_bias"))


def _named(name: str) -> str:
    return "of_" + name.replace(".", "_")  # a buffer's name has no dots


def write_executorch(network: Network, card: Card) -> bytes:
    """Returns the bytes of a `.pte` file.

    Raises:
      MissingExtra: if ExecuTorch is not installed.
      ExportRefused: if the adapter is one that no graph is known for.
    """
    with importing("executorch"):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    if network.adapter.name not in ("head", "bottleneck"):
        raise ExportRefused(f"executorch: no graph is known for the adapter {network.adapter.name}")
    example = (torch.zeros(1, network.heard_samples),)
    program = torch.export.export(WholeModel(network).eval(), example)
    text = json.dumps(card.to_json(), sort_keys=True, allow_nan=False)
    lowered = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], constant_methods={CARD_METHOD: text}
    )
    return bytes(lowered.to_executorch().buffer)


class ExecutorchModel:
    """A loaded program, run by ExecuTorch's own runtime.

    Attributes:
      content: the file's bytes.
      card: of the file, JSON values.

    Raises:
      MissingExtra: if ExecuTorch is not installed.
      ExportRefused: if the runtime cannot read the bytes, or the file carries no card.
    """

    def __init__(self, content: bytes) -> None:
        with importing("executorch"):
            from executorch.runtime import Runtime
        try:
            self._program = Runtime.get().load_program(content)
            if not {METHOD, CARD_METHOD} <= set(self._program.method_names):
                raise ExportRefused(f"card: the file has no method {CARD_METHOD}")
            self._forward = self._program.load_method(METHOD)
            card = self._program.load_method(CARD_METHOD)
            assert card is not None
            self.card: dict[str, Any] = json.loads(card.execute([])[0])
        except (RuntimeError, ValueError, TypeError) as error:
            raise ExportRefused(
                f"ExecuTorch cannot read this program of {len(content)} bytes: {error}"
            ) from error
        self.content = content

    def operators(self) -> dict[str, int]:
        """Nothing: XNNPACK's part of a program is not listed by operator."""
        return {}

    def run_each(self, signature: str, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs the program once per row of a batch (n, samples).

        Raises:
          ValueError: if the signature is not its input.
        """
        assert self._forward is not None
        if signature != INPUT:
            raise ValueError(f"expected {INPUT}, got {signature}")
        rows = [self._forward.execute([torch.from_numpy(row[np.newaxis])])[0] for row in batch]
        return torch.cat(rows).numpy()

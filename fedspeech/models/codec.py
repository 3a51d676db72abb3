"""A small codec of speech: log-mel to tokens at 25 Hz and back, the first codebook for the words.

    codec = Codec.load(Path("codec.safetensors"))
    codes = codec.encode(features)              # (n, 49, 40) -> (n, 25, 4), int64
    codec.decode(codes[..., :1])                # (n, 50, 40), from the first codebook alone
    codec.bit_rates()                           # (150.0, 300.0, 450.0, 600.0) bits a second

Residual vector quantization with factorized codes of length 1 (Zeghidour et al. 2021,
arXiv:2107.03312; Kumar et al. 2023, arXiv:2306.06546); the first codebook is made semantic in
training (`fedspeech.training.codec`), after Tura-Vecino et al. 2025, arXiv:2505.13085.

Tokens are derived from a voice and still tell it (docs/speech-tokens.md). Nothing here gives a
guarantee: noise is added in training and never to a stream of tokens, which has no epsilon.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy
from torch import Tensor, nn

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.errors import require
from fedspeech.files import read_at_most, write_whole
from fedspeech.limits import check_limits

FORMAT = 1
MAX_BYTES = 16_000_000
STRIDE = 2
"""Frames of log-mel a token: 50 Hz to 25 Hz."""
_METADATA_KEY = "fedspeech_codec"

_Size = Annotated[int, Ge(1), Le(512)]
_Few = Annotated[int, Ge(1), Le(32)]
# Bounds, because a file that somebody else made says how much memory its network takes.

Provenance = Mapping[str, str | int | float]


@dataclass(frozen=True, kw_only=True)
class CodecSpec:
    """Layout of a codec.

    Attributes:
      num_mels: features of a frame.
      channels: of the convolutions.
      width: of what is quantized.
      codebooks: quantizers, one after the other; each takes what the ones before left.
      entries: codes of each.
      code_size: values of a code, of length 1.
      teacher_features: values of the recognizer's frames, to which the first codebook is held.

    Raises:
      ValueError: if a number is out of range.
    """

    num_mels: _Size = 40
    channels: _Size = 64
    width: _Size = 64
    codebooks: _Few = 4
    entries: Annotated[int, Ge(2), Le(1024)] = 64
    code_size: _Few = 8
    teacher_features: _Size = 64

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    @property
    def bits_per_code(self) -> float:
        """Bits of one code."""
        return math.log2(self.entries)


class Quantizer(nn.Module):
    """One codebook: a projection to few values, the nearest of codes of length 1, and back."""

    def __init__(self, spec: CodecSpec) -> None:
        """Makes the layers; the initial values come from torch's generator."""
        super().__init__()
        self.down = nn.Linear(spec.width, spec.code_size)
        self.up = nn.Linear(spec.code_size, spec.width)
        self.codebook = nn.Parameter(torch.randn(spec.entries, spec.code_size))

    def codes(self, latent: Tensor) -> Tensor:
        """Nearest code of each latent (..., code size), of any length, by cosine; shape (...)."""
        directions = nn.functional.normalize(latent, dim=-1)
        return (directions @ self._entries().T).argmax(dim=-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """What codes (...) stand for, (..., width)."""
        found: Tensor = self.up(self._entries()[codes])
        return found

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantizes latents (n, t, code size); gradients pass as if nothing had been rounded.

        Returns:
          Vectors (n, t, width), codes (n, t), and the sum of both halves of the loss of van den
          Oord et al. 2017 (arXiv:1711.00937), Equation 3: codebook, and a quarter of commitment.
        """
        directions = nn.functional.normalize(latent, dim=-1)
        codes = self.codes(latent)
        entries = self._entries()[codes]
        loss = (entries - directions.detach()).square().sum(dim=-1).mean()
        loss = loss + 0.25 * (directions - entries.detach()).square().sum(dim=-1).mean()
        passed = directions + (entries - directions).detach()
        return self.up(passed), codes, loss

    def _entries(self) -> Tensor:
        return nn.functional.normalize(self.codebook, dim=-1)


class CodecNetwork(nn.Module):
    """Encoder, quantizers, decoder, and the head that is held to a recognizer's frames.

    Features are standardized. The encoder sees frames up to 300 ms after its own: it is not made
    for a stream.
    """

    MAX_PARAMETERS = 500_000

    def __init__(self, spec: CodecSpec) -> None:
        """Makes the layers; the initial values come from torch's generator."""
        super().__init__()
        self.spec = spec
        wide = spec.channels
        self.encoder = nn.Sequential(
            nn.Conv1d(spec.num_mels, wide, 5, padding=2), Residual(wide),
            nn.Conv1d(wide, wide, 4, stride=STRIDE, padding=1), Residual(wide),
            nn.Conv1d(wide, spec.width, 1),
        )  # fmt: skip
        self.quantizers = nn.ModuleList(Quantizer(spec) for _ in range(spec.codebooks))
        self.decoder = nn.Sequential(
            nn.Conv1d(spec.width, wide, 5, padding=2), Residual(wide),
            nn.ConvTranspose1d(wide, wide, 4, stride=STRIDE, padding=1), Residual(wide),
            nn.Conv1d(wide, spec.num_mels, 5, padding=2),
        )  # fmt: skip
        self.semantic = nn.Linear(spec.width, spec.teacher_features)
        require(self.num_parameters <= self.MAX_PARAMETERS,
                f"a codec may have at most {self.MAX_PARAMETERS} parameters",
                parameters=self.num_parameters)  # fmt: skip

    @property
    def num_parameters(self) -> int:
        """Trained values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def latents(self, features: Tensor) -> Tensor:
        """Frames (n, frames, mels) to what is quantized, (n, ceil(frames / 2), width)."""
        odd = features.shape[1] % STRIDE
        padded = torch.cat([features, features[:, -1:]], dim=1) if odd else features
        found: Tensor = self.encoder(padded.transpose(1, 2))
        return found.transpose(1, 2)

    def decoded(self, vectors: Tensor) -> Tensor:
        """Sums of what codes stand for, (n, t, width), to frames (n, 2 t, mels)."""
        found: Tensor = self.decoder(vectors.transpose(1, 2))
        return found.transpose(1, 2)

    def quantizer(self, place: int) -> Quantizer:
        """One of the quantizers, with its type."""
        found = self.quantizers[place]
        assert isinstance(found, Quantizer)
        return found


class Residual(nn.Module):
    """Two convolutions along time, normalized over the batch, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        """Makes the layers."""
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm1d(channels), nn.ReLU(), nn.Conv1d(channels, channels, 5, padding=2),
            nn.BatchNorm1d(channels), nn.ReLU(), nn.Conv1d(channels, channels, 5, padding=2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (n, channels, frames)."""
        found: Tensor = x + self.inner(x)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """A trained codec and the front end before it; making one freezes the network.

    Attributes:
      network: encoder, quantizers and decoder.
      frontend: of the features.
      feature_mean: shape (mels,), subtracted from features.
      feature_std: shape (mels,), what they are then divided by; positive.
      provenance: how it was trained.

    Raises:
      ValueError: if shapes do not fit, a value is not finite or a deviation is not positive.
    """

    network: CodecNetwork
    frontend: FrontendSpec = LOG_MEL
    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    provenance: Provenance

    def __post_init__(self) -> None:
        """Checks the parts against each other and freezes the network."""
        mels = self.network.spec.num_mels
        require(self.frontend.num_features == mels, "the codec takes other features",
                features=self.frontend.num_features, codec=mels)  # fmt: skip
        for name in ("feature_mean", "feature_std"):
            value = getattr(self, name)
            fits = value.shape == (mels,) and bool(np.isfinite(value).all())
            require(fits, f"{name} must be {mels} finite values", shape=value.shape)
        require(bool(self.feature_std.min() > 0), "feature_std must be positive",
                smallest=float(self.feature_std.min()))  # fmt: skip
        for name, tensor in self.network.state_dict().items():
            require(bool(torch.isfinite(tensor).all()), "weights must be finite", tensor=name)
        self.network.eval().requires_grad_(False)

    @property
    def spec(self) -> CodecSpec:
        """Layout of the network."""
        return self.network.spec

    @property
    def rate_hz(self) -> float:
        """Tokens a second, of each codebook."""
        return self.frontend.rate_hz / self.frontend.hop_samples / STRIDE

    def bit_rates(self) -> tuple[float, ...]:
        """Bits a second of the first codebook, of the first two, and so on, no entropy coding."""
        spec = self.spec
        return tuple(
            used * spec.bits_per_code * self.rate_hz for used in range(1, spec.codebooks + 1)
        )

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def features(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-mel of waveforms (n, samples), full scale 1; shape (n, frames, mels)."""
        with torch.inference_mode():
            found: NDArray[np.float32] = LogMel(self.frontend)(torch.from_numpy(waveforms)).numpy()
        return found

    def encode(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """Tokens of log-mel (n, frames, mels); shape (n, ceil(frames / 2), codebooks).

        Raises:
          ValueError: if the shape is another one or a value is not finite.
        """
        mels = self.spec.num_mels
        fits = features.ndim == 3 and features.shape[2] == mels
        require(fits and features.shape[1] > 0, f"features must be (n, frames, {mels})",
                shape=features.shape)  # fmt: skip
        require(bool(np.isfinite(features).all()), "features must be finite", shape=features.shape)
        network = self.network
        with torch.inference_mode():
            standard = (features - self.feature_mean) / self.feature_std
            left = network.latents(torch.from_numpy(standard.astype(np.float32)))
            found = []
            for place in range(self.spec.codebooks):
                quantizer = network.quantizer(place)
                codes = quantizer.codes(quantizer.down(left))
                left = left - quantizer.vectors(codes)
                found.append(codes)
        tokens: NDArray[np.int64] = torch.stack(found, dim=2).numpy()
        return tokens

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-mel of tokens (n, t, any number of the first codebooks); shape (n, 2 t, mels).

        Raises:
          ValueError: if the shape is another one or a code does not exist.
        """
        spec = self.spec
        fits = codes.ndim == 3 and 1 <= codes.shape[2] <= spec.codebooks and codes.shape[1] > 0
        require(fits, f"codes must be (n, t, 1 to {spec.codebooks})", shape=codes.shape)
        whole = np.issubdtype(codes.dtype, np.integer)
        require(bool(whole and codes.size and codes.min() >= 0 and codes.max() < spec.entries),
                f"codes must be whole numbers in [0, {spec.entries})",
                dtype=str(codes.dtype))  # fmt: skip
        with torch.inference_mode():
            given = torch.from_numpy(codes.astype(np.int64))
            vectors = [
                self.network.quantizer(place).vectors(given[..., place])
                for place in range(codes.shape[2])
            ]
            frames = self.network.decoded(torch.stack(vectors).sum(dim=0)).numpy()
        found: NDArray[np.float32] = frames * self.feature_std + self.feature_mean
        return found

    def to_bytes(self) -> bytes:
        """The safetensors file: the same codec gives the same bytes."""
        metadata = {
            "format": FORMAT,
            "spec": dataclasses.asdict(self.spec),
            "frontend": dataclasses.asdict(self.frontend),
            "provenance": dict(self.provenance),
        }
        arrays = {f"network.{k}": v.numpy() for k, v in self.network.state_dict().items()}
        arrays |= {"feature_mean": self.feature_mean, "feature_std": self.feature_std}
        encoded = {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}
        return bytes(safetensors_numpy.save(arrays, metadata=encoded))

    @classmethod
    def from_bytes(cls, data: bytes) -> Codec:
        """Reads what `to_bytes` wrote.

        Raises:
          ValueError: if the bytes are no codec of this format, or its parts do not fit together.
        """
        try:
            metadata = text_beside(data, _METADATA_KEY)
            require(metadata["format"] == FORMAT, f"expected format {FORMAT}",
                    format=metadata["format"])  # fmt: skip
            tensors = safetensors_numpy.load(data)
            require(isinstance(metadata["provenance"], dict), "provenance must be an object")
            mean, std = tensors.pop("feature_mean"), tensors.pop("feature_std")
            network = CodecNetwork(CodecSpec(**metadata["spec"]))
            state = {k.removeprefix("network."): torch.from_numpy(v) for k, v in tensors.items()}
            network.load_state_dict(state)
            return cls(
                network=network,
                frontend=FrontendSpec(**metadata["frontend"]),
                feature_mean=mean,
                feature_std=std,
                provenance=metadata["provenance"],
            )
        except (
            SafetensorError, AttributeError, KeyError, ValueError, TypeError, RuntimeError
        ) as error:  # fmt: skip
            raise ValueError(f"not a fedspeech codec: {error}") from error

    def save(self, path: Path) -> None:
        """Writes the file, all of it or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Codec:
        """Reads a codec.

        Raises:
          ValueError: if it is none; the message names the file.
          FileNotFoundError: if there is nothing.
        """
        try:
            return cls.from_bytes(read_at_most(path, MAX_BYTES))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def text_beside(data: bytes, key: str) -> dict[str, Any]:
    """The JSON object beside the tensors of a safetensors file, which its reader leaves out.

    Raises:
      KeyError, TypeError, ValueError: if there is none of this key.
    """
    length = int.from_bytes(data[:8], "little")
    require(0 < length <= len(data) - 8, "it is no safetensors file", bytes=len(data))
    header = json.loads(data[8 : 8 + length].decode("utf-8", "replace"))
    found: dict[str, Any] = json.loads(header["__metadata__"][key])
    return found

"""The built-in encoder: a log-mel or cepstral front end, then a small causal network.

    encoder = BuiltInEncoder(network=KwsEncoder(EncoderSpec()), frontend=FrontendSpec(), ...)
    outputs = encoder(heard)        # (n, 23040 + 16000) -> (n, 13, 64): the clip's windows

A network for sentences answers every window and has no left context, since a sentence begins with a
reset, and what was never recorded is zeros in each of its stages.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import Cepstra, FrontendSpec
from fedspeech.models.asr import FLUSH_WINDOWS, SentenceEncoder
from fedspeech.models.compute import compute_device
from fedspeech.models.encoder import Activation
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder
from fedspeech.seeds import canonical


@dataclass(frozen=True, kw_only=True, eq=False)
class BuiltInEncoder:
    """Front end, constants and network; making one freezes the network.

    Shapes: m features of the front end, f of the network.

    Attributes:
      feature_mean: shape (m,), subtracted from the features; from public speakers only.
      feature_std: shape (m,), what the features are then divided by; positive.

    Raises:
      ValueError: if shapes do not fit together, a value is not finite or a deviation not positive.
    """

    activation: ClassVar[Activation] = "relu"

    network: KwsEncoder
    frontend: FrontendSpec
    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Checks the parts against each other and freezes the network."""
        spec = self.network.spec
        if spec.num_mels != self.frontend.num_features:
            raise ValueError(
                f"the encoder takes {spec.num_mels} features, the front end gives "
                f"{self.frontend.num_features}"
            )
        for name in ("feature_mean", "feature_std"):
            check_array(name, getattr(self, name), (spec.num_mels,))
        for name, value in self.tensors().items():
            check_finite(name, value)
        if self.feature_std.min() <= 0:
            raise ValueError(f"feature_std must be positive, got {self.feature_std.min()}")
        self.network.eval().requires_grad_(False)

    @property
    def spec(self) -> EncoderSpec:
        """Layout of the network."""
        return self.network.spec

    @property
    def answers_clips(self) -> bool:
        """Whether a clip of fixed length is answered as a whole, and not every window of it."""
        return not isinstance(self.network, SentenceEncoder)

    @property
    def rate_hz(self) -> int:
        """Sample rate of the front end."""
        return self.frontend.rate_hz

    @property
    def clip_samples(self) -> int:
        """Length of a clip, or of the longest sentence."""
        return self.frontend.clip_samples

    @property
    def hop_samples(self) -> int:
        """Hop of the front end."""
        return self.frontend.hop_samples

    @property
    def num_windows(self) -> int:
        """Windows of the network for a clip of the front end's length."""
        flush = 0 if self.answers_clips else FLUSH_WINDOWS
        return self.spec.num_windows(self.frontend.frames_per_clip) + flush

    @property
    def num_features(self) -> int:
        """Outputs of the network's last layer."""
        return self.spec.features

    @property
    def context_frames(self) -> int:
        """Frames of left context before a clip; 0 for sentences."""
        return self.spec.context_frames if self.answers_clips else 0

    @property
    def context_samples(self) -> int:
        """Samples of left context before a clip; 0 for sentences."""
        return self.context_frames * self.frontend.hop_samples

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of layout, constants and weights."""
        digest = hashlib.sha256(canonical("built-in encoder", repr(self.layout())))
        for name, value in sorted(self.tensors().items()):
            digest.update(canonical(name, *value.shape))
            digest.update(np.ascontiguousarray(value).data)
        return digest.hexdigest()

    def features(self, clips: NDArray[np.float32]) -> Tensor:
        """Returns standardized features, shape (n, frames, m), of waveforms (n, samples).

        Features that are not standardized yet, shape (n, frames, m), are taken too. An encoder for
        sentences gives zeros for what was never recorded and for the flush behind it.
        """
        return self._features(clips, self._parts(torch.device("cpu")))

    def _features(self, clips: NDArray[np.float32], parts: _Parts) -> Tensor:
        """`features` on the device of the parts."""
        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(clips)).to(parts.device)
            features: Tensor = parts.log_mel(given) if given.ndim == 2 else given
            features = (features - parts.mean) / parts.std
            if self.answers_clips:
                return features
            frames = torch.from_numpy(self.frontend.recorded_frames(clips)).to(parts.device)
            # Zeroed after standardizing, which moves zeros to -mean / std: the network was trained
            # on zeros where nothing was recorded.
            there = torch.arange(features.shape[1], device=parts.device) < frames[:, None]
            flush = FLUSH_WINDOWS * self.spec.stride
            return torch.nn.functional.pad(features * there[:, :, None], (0, 0, 0, flush))

    def __call__(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns the network's last layer before its activation; see `Encoder.__call__`.

        Both words and sentences may be features (n, frames, m) that are not standardized yet; of
        sentences, frames that were never recorded are zeros.

        Raises:
          ValueError: if words come without their left context.
        """
        length, unit = self.context_samples + self.clip_samples, "samples"
        if heard.ndim == 3:
            length, unit = self.context_frames + self.frontend.frames_per_clip, "frames"
        if self.answers_clips and heard.shape[1] != length:
            raise ValueError(
                f"a clip is heard after its left context, {length} {unit} together "
                f"(`Base.heard`), got {heard.shape[1]}"
            )
        with torch.inference_mode():
            parts = self._parts(compute_device())
            output: Tensor = parts.network(self._features(heard, parts)).cpu()
            if self.answers_clips:
                return output[:, -self.num_windows :]
            frames = torch.from_numpy(self.frontend.recorded_frames(heard))
            # Rows that only fill up a block hold no sentence, so they have no flush either.
            windows = torch.where(frames > 0, -(-frames // self.spec.stride) + FLUSH_WINDOWS, 0)
            # Biases make windows behind the end nonzero, and zeros are all that tells the end from
            # here on.
            there = torch.arange(output.shape[1]) < windows[:, None]
            return output * there[:, :, None]

    def listening(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns the output of the clip that ends with each hop; see `Encoder.listening`.

        The windows of a clip do not depend on its place, so each is computed once.
        """
        spec, stride = self.frontend, self.spec.stride
        reach = (self.num_windows - 1) * stride
        frames_before = self.context_frames + reach
        silence = frames_before * spec.hop_samples + spec.window_samples - spec.hop_samples
        with torch.inference_mode():
            parts = self._parts(compute_device())
            features = self._features(np.pad(samples, (silence, 0))[np.newaxis], parts)
            frames = features.shape[1]
            every = torch.empty(frames, self.spec.features)
            # A pass answers every `stride`-th frame; passes that begin later fill in those between.
            for phase in range(stride):
                every[phase::stride] = parts.network(features[:, phase:])[0].cpu()
            # Before this frame, windows may still see the convolutions' padding instead of a left
            # context.
            clips = every[self.context_frames :].unfold(0, reach + 1, 1)
            return clips[:, :, ::stride].transpose(1, 2)

    def layout(self) -> dict[str, Any]:
        """Front end and network as the header of a base's file holds them."""
        # What an encoder for words never has is left out: the bytes of a base are its name.
        frontend = {k: v for k, v in asdict(self.frontend).items() if v is not None}
        return {"frontend": frontend, "encoder": asdict(self.spec)}

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Every stored array by name."""
        network = {
            f"encoder.{name}": value.numpy() for name, value in _stored(self.network).items()
        }
        return network | {"feature_mean": self.feature_mean, "feature_std": self.feature_std}

    @classmethod
    def of_layout(
        cls,
        layout: Mapping[str, Any],
        tensors: Mapping[str, NDArray[np.float32]],
        *,
        answers_clips: bool,
    ) -> BuiltInEncoder:
        """Inverts `layout` and `tensors`.

        Raises:
          KeyError, TypeError, ValueError: if the parts do not fit.
        """
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in layout["encoder"].items()
        }
        network = (KwsEncoder if answers_clips else SentenceEncoder)(EncoderSpec(**sizes))
        _fill(network, tensors)
        frontend = dict(layout["frontend"])
        if "cepstra" in frontend:
            frontend["cepstra"] = Cepstra(**frontend["cepstra"])
        return cls(
            network=network,
            frontend=FrontendSpec(**frontend),
            feature_mean=tensors["feature_mean"],
            feature_std=tensors["feature_std"],
        )

    def _parts(self, device: torch.device) -> _Parts:
        """Front end, constants and network on a device, moved there once."""
        if device not in self._moved:
            # On the CPU the network itself, which hooks and the export see; `to` moves in place.
            own = device.type == "cpu"
            self._moved[device] = _Parts(
                device=device,
                log_mel=LogMel(self.frontend).to(device),
                mean=torch.from_numpy(self.feature_mean).to(device),
                std=torch.from_numpy(self.feature_std).to(device),
                network=self.network if own else copy.deepcopy(self.network).to(device),
            )
        return self._moved[device]

    @cached_property
    def _moved(self) -> dict[torch.device, _Parts]:
        return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """What an encoder computes with, on one device."""

    device: torch.device
    log_mel: LogMel
    mean: Tensor
    std: Tensor
    network: KwsEncoder


def check_array(name: str, value: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuses an array that is not float32 of a shape.

    Raises:
      ValueError: naming both.
    """
    if value.shape != shape or value.dtype != np.float32:
        raise ValueError(
            f"{name} must be float32 of shape {shape}, got {value.dtype} {value.shape}"
        )


def check_finite(name: str, value: NDArray[np.float32]) -> None:
    """Refuses NaN and infinity.

    Raises:
      ValueError: naming the array.
    """
    if not np.isfinite(value).all():
        raise ValueError(f"every value of a base must be finite, {name} has one that is not")


def _stored(network: KwsEncoder) -> dict[str, Tensor]:
    """The network's state without BatchNorm's batch counters, which nothing reads."""
    state = network.state_dict()
    return {name: value.detach() for name, value in state.items() if value.is_floating_point()}


def _fill(network: KwsEncoder, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Copies stored arrays into a fresh network; refuses missing, additional or misshapen ones."""
    stored = _stored(network)
    expected = {f"encoder.{name}" for name in stored}
    expected |= {"feature_mean", "feature_std"}
    if set(tensors) != expected:
        raise ValueError(f"arrays missing or unknown: {sorted(set(tensors) ^ expected)}")
    for name, value in stored.items():
        array = tensors[f"encoder.{name}"]
        check_array(f"encoder.{name}", array, tuple(value.shape))
        value.copy_(torch.from_numpy(array.copy()))

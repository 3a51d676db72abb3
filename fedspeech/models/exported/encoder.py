"""An encoder from elsewhere: a `.pt2` or `.tflite` file and what it is to be given.

encoder = ForeignEncoder(content=path.read_bytes(), declared=Declared(file="pt2"))
frames = encoder(heard)         # (n, context + clip) to (n, windows, features)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import require
from fedspeech.files import read_at_most
from fedspeech.limits import Count, WholeNumber, check_limits
from fedspeech.models.compute import compute_device
from fedspeech.models.encoder import Activation, clip_by_clip
from fedspeech.models.exported.archive import MAX_BYTES
from fedspeech.models.exported.mel import SpeechEmbeddingMel
from fedspeech.models.exported.one_pass import OnePass
from fedspeech.models.exported.probing import Findings, probe
from fedspeech.models.exported.program import TorchNetwork
from fedspeech.models.exported.tflite import TfliteNetwork
from fedspeech.seeds import canonical

RATE_HZ = 16_000
MIN_CLIP_SAMPLES = 1_600
ENCODER_FILES: Mapping[str, Literal["pt2", "tflite"]] = {".pt2": "pt2", ".tflite": "tflite"}
"""What the name of an encoder's file ends with, and what it then is."""
VERSION = 1
"""Raised by whoever changes what an encoder of the same file and declaration computes."""

# By the hash of an encoder and the device, of what passed in this process. Never on disk: whoever
# can write a folder of caches could call a file tried that never was, and torch's version, the
# kernels and the threads that a verdict holds for are not those of the next process.
_VERDICTS: dict[tuple[str, str], Findings] = {}
_IN_ONE_PASS: dict[tuple[str, str], bool] = {}

Verdicts = Mapping[tuple[str, str], Findings]
"""Findings by the hash of an encoder and the device on which it was tried."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What an exported encoder takes, and where in a stream it answers.

    Attributes:
      file: kind of the file.
      input: "waveform": samples, full scale 1; "log_mel": features of `log_mel`;
        "speech_embedding": 32 bands as Google's speech embedding takes them.
      rate_hz: sample rate; recordings are read at 16 kHz.
      clip_samples: length of an utterance.
      context_samples: of the left context that is heard before it.
      padding_samples: zeros that the encoder puts behind what was heard, so that the end of a clip
        stands in as many windows as its beginning.
      hop_samples: between two answers of a stream.
      log_mel: the front end, for that input only.
      sentences: whether every frame is answered, and not the utterance as a whole; frames that
        begin after the last recorded sample are then zeros.

    Raises:
      ValueError: naming key, rule and value.
    """

    file: Literal["pt2", "tflite"]
    input: Literal["waveform", "log_mel", "speech_embedding"] = "waveform"
    rate_hz: int = RATE_HZ
    clip_samples: Annotated[int, Ge(MIN_CLIP_SAMPLES)] = 16_000
    context_samples: WholeNumber = 0
    padding_samples: WholeNumber = 0
    hop_samples: Count = 1_280
    log_mel: FrontendSpec | None = None
    sentences: bool = False

    def __post_init__(self) -> None:
        """Checks the values against each other."""
        check_limits(self)
        require(
            self.rate_hz == RATE_HZ,
            f"rate_hz must be {RATE_HZ}; a network of another rate resamples in its first layer",
            rate_hz=self.rate_hz,
        )
        require(
            self.context_samples <= 2 * RATE_HZ,
            f"context_samples must be at most {2 * RATE_HZ}",
            context_samples=self.context_samples,
        )
        if self.sentences and self.context_samples:
            raise ValueError(
                "a sentence begins with a reset: context_samples must be 0 where sentences are "
                f"answered, got {self.context_samples}"
            )
        if (self.log_mel is not None) != (self.input == "log_mel"):
            raise ValueError(
                'log_mel describes the features of input = "log_mel" and of no other, got '
                f"input={self.input!r}, log_mel={self.log_mel}"
            )

    @property
    def front_end(self) -> nn.Module:
        """What makes the input of samples."""
        match self.input:
            case "waveform":
                return nn.Identity()
            case "log_mel":
                assert self.log_mel is not None
                return LogMel(self.log_mel)
            case "speech_embedding":
                return SpeechEmbeddingMel()

    def to_metadata(self) -> dict[str, Any]:
        """Returns plain values, as `of_metadata` and a base's file take them."""
        values = dataclasses.asdict(self)
        values["log_mel"] = None if self.log_mel is None else log_mel_values(self.log_mel)
        return values

    @classmethod
    def of_metadata(cls, values: Mapping[str, Any]) -> Declared:
        """Inverts `to_metadata`.

        Raises:
          TypeError, ValueError: if a key is unknown or a value out of its range.
        """
        kept = dict(values)
        if kept.get("log_mel") is not None:
            kept["log_mel"] = FrontendSpec(**kept["log_mel"])
        return cls(**kept)


def log_mel_values(spec: FrontendSpec) -> dict[str, Any]:
    """What a base's file says of its log-mel features."""
    names = ("window_samples", "hop_samples", "num_mels", "low_hz", "high_hz", "floor")
    return {name: getattr(spec, name) for name in names}


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignEncoder:
    """An exported network behind its front end; see `fedspeech.models.encoder.Encoder`.

    It is probed when it is made: what adapters, caches and phones rely on must hold. Once in a
    process, by its hash; see `verdicts`.

    Attributes:
      content: bytes of the file.
      declared: what it takes.

    Raises:
      ValueError: if the file is refused, does not take what is declared, or fails a probe.
    """

    activation: ClassVar[Activation] = "identity"

    content: bytes
    declared: Declared

    def __post_init__(self) -> None:
        """Loads the network and probes it, unless this process has probed the same."""
        _ = self.findings

    @cached_property
    def findings(self) -> Findings:
        """What probing measured."""
        tried = self.sha256, compute_device().type
        if tried not in _VERDICTS:
            _VERDICTS[tried] = probe(self)
        return _VERDICTS[tried]

    @property
    def rate_hz(self) -> int:
        """Sample rate."""
        return self.declared.rate_hz

    @property
    def clip_samples(self) -> int:
        """Length of an utterance."""
        return self.declared.clip_samples

    @property
    def context_samples(self) -> int:
        """Samples that are heard before an utterance."""
        return self.declared.context_samples

    @property
    def hop_samples(self) -> int:
        """Samples between two answers of a stream."""
        return self.declared.hop_samples

    @property
    def num_windows(self) -> int:
        """Frames of an utterance."""
        return self.findings.num_windows

    @property
    def num_features(self) -> int:
        """Features of a frame."""
        return self.findings.num_features

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file and of what it is given."""
        declared = repr(sorted(self.declared.to_metadata().items()))
        file = hashlib.sha256(self.content).hexdigest()
        return hashlib.sha256(canonical("foreign encoder", VERSION, declared, file)).hexdigest()

    @cached_property
    def network(self) -> TorchNetwork | TfliteNetwork:
        """What the file computes."""
        kind = TorchNetwork if self.declared.file == "pt2" else TfliteNetwork
        return kind(self.content)

    def inputs(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns what the network takes of heard samples (n, context + clip).

        Raises:
          ValueError: if there are more or fewer samples.
        """
        samples = self.context_samples + self.clip_samples
        if heard.ndim != 2 or heard.shape[1] != samples:
            raise ValueError(
                f"an utterance is heard after its left context, {samples} samples together "
                f"(`Base.heard`), got {heard.shape}"
            )
        return self._given(np.pad(heard, ((0, 0), (0, self.declared.padding_samples))))

    def __call__(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns (n, w, f) of (n, context + clip); one vector counts as one frame.

        Raises:
          ValueError: if the network does not take what is heard, or answers neither frames nor a
            vector of float32.
        """
        frames = frames_of(self.network(self.inputs(heard)))
        return _recorded(frames, heard) if self.declared.sentences else frames

    def listening(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns the output of the utterance that ends with each hop, (hops, w, f).

        In one pass where that is tried to be the same; else each is a whole pass.
        """
        return self._stream(samples) if self.streams_in_one_pass else clip_by_clip(self, samples)

    def stream_frames(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns the frames of sound (n,) with nothing around it, (frames, f), one a hop.

        Raises:
          ValueError: if a stream is not answered in one pass, or zeros stand behind clips.
        """
        if self.declared.padding_samples or not self.streams_in_one_pass:
            raise ValueError(
                "a stream has frames where the network answers frame after frame and no zeros "
                f"stand behind a clip, got padding_samples={self.declared.padding_samples}"
            )
        return self._stream.of_stream(samples)

    @cached_property
    def streams_in_one_pass(self) -> bool:
        """Whether a stream costs one pass and not one per hop: tried once in a process."""
        if self.declared.sentences:
            return False
        tried = self.sha256, compute_device().type
        if tried not in _IN_ONE_PASS:
            _IN_ONE_PASS[tried] = self._stream.answers_as_clips()
        return _IN_ONE_PASS[tried]

    @cached_property
    def _stream(self) -> OnePass:
        return OnePass(
            self,
            self.declared.padding_samples,
            lambda samples: frames_of(self.network(self._given(samples))),
        )

    def _given(self, samples: NDArray[np.float32]) -> Tensor:
        """What the network takes of samples (n, m)."""
        with torch.inference_mode():
            given: Tensor = self._front_end(torch.from_numpy(samples))
            return given

    @cached_property
    def _front_end(self) -> nn.Module:
        return self.declared.front_end


def waveform_encoder(path: Path, *, sentences: bool = False) -> ForeignEncoder:
    """The network of a `.pt2` or `.tflite` file that takes waveforms as long as its input.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is neither, is refused, or takes something else; the message names the file.
    """
    if path.suffix not in ENCODER_FILES:
        raise ValueError(f"the file of an encoder is named *.pt2 or *.tflite, got {path}")
    kind = ENCODER_FILES[path.suffix]
    try:
        content = read_at_most(path, MAX_BYTES)
        network = TorchNetwork(content) if kind == "pt2" else TfliteNetwork(content)
        samples = network.input_shape[-1]
        if samples is None or samples < MIN_CLIP_SAMPLES:
            raise ValueError(
                f"it takes {network.input_shape}, and a waveform has shape (n, samples) with at "
                f"least {MIN_CLIP_SAMPLES} samples: a network that takes features is described by "
                "a base.toml beside it (docs/own-model.md)"
            )
        declared = Declared(file=kind, clip_samples=samples, sentences=sentences)
        return ForeignEncoder(content=content, declared=declared)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def verdicts() -> Verdicts:
    """What probing found in this process, for processes that it starts itself."""
    return dict(_VERDICTS)


def accept_verdicts(of_parent: Verdicts) -> None:
    """Takes over what the process found that started this one; nobody else's word counts."""
    _VERDICTS.update(of_parent)


def _recorded(frames: Tensor, heard: NDArray[np.float32]) -> Tensor:
    """Zeros for frames that begin after the last sample that is not zero.

    CTC and its adapters tell by them where a sentence ends.
    """
    places = np.arange(1, heard.shape[1] + 1)
    last = ((heard != 0) * places).max(axis=1)
    windows = -(-last * frames.shape[1] // heard.shape[1])
    there = torch.arange(frames.shape[1]) < torch.from_numpy(windows)[:, None]
    return frames * there[:, :, None]


def frames_of(output: Tensor) -> Tensor:
    """Frames (n, w, f) of what a network answers: (n, w, f), (n, w, 1, f), or one vector (n, f).

    Raises:
      ValueError: if it is something else.
    """
    if not isinstance(output, Tensor) or output.dtype != torch.float32:
        raise ValueError(
            f"an encoder answers float32, got {getattr(output, 'dtype', type(output).__name__)}"
        )
    if output.ndim == 2:
        return output.unsqueeze(1)
    if output.ndim == 4 and 1 in output.shape[1:3]:
        return output.squeeze(2) if output.shape[2] == 1 else output.squeeze(1)
    if output.ndim != 3:
        raise ValueError(
            f"an encoder answers frames (n, w, f) or a vector (n, f), got {tuple(output.shape)}"
        )
    return output

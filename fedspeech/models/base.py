"""The base: everything of a model that federated learning leaves alone, as one file.

A base is a frozen encoder, the constants that standardize its input, the head that pre-training
ended with (where adapters start) and a record of how it was made. Its name is the SHA-256 of its
bytes: adapters, caches and exported files refer to it by that hash.

    base = Base.load(default_base_path())
    heard = base.heard(corpus, utterances)      # (n, 23040 + 16000): left context, then the clip
    outputs = base.encoder_output(heard)          # (n, 13, 64): the clip's windows

Its labels say what it answers. A base that answers every window of its encoder, such as one for
sentences, has no left context, since a sentence begins with a reset, and what was never recorded is
zeros in each of its stages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy
from torch import Tensor

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import Cepstra, FrontendSpec
from fedspeech.corpora.corpus import Corpus, Labels, Utterance, labels_from
from fedspeech.corpora.left_context import with_left_context
from fedspeech.files import write_whole
from fedspeech.models.asr import FLUSH_WINDOWS, SentenceEncoder, window_logits
from fedspeech.models.kws import EncoderSpec, KwsEncoder, pooled_logits

FORMAT = 2
_METADATA_KEY = "fedspeech_base"

Provenance = Mapping[str, str | int | float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A pre-trained model; making one freezes its encoder.

    Shapes: c labels, f features of the encoder, m features of the front end.

    Attributes:
      feature_mean: shape (m,), subtracted from the features; from public speakers only.
      feature_std: shape (m,), what the features are then divided by; positive.
      vocabulary: labels of the head.
      head_weight: shape (c, f).
      head_bias: shape (c,).
      provenance: how it was made: command, seed, corpus, license, figures.
      speakers: ids of the speakers it was trained on; none of them may be a phone.

    Raises:
      ValueError: if shapes do not fit together, a value is not finite or a deviation not positive.
    """

    encoder: KwsEncoder
    frontend: FrontendSpec
    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    vocabulary: Labels
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    provenance: Provenance
    speakers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the parts against each other and freezes the encoder."""
        spec, labels = self.encoder.spec, len(self.vocabulary.labels)
        if spec.num_mels != self.frontend.num_features:
            raise ValueError(
                f"the encoder takes {spec.num_mels} features, the front end gives "
                f"{self.frontend.num_features}"
            )
        expected = {
            "feature_mean": (spec.num_mels,),
            "feature_std": (spec.num_mels,),
            "head_weight": (labels, spec.features),
            "head_bias": (labels,),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value.shape != shape or value.dtype != np.float32:
                raise ValueError(
                    f"{name} must be float32 of shape {shape}, got {value.dtype} {value.shape}"
                )
        for name, value in self._tensors().items():
            if not np.isfinite(value).all():
                raise ValueError(
                    f"every value of a base must be finite, {name} has one that is not"
                )
        if self.feature_std.min() <= 0:
            raise ValueError(f"feature_std must be positive, got {self.feature_std.min()}")
        self.encoder.eval().requires_grad_(False)

    def __repr__(self) -> str:
        """Shows the name and the labels."""
        return f"Base(sha256={self.sha256[:12]}..., labels={self.vocabulary.labels})"

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def per_clip(self) -> bool:
        """Whether a clip of fixed length has one logit per label, and not every window of it."""
        return self.vocabulary.output_unit == "clip"

    @property
    def num_windows(self) -> int:
        """Windows of the encoder for a clip of the front end's length."""
        flush = 0 if self.per_clip else FLUSH_WINDOWS
        return self.encoder.spec.num_windows(self.frontend.frames_per_clip) + flush

    @property
    def context_frames(self) -> int:
        """Frames of left context before a clip; 0 for sentences."""
        return self.encoder.spec.context_frames if self.per_clip else 0

    @property
    def context_samples(self) -> int:
        """Samples of left context before a clip; 0 for sentences."""
        return self.context_frames * self.frontend.hop_samples

    @property
    def heard_samples(self) -> int:
        """Samples of left context and clip together."""
        return self.context_samples + self.frontend.clip_samples

    def heard(self, corpus: Corpus, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns what a phone hears up to the end of each utterance, shape (n, heard_samples)."""
        return with_left_context(corpus, utterances, self.context_samples)

    def features(self, clips: NDArray[np.float32]) -> Tensor:
        """Returns standardized features, shape (n, frames, m), of waveforms (n, samples).

        A base for sentences also takes features that are not standardized yet, shape
        (n, frames, m), and gives zeros for what was never recorded and for the flush behind it.
        """
        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(clips))
            features: Tensor = self._log_mel(given) if given.ndim == 2 else given
            features = (features - self._mean) / self._std
            if self.per_clip:
                return features
            frames = torch.from_numpy(self.frontend.recorded_frames(clips))
            # Zeroed after standardizing, which moves zeros to -mean / std: the encoder was trained
            # on zeros where nothing was recorded.
            there = torch.arange(features.shape[1]) < frames[:, None]
            flush = FLUSH_WINDOWS * self.encoder.spec.stride
            return torch.nn.functional.pad(features * there[:, :, None], (0, 0, 0, flush))

    def encoder_output(self, clips: NDArray[np.float32]) -> Tensor:
        """Returns the encoder's last layer before its activation, (n, w, f), of (n, heard_samples).

        Sentences may be features (see `features`); frames that were never recorded are zeros.

        Raises:
          ValueError: if words come without their left context.
        """
        if self.per_clip and clips.shape[1] != self.heard_samples:
            raise ValueError(
                f"a clip is heard after its left context, {self.heard_samples} samples together "
                f"(`Base.heard`), got {clips.shape[1]}"
            )
        with torch.inference_mode():
            output: Tensor = self.encoder(self.features(clips))
            if self.per_clip:
                return output[:, -self.num_windows :]
            frames = torch.from_numpy(self.frontend.recorded_frames(clips))
            # Rows that only fill up a block hold no sentence, so they have no flush either.
            windows = torch.where(
                frames > 0, -(-frames // self.encoder.spec.stride) + FLUSH_WINDOWS, 0
            )
            # Biases make windows behind the end nonzero, and zeros are all that tells the end from
            # here on.
            there = torch.arange(output.shape[1]) < windows[:, None]
            return output * there[:, :, None]

    def listening_output(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns `encoder_output` of the clip that ends with each hop of a stream, (hops, w, f).

        Digital silence is before the stream of samples (n,). The windows of a clip do not depend on
        its place, so each is computed once.
        """
        spec, stride = self.frontend, self.encoder.spec.stride
        reach = (self.num_windows - 1) * stride
        frames_before = self.context_frames + reach
        silence = frames_before * spec.hop_samples + spec.window_samples - spec.hop_samples
        with torch.inference_mode():
            features = self.features(np.pad(samples, (silence, 0))[np.newaxis])
            frames = features.shape[1]
            every = torch.empty(frames, self.encoder.spec.features)
            # A pass answers every `stride`-th frame; passes that begin later fill in those between.
            for phase in range(stride):
                every[phase::stride] = self.encoder(features[:, phase:])[0]
            # Before this frame, windows may still see the convolutions' padding instead of a left
            # context.
            clips = every[self.context_frames :].unfold(0, reach + 1, 1)
            return clips[:, :, ::stride].transpose(1, 2)

    def logits(self, encoder_output: Tensor) -> Tensor:
        """Scores encoder outputs (n, w, f) with the base's own head; (n, c), or (n, w, c)."""
        weight, bias = torch.from_numpy(self.head_weight), torch.from_numpy(self.head_bias)
        score = pooled_logits if self.per_clip else window_logits
        return score(encoder_output, weight, bias)

    def to_bytes(self) -> bytes:
        """Returns the safetensors file: the same base gives the same bytes."""
        metadata = {
            "format": FORMAT,
            # What a base for words never has is left out: its bytes are its name.
            "frontend": {k: v for k, v in asdict(self.frontend).items() if v is not None},
            "encoder": asdict(self.encoder.spec),
            **self.vocabulary.to_metadata(),
            "provenance": dict(self.provenance),
            "speakers": self.speakers,
        }
        # One key only: safetensors writes the keys of its metadata in no fixed order.
        encoded = {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}
        return bytes(safetensors_numpy.save(self._tensors(), metadata=encoded))

    @classmethod
    def from_bytes(cls, data: bytes) -> Base:
        """Reads what `to_bytes` wrote.

        Raises:
          ValueError: if the bytes are no base of this format, or its parts do not fit together.
        """
        try:
            # safetensors gives tensors from bytes, but not the metadata beside them.
            metadata = _metadata(data)
            tensors = safetensors_numpy.load(data)
            if metadata["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {metadata['format']}")
            layout: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in metadata["encoder"].items()
            }
            labels = labels_from(metadata)
            per_clip = labels.output_unit == "clip"
            encoder = (KwsEncoder if per_clip else SentenceEncoder)(EncoderSpec(**layout))
            _fill(encoder, tensors)
            frontend = dict(metadata["frontend"])
            if "cepstra" in frontend:
                frontend["cepstra"] = Cepstra(**frontend["cepstra"])
            return cls(
                encoder=encoder,
                frontend=FrontendSpec(**frontend),
                feature_mean=tensors["feature_mean"],
                feature_std=tensors["feature_std"],
                vocabulary=labels,
                head_weight=tensors["head_weight"],
                head_bias=tensors["head_bias"],
                provenance=metadata["provenance"],
                speakers=tuple(metadata["speakers"]),
            )
        except (SafetensorError, AttributeError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"not a fedspeech base: {error}") from error

    def save(self, path: Path) -> None:
        """Writes the file, all of it or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> Base:
        """Reads a base, whose hash must be `sha256` if one is given.

        Raises:
          ValueError: if the hash differs or the file is no valid base; the message names the file.
          FileNotFoundError: if there is no such file.
        """
        data = path.read_bytes()
        # Hashed before it is parsed: of a file that is not the expected one, no field is believed.
        found = hashlib.sha256(data).hexdigest()
        if sha256 is not None and found != sha256:
            raise ValueError(f"{path} must have SHA-256 {sha256}, got {found}")
        try:
            return cls.from_bytes(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        """Every stored array by name."""
        encoder = {
            f"encoder.{name}": value.numpy() for name, value in _stored(self.encoder).items()
        }
        own = ("feature_mean", "feature_std", "head_weight", "head_bias")
        return {**encoder, **{name: getattr(self, name) for name in own}}

    @cached_property
    def _log_mel(self) -> LogMel:
        return LogMel(self.frontend)

    @cached_property
    def _mean(self) -> Tensor:
        return torch.from_numpy(self.feature_mean)

    @cached_property
    def _std(self) -> Tensor:
        return torch.from_numpy(self.feature_std)


def default_base_path() -> Path:
    """Where the base that ships with the package lies: ten default words, synthetic speakers."""
    return Path(__file__).with_name("default_base.safetensors")


def sentence_base_path() -> Path:
    """Where the base for sentences that ships with the package lies: synthetic speakers."""
    return Path(__file__).with_name("sentence_base.safetensors")


def _stored(encoder: KwsEncoder) -> dict[str, Tensor]:
    """The encoder's state without BatchNorm's batch counters, which nothing reads."""
    state = encoder.state_dict()
    return {name: value.detach() for name, value in state.items() if value.is_floating_point()}


def _fill(encoder: KwsEncoder, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Copies stored arrays into a fresh encoder; refuses missing, additional or misshapen ones."""
    stored = _stored(encoder)
    expected = {f"encoder.{name}" for name in stored}
    expected |= {"feature_mean", "feature_std", "head_weight", "head_bias"}
    if set(tensors) != expected:
        raise ValueError(f"arrays missing or unknown: {sorted(set(tensors) ^ expected)}")
    for name, value in stored.items():
        array = tensors[f"encoder.{name}"]
        if array.shape != tuple(value.shape) or array.dtype != np.float32:
            raise ValueError(
                f"encoder.{name} must be float32 of shape {tuple(value.shape)}, got "
                f"{array.dtype} {array.shape}"
            )
        value.copy_(torch.from_numpy(array.copy()))


def _metadata(data: bytes) -> dict[str, Any]:
    """The JSON object in the header of a safetensors file: 8 bytes of length, then the header."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
        metadata = json.loads(header["__metadata__"][_METADATA_KEY])
    except UnicodeDecodeError:
        raise ValueError("it is no safetensors file") from None
    except (ValueError, KeyError, TypeError):
        if data[:2] == b"PK":
            raise ValueError(
                "it is a zip archive, as torch.save writes; pickles are not read"
            ) from None
        raise ValueError(
            "it is no safetensors file that `fedspeech pretrain` wrote: its header has no entry "
            f"{_METADATA_KEY!r}"
        ) from None
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no JSON object")
    return metadata

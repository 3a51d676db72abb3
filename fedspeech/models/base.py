"""The base: everything of a model that federated learning leaves alone.

A base is a frozen encoder, the head that pre-training ended with (where adapters start), and a
record of how it was made. Its name is a SHA-256 of its bytes: adapters, runs and exported files
refer to it by that hash.

    base = Base.load(default_base_path())
    heard = base.heard(corpus, utterances)      # (n, 23040 + 16000): left context, then the clip
    outputs = base.encoder_output(heard)          # (n, 13, 64): the clip's windows

Its labels say what it answers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy
from torch import Tensor, nn

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Alphabet, Corpus, Labels, Utterance, Vocabulary, labels_from
from fedspeech.corpora.left_context import with_left_context
from fedspeech.files import read_at_most, write_whole
from fedspeech.models.asr import window_logits
from fedspeech.models.built_in import BuiltInEncoder, check_array, check_finite
from fedspeech.models.encoder import Encoder
from fedspeech.models.exported.archive import MAX_BYTES as ENCODER_BYTES
from fedspeech.models.exported.encoder import (
    ENCODER_FILES,
    Declared,
    ForeignEncoder,
    waveform_encoder,
)
from fedspeech.models.exported.folder import (
    Parts,
    assembled,
    base_folder,
    read_folder,
    write_folder,
)
from fedspeech.models.exported.program import exported
from fedspeech.models.kws import pooled_logits
from fedspeech.models.pooling import Pooling

FORMAT = 2
MAX_BYTES = 2 * ENCODER_BYTES  # an encoder, its head and what describes them
_METADATA_KEY = "fedspeech_base"

Provenance = Mapping[str, str | int | float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A pre-trained model.

    Shapes: c labels, f features that the head takes.

    Attributes:
      encoder: frozen.
      vocabulary: labels of the head.
      head_weight: shape (c, f).
      head_bias: shape (c,).
      provenance: how it was made: command, seed, corpus, license, figures.
      speakers: ids of the speakers it was trained on; none of them may be a phone.
      pooling: what makes one vector of the frames of an encoder from elsewhere; None: adapters
        pool by themselves.
      hard_negatives: frames of public sound that the head takes most for a target word and that is
        none, (n, w, f); they ship to phones. None: none were mined.

    Raises:
      ValueError: if shapes do not fit together or a value is not finite.
    """

    encoder: Encoder
    vocabulary: Labels
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    provenance: Provenance
    speakers: tuple[str, ...] = ()
    pooling: Pooling | None = None
    hard_negatives: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Checks the parts against each other."""
        labels = len(self.vocabulary.labels)
        check_array("head_weight", self.head_weight, (labels, self.num_features))
        check_array("head_bias", self.head_bias, (labels,))
        for name in ("head_weight", "head_bias"):
            check_finite(name, getattr(self, name))
        if self.pooling is not None:
            self.pooling.check(self.encoder.num_windows, self.encoder.num_features)
        if self.hard_negatives is not None:
            sizes = self.encoder.num_windows, self.encoder.num_features
            check_array("hard_negatives", self.hard_negatives, (len(self.hard_negatives), *sizes))
            check_finite("hard_negatives", self.hard_negatives)

    def __repr__(self) -> str:
        """Shows the name and the labels."""
        return f"Base(sha256={self.sha256[:12]}..., labels={self.vocabulary.labels})"

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def built_in(self) -> BuiltInEncoder:
        """The encoder of a base that `fedspeech pretrain` trained.

        Raises:
          ValueError: if the encoder comes from elsewhere.
        """
        if not isinstance(self.encoder, BuiltInEncoder):
            raise ValueError(
                "this needs the built-in encoder, and the base brings its own "
                f"({type(self.encoder).__name__})"
            )
        return self.encoder

    @property
    def reading(self) -> FrontendSpec:
        """How corpora read utterances for it: rate, length, and features where they hold some."""
        if isinstance(self.encoder, BuiltInEncoder):
            return self.encoder.frontend
        return FrontendSpec(clip_samples=self.encoder.clip_samples)

    @property
    def per_clip(self) -> bool:
        """Whether a clip of fixed length has one logit per label, and not every window of it."""
        return self.vocabulary.output_unit == "clip"

    @property
    def num_windows(self) -> int:
        """Windows of a clip that adapters take."""
        return self.encoder.num_windows if self.pooling is None else 1

    @property
    def num_features(self) -> int:
        """Features that the head takes, f."""
        return self.encoder.num_features if self.pooling is None else self.pooling.num_features

    @property
    def lacks_head(self) -> bool:
        """Whether the head is zeros, which answers nothing."""
        return not self.head_weight.any() and not self.head_bias.any()

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is allowed and probably not meant, in words."""
        answers, labels = self.encoder.num_features, len(self.vocabulary.labels)
        if self.per_clip and answers <= labels:
            return (
                f"the encoder answers {answers} numbers and the base has {labels} labels: if these "
                "numbers are its own answers (logits), export the network without its last layer; "
                "what stands in front of it says more of a voice",
            )
        return ()

    @property
    def heard_samples(self) -> int:
        """Samples of left context and clip together."""
        return self.encoder.context_samples + self.encoder.clip_samples

    def heard(self, corpus: Corpus, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns what a phone hears up to the end of each utterance, shape (n, heard_samples)."""
        return with_left_context(corpus, utterances, self.encoder.context_samples)

    def encoder_output(self, heard: NDArray[np.float32]) -> Tensor:
        """Returns what adapters take, before the activation, (n, w, f), of (n, heard_samples)."""
        return self.pooled(self.encoder(heard))

    def listening_output(self, samples: NDArray[np.float32]) -> Tensor:
        """Returns `encoder_output` of the clip that ends with each hop of a stream, (hops, w, f).

        Digital silence is before the stream of samples (n,).
        """
        return self.pooled(self.encoder.listening(samples))

    def pooled(self, frames: Tensor) -> Tensor:
        """What adapters take of frames of the encoder, which are cached: (n, w, f) to (n, 1, f)."""
        return frames if self.pooling is None else self.pooling(frames)

    def logits(self, encoder_output: Tensor) -> Tensor:
        """Scores encoder outputs (n, w, f) with the base's own head; (n, c), or (n, w, c)."""
        weight, bias = torch.from_numpy(self.head_weight), torch.from_numpy(self.head_bias)
        score = pooled_logits if self.per_clip else window_logits
        return score(encoder_output, weight, bias, self.encoder.activation)

    def to_bytes(self) -> bytes:
        """Returns the safetensors file: the same base gives the same bytes."""
        parts, arrays = _encoder_parts(self.encoder)
        metadata = {
            "format": FORMAT,
            **parts,
            **self.vocabulary.to_metadata(),
            "provenance": dict(self.provenance),
            "speakers": self.speakers,
        }
        # One key only: safetensors writes the keys of its metadata in no fixed order.
        encoded = {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}
        arrays |= {"head_weight": self.head_weight, "head_bias": self.head_bias}
        if self.pooling is not None:
            arrays |= self.pooling.to_arrays()
        if self.hard_negatives is not None:
            arrays["hard_negatives"] = self.hard_negatives
        return bytes(safetensors_numpy.save(arrays, metadata=encoded))

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
            labels = labels_from(metadata)
            weight, bias = tensors.pop("head_weight"), tensors.pop("head_bias")
            pooling = Pooling.of_arrays(tensors) if "pooling_mean" in tensors else None
            hard_negatives = tensors.pop("hard_negatives", None)  # the encoder's are all others
            return cls(
                encoder=_encoder_of(metadata, tensors, labels),
                vocabulary=labels,
                head_weight=weight,
                head_bias=bias,
                provenance=metadata["provenance"],
                speakers=tuple(metadata["speakers"]),
                pooling=pooling,
                hard_negatives=hard_negatives,
            )
        except (SafetensorError, AttributeError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"not a fedspeech base: {error}") from error

    def save(self, path: Path) -> None:
        """Writes the file, all of it or nothing.

        A path without the suffix `.safetensors` becomes the folder of a base from elsewhere:
        `base.toml`, the encoder's file and `head.safetensors`.

        Raises:
          ValueError: if it would be a folder and the encoder is the built-in one.
          FileExistsError: if a folder is there that is no base.
        """
        if path.suffix == ".safetensors":
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, self.to_bytes())
        elif isinstance(self.encoder, ForeignEncoder):
            parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(Parts)}
            write_folder(path, Parts(**parts))
        else:
            raise ValueError(
                f"a base with the built-in encoder is one file, *.safetensors, got {path}"
            )

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> Base:
        """Reads a base, whose hash must be `sha256` if one is given.

        Args:
          path: a file, or the folder of a base from elsewhere (docs/own-model.md).
          sha256: what `Base.sha256` must be, hex.

        Raises:
          ValueError: if the hash differs or it is no valid base; the message names the file.
          FileNotFoundError: if there is nothing.
        """
        if (folder := base_folder(path)) is not None:
            parts = read_folder(folder)
            try:
                base = cls.of_parts(parts)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            _check_hash(path, base.sha256, sha256)
            return base
        try:
            data = read_at_most(path, MAX_BYTES)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no base at {path}") from None
        if path.suffix in ENCODER_FILES:
            raise ValueError(
                f"{path} is an encoder and says neither words nor license: "
                f"`fedspeech pretrain --base {path} --words '...' --corpus RECORDINGS "
                "--speakers 40 --out my-base` fits a head behind it and writes a base; from Python "
                "fs.pretrain, or fs.Base.from_file without the head (docs/own-model.md)"
            )
        # Hashed before it is parsed: of a file that is not the expected one, no field is believed.
        _check_hash(path, hashlib.sha256(data).hexdigest(), sha256)
        try:
            return cls.from_bytes(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        example: Tensor,
        words: Sequence[str] | None = None,
        alphabet: Sequence[str] | None = None,
        license: str,  # noqa: A002
        speakers: Sequence[str] = (),
        log_mel: FrontendSpec | None = None,
        context_samples: int = 0,
        padding_samples: int = 0,
        hop_samples: int = 1_280,
        clip_samples: int | None = None,
        pooling: str | None = None,
        head: tuple[Tensor, Tensor] | None = None,
        provenance: Provenance | None = None,
    ) -> Base:
        """Makes a base of any frozen module; `save` writes it as a folder.

            base = Base.from_module(net, example=torch.zeros(1, 16_000), words=["yes", "no"],
                                    license="Apache-2.0")

        Args:
          module: from waveforms (n, samples), or from log-mel features (n, frames, mels) if
            `log_mel` is given, to frames (n, w, f) or one vector (n, f). It is put into evaluation
            mode and exported by torch.export.
          example: an input of one or more utterances; its shape matters and not its values.
          words: target words, answered once an utterance.
          alphabet: characters of transcripts instead, answered frame by frame by CTC.
          license: of the weights, SPDX where there is one.
          speakers: ids of the speakers it was trained on; none of them may be a phone.
          log_mel: the features that the module takes; None: samples, full scale 1.
          context_samples: of the left context that is heard before an utterance.
          padding_samples: zeros behind what was heard.
          hop_samples: between two answers of a stream.
          clip_samples: length of an utterance; None: what the example's length leaves.
          pooling: see `fedspeech.models.exported.folder.assembled`.
          head: weight (c, f) and bias (c,) over words, unknown and silence, or over the blank and
            the characters; None: zeros.
          provenance: how it was made.

        Raises:
          ValueError: if torch cannot export the module, or it is no frozen encoder.
        """
        labels = _labels_of(words, alphabet)
        if clip_samples is None:
            whole = 16_000 if log_mel else example.shape[-1] - context_samples - padding_samples
            clip_samples = int(whole)
        declared = Declared(
            file="pt2",
            input="waveform" if log_mel is None else "log_mel",
            clip_samples=clip_samples,
            context_samples=context_samples,
            padding_samples=padding_samples,
            hop_samples=hop_samples,
            log_mel=log_mel,
            sentences=alphabet is not None,
        )
        parts = assembled(
            encoder=ForeignEncoder(content=exported(module, example), declared=declared),
            vocabulary=labels, license=license, speakers=tuple(speakers),
            provenance=provenance or {}, pooling=pooling, head=_head_arrays(head),
        )  # fmt: skip
        return cls.of_parts(parts)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        words: Sequence[str] | None = None,
        alphabet: Sequence[str] | None = None,
        license: str,  # noqa: A002
        speakers: Sequence[str] = (),
        pooling: str | None = None,
        head: tuple[Tensor, Tensor] | None = None,
        provenance: Provenance | None = None,
    ) -> Base:
        """Makes a base of a network that is in a file, from waveforms at 16 kHz.

            base = Base.from_file("encoder.pt2", words=["yes", "no"], license="Apache-2.0")

        An utterance is as long as the network's input. A network that takes features, or left
        context, is described by a folder with a `base.toml` instead (docs/own-model.md).

        Args:
          path: what `torch.export.save` wrote, `*.pt2`, or a TensorFlow Lite file, `*.tflite`; from
            waveforms (n, samples) to frames (n, w, f) or one vector (n, f).
          words: see `from_module`, as for every other argument.
          alphabet: characters of transcripts instead.
          license: of the weights.
          speakers: ids of the speakers it was trained on; none of them may be a phone.
          pooling: what makes one vector of frames.
          head: weight (c, f) and bias (c,).
          provenance: how it was made.

        Raises:
          FileNotFoundError: if there is no such file.
          ValueError: if the file is refused, or it is no frozen encoder of waveforms.
        """
        path, labels = Path(path), _labels_of(words, alphabet)
        encoder = waveform_encoder(path, sentences=alphabet is not None)
        parts = assembled(
            encoder=encoder, vocabulary=labels, license=license, speakers=tuple(speakers),
            provenance=provenance or {}, pooling=pooling, head=_head_arrays(head),
        )  # fmt: skip
        return cls.of_parts(parts)

    @classmethod
    def of_parts(cls, parts: Parts) -> Base:
        """Puts together what a folder or a program gave for an encoder from elsewhere."""
        return cls(**vars(parts))


def _labels_of(words: Sequence[str] | None, alphabet: Sequence[str] | None) -> Labels:
    """Labels of a head.

    Raises:
      ValueError: if both or neither are given.
    """
    if (words is None) == (alphabet is None):
        raise ValueError("a base has either words or an alphabet; give one of the two")
    return Alphabet(tuple(alphabet)) if alphabet else Vocabulary(tuple(words or ()))


def _head_arrays(head: tuple[Tensor, Tensor] | None) -> dict[str, NDArray[np.float32]]:
    """A head as a base's folder has it."""
    if head is None:
        return {}
    weight, bias = (part.detach().float().numpy() for part in head)
    return {"head_weight": weight, "head_bias": bias}


def _check_hash(path: Path, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise ValueError(f"{path} must have SHA-256 {wanted}, got {found}")


def _encoder_parts(encoder: Encoder) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a base's file holds of its encoder: header and arrays."""
    if isinstance(encoder, BuiltInEncoder):
        return encoder.layout(), dict(encoder.tensors())
    if isinstance(encoder, ForeignEncoder):
        file = np.frombuffer(encoder.content, dtype=np.uint8)
        return {"exported": encoder.declared.to_metadata()}, {"encoder_file": file}
    raise ValueError(f"an encoder of this kind has no file: {type(encoder).__name__}")


def _encoder_of(
    metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], labels: Labels
) -> Encoder:
    """Inverts `_encoder_parts`."""
    if "exported" in metadata:
        declared = Declared.of_metadata(metadata["exported"])
        return ForeignEncoder(content=tensors["encoder_file"].tobytes(), declared=declared)
    clips = labels.output_unit == "clip"
    return BuiltInEncoder.of_layout(metadata, tensors, answers_clips=clips)


def default_base_path() -> Path:
    """Where the base that ships with the package lies: ten default words, synthetic speakers."""
    return Path(__file__).with_name("default_base.safetensors")


def sentence_base_path() -> Path:
    """Where the base for sentences that ships with the package lies: synthetic speakers."""
    return Path(__file__).with_name("sentence_base.safetensors")


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

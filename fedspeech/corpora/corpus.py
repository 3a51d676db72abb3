"""The interface of every corpus (speakers, utterances, waveforms on demand) and of labels.

A word is what a speaker says; a label is an output of the model. `Labels` map one to the other. A
`Vocabulary` has its target words, then `_unknown_` (any other word), then `_silence_` (rooms,
noise, gaps); an `Alphabet` has characters, and each utterance is a sequence of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.written import listed

UNKNOWN = "_unknown_"
SILENCE = "_silence_"
NUM_NEGATIVE_LABELS = 2
"""Unknown and silence, the last two labels of a vocabulary."""

OutputUnit = Literal["clip", "frame"]


class Labels(Protocol):
    """The outputs of a model, and the encoding of words as output indices.

    Attributes:
      output_unit: what has one logit per label: "clip", a clip of fixed length that follows its
        left context, or "frame", every frame of an utterance of any length.
      tag: the name of the task on model hubs.
    """

    output_unit: ClassVar[OutputUnit]
    tag: ClassVar[str]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""

    def encode(self, said: Sequence[str]) -> NDArray[np.int64]:
        """Returns output indices: shape (n,) per clip, or (n, length), padded with -1."""

    def to_metadata(self) -> dict[str, Any]:
        """Returns the JSON values that `labels_from` reads."""

    def in_words(self) -> str:
        """Describes the outputs, for a model card."""


@dataclass(frozen=True)
class Vocabulary:
    """The target words of a keyword model and the two labels that stand for everything else.

    Attributes:
      targets: 1 to 40 distinct lower-case words; a single one is a wake word.

    Raises:
      ValueError: if a target repeats, is empty or is one of the two reserved labels.
    """

    output_unit: ClassVar[OutputUnit] = "clip"
    tag: ClassVar[str] = "keyword-spotting"

    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks the targets."""
        if not 1 <= len(self.targets) <= 40 or len(set(self.targets)) != len(self.targets):
            raise ValueError(f"expected 1 to 40 distinct target words, got {self.targets}")
        for word in self.targets:
            if word != word.strip().lower() or not word or word in (UNKNOWN, SILENCE):
                raise ValueError(f"a target word must be plain lower case, got {word!r}")
            if not unicodedata.is_normalized("NFC", word):  # would equal no word of a corpus
                raise ValueError(f"a target word must be composed (NFC), got {word!a}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Targets, then unknown, then silence: the order of the model's outputs."""
        return (*self.targets, UNKNOWN, SILENCE)

    def label(self, word: str) -> int:
        """Returns the output index of a word; every word outside the targets is unknown."""
        if word == SILENCE:
            return len(self.targets) + 1
        return self.targets.index(word) if word in self.targets else len(self.targets)

    def encode(self, said: Sequence[str]) -> NDArray[np.int64]:
        """Returns one output index per word, shape (n,)."""
        return np.array([self.label(word) for word in said], dtype=np.int64)

    def to_metadata(self) -> dict[str, Any]:
        """Returns the targets."""
        return {"targets": list(self.targets)}

    def in_words(self) -> str:
        """Lists the targets."""
        targets = listed(self.targets)
        return f"Target words: {targets}; every other word is `_unknown_`, no word `_silence_`"


BLANK = "_"
MAX_CHARACTERS = 80


@dataclass(frozen=True)
class Alphabet:
    """The characters of transcripts, after the blank that CTC emits between them.

    Attributes:
      characters: distinct, lower case; the space separates words.

    Raises:
      ValueError: if one repeats, is the blank, or is no single lower-case character.
    """

    output_unit: ClassVar[OutputUnit] = "frame"
    tag: ClassVar[str] = "automatic-speech-recognition"

    characters: tuple[str, ...] = (" ", "'", *"abcdefghijklmnopqrstuvwxyz")

    def __post_init__(self) -> None:
        """Checks the characters."""
        if len(set(self.characters)) != len(self.characters) or not self.characters:
            raise ValueError(f"expected distinct characters, got {self.characters}")
        for character in self.characters:
            if len(character) != 1 or character != character.lower() or character == BLANK:
                raise ValueError(f"an alphabet has single lower-case characters, got {character!r}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The blank, then the characters: the order of the model's outputs."""
        return (BLANK, *self.characters)

    def encode(self, said: Sequence[str]) -> NDArray[np.int64]:
        """Returns output indices, shape (n, MAX_CHARACTERS), padded with -1.

        Raises:
          ValueError: if one is too long or leaves the alphabet; the message shows no transcript.
        """
        numbers = {character: number for number, character in enumerate(self.labels)}
        rows = np.full((len(said), MAX_CHARACTERS), -1, dtype=np.int64)
        for row, transcript in zip(rows, said, strict=True):
            strange = sorted(set(transcript) - set(self.characters))
            if strange or len(transcript) > MAX_CHARACTERS:
                raise ValueError(
                    f"a transcript has at most {MAX_CHARACTERS} characters of the alphabet, got "
                    f"{len(transcript)}, {len(strange)} kinds of them outside it"
                )
            row[: len(transcript)] = [numbers[character] for character in transcript]
        return rows

    def decode(self, indices: NDArray[np.int64]) -> str:
        """Returns the transcript of output indices; blanks and padding are left out."""
        return "".join(self.labels[index] for index in indices if index > 0)

    def to_metadata(self) -> dict[str, Any]:
        """Returns the characters."""
        return {"characters": list(self.characters)}

    def in_words(self) -> str:
        """Counts the characters."""
        count = len(self.characters)
        return f"Outputs of every window: the CTC blank, then {count} characters"


@dataclass(frozen=True)
class NamedLabels:
    """One of several kinds of sound per clip, without a label for everything else.

    Attributes:
      labels: distinct names, at least 2 of them.

    Raises:
      ValueError: if there are fewer, or one repeats.
    """

    output_unit: ClassVar[OutputUnit] = "clip"
    tag: ClassVar[str] = "audio-classification"

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks the names."""
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"expected at least 2 distinct labels, got {self.labels}")

    def encode(self, said: Sequence[str]) -> NDArray[np.int64]:
        """Returns one output index per name, shape (n,).

        Raises:
          ValueError: if a name is no label.
        """
        if strange := sorted(set(said) - set(self.labels)):
            raise ValueError(f"a label is one of {', '.join(self.labels)}, got {strange[0]!r}")
        return np.array([self.labels.index(name) for name in said], dtype=np.int64)

    def to_metadata(self) -> dict[str, Any]:
        """Returns the names."""
        return {"labels": list(self.labels)}

    def in_words(self) -> str:
        """Lists the names."""
        return f"Labels: {listed(self.labels)}"


def labels_from(metadata: Mapping[str, Any]) -> Labels:
    """Reads the labels of a base or an adapter, as `to_metadata` wrote them.

    Raises:
      KeyError: if there are neither target words, characters nor names.
      ValueError: if they break a rule.
    """
    if "characters" in metadata:
        return Alphabet(tuple(metadata["characters"]))
    if "labels" in metadata:
        return NamedLabels(tuple(metadata["labels"]))
    return Vocabulary(tuple(metadata["targets"]))


@dataclass(frozen=True)
class Speaker:
    """A recorded person.

    Attributes:
      speaker_id: unique within the corpus.
      segments: segment name (accent, sex, age_band, device, noise) to value, as far as known.
    """

    speaker_id: str
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Utterance:
    """One recording of one word, of a sentence, or of silence. Printing it does not show the words.

    Attributes:
      utterance_id: unique within the corpus; that of a sentence does not reveal its words.
      speaker_id: the speaker; of silence, the owner of the recording device.
      word: lower-case word, the words of a sentence separated by spaces, or `SILENCE`.
    """

    utterance_id: str
    speaker_id: str
    word: str = field(repr=False)


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out: its place in the corpus, and the reason as `rule: detail`."""

    where: str
    reason: str


def group_skipped(skipped: Iterable[Skipped]) -> dict[str, list[Skipped]]:
    """Groups recordings by the rule under which they were left out, largest group first."""
    groups: dict[str, list[Skipped]] = {}
    for skip in skipped:
        groups.setdefault(skip.reason.partition(": ")[0], []).append(skip)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


class Corpus(Protocol):
    """Recordings of speakers, read or synthesized on demand."""

    @property
    def name(self) -> str:
        """Name in reports."""

    @property
    def license(self) -> str:
        """License of the recordings, for the model card."""

    @property
    def speakers(self) -> Mapping[str, Speaker]:
        """Speakers by id."""

    @property
    def utterances(self) -> Sequence[Utterance]:
        """Every usable utterance, in a fixed order."""

    @property
    def skipped(self) -> Sequence[Skipped]:
        """Recordings left out, with the reason."""

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of all that determines the waveform: file bytes, or synthesizer settings."""

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns clips, shape (n, clip_samples), full scale 1; bits do not depend on batching.

        A sentence starts at sample 0 and is followed by zeros. A corpus without waveforms returns
        features of its front end, shape (n, frames, features), likewise followed by zeros.
        """

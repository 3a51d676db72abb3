"""Whose voice is drawn anew when: per utterance, per speaker, or for a whole household.

    anonymizer = Anonymizer(method="mcadams", entropy=NoiseEntropy.os())
    anonymizer(waveform, 16_000, utterance="anna/yes_1.wav", speaker="anna")

    AnonymizedCorpus(corpus, Anonymizer(method="mcadams", entropy=seeded), rate_hz=16_000)

What is drawn stands between a voice and its recordings, so it comes from keystreams: of the
operating system, or of a seed where a simulation must repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedspeech.anonymization.pitch import F0MeanReversion
from fedspeech.anonymization.waveform import McAdams, Method, Noise, Resampling, Waveform
from fedspeech.corpora.corpus import Corpus, Skipped, Speaker, Utterance
from fedspeech.errors import CorpusError, require
from fedspeech.seeds import Keystream, NoiseEntropy, canonical

MethodName = Literal["mcadams", "resampling", "f0-reversion", "noise"]
Per = Literal["utterance", "speaker"]
METHODS: Mapping[MethodName, Method] = {
    "mcadams": McAdams(),
    "resampling": Resampling(),
    "f0-reversion": F0MeanReversion(),
    "noise": Noise(),
}
assert set(METHODS) == set(get_args(MethodName))

_RECIPE = "anonymized 1"  # raise it when the same draws give another sound


@dataclass(frozen=True, kw_only=True)
class Anonymizer:
    """One method with its draws.

    Attributes:
      method: one of `METHODS`.
      entropy: of the operating system, or of a seed.
      per: "utterance": every recording gets a voice of its own; "speaker": each speaker keeps one,
        which is pseudonymization: recordings stay linked.
      households: speaker to household; speakers of one are drawn one voice, for a phone that does
        not know who of its users speaks. Not named: a household of their own.

    Raises:
      ValueError: for another method or `per`.
    """

    method: MethodName
    entropy: NoiseEntropy
    per: Per = "utterance"
    households: Mapping[str, str] = field(default_factory=dict)
    _keys: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks both names."""
        require(self.method in METHODS, f"method must be one of {', '.join(METHODS)}",
                method=self.method)  # fmt: skip
        require(self.per in get_args(Per), f"per must be one of {', '.join(get_args(Per))}",
                per=self.per)  # fmt: skip

    def __call__(
        self, waveform: Waveform, rate_hz: int, *, utterance: str, speaker: str
    ) -> Waveform:
        """Changes a recording (samples,); the length stays.

        Args:
          waveform: finite samples, full scale 1.
          rate_hz: of both.
          utterance: its name, unique; under a seed all draws follow from names.
          speaker: whose recording it is.

        Raises:
          ValueError: if a sample is not finite.
          MissingExtra: if the method needs a package that is not installed.
        """
        owner = self.households.get(speaker, speaker) if self.per == "speaker" else utterance
        return METHODS[self.method](
            waveform, rate_hz, voice=Keystream(self._key(owner)),
            noise=self.entropy.keystream("anonymization noise", self.method, utterance),
        )  # fmt: skip

    def _key(self, owner: str) -> bytes:
        """Of an owner's voice; the operating system gives another one at every call, so it stays.

        One of a single recording is asked for once and not kept.
        """
        stream = self.entropy.keystream("anonymization voice", self.method, owner)
        if self.per == "utterance":
            return stream.bytes(32)
        if owner not in self._keys:
            self._keys[owner] = stream.bytes(32)
        return self._keys[owner]

    @property
    def recipe(self) -> tuple[str, ...]:
        """What determines the sound under a seed, beside the recording and its names."""
        households = sorted(f"{who}\0{home}" for who, home in self.households.items())
        return (_RECIPE, repr(METHODS[self.method]), self.per, *households)


class AnonymizedCorpus:
    """A `Corpus` whose every clip is another one's, anonymized."""

    def __init__(self, corpus: Corpus, anonymizer: Anonymizer, *, rate_hz: int) -> None:
        """Wraps a corpus of waveforms.

        Raises:
          ValueError: if the draws are the operating system's: a clip must be the same whenever it
            is asked for.
        """
        source = anonymizer.entropy.source
        require(source == "seeded", "a corpus is anonymized by seeded draws", entropy=source)
        self.original, self._anonymizer, self._rate_hz = corpus, anonymizer, rate_hz
        # What the keys are derived from stays hidden; a block of theirs tells two seeds apart.
        self._seed = anonymizer.entropy.commitment("anonymized corpus")
        self.name = f"{corpus.name}, anonymized ({anonymizer.method} per {anonymizer.per})"
        self.license = corpus.license
        self.speakers: Mapping[str, Speaker] = corpus.speakers
        self.utterances: Sequence[Utterance] = corpus.utterances
        self.skipped: Sequence[Skipped] = corpus.skipped

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the original's fingerprint, its names, the method and the draws."""
        named = (utterance.utterance_id, utterance.speaker_id)
        original = self.original.fingerprint(utterance)
        recipe = (*self._anonymizer.recipe, self._seed, *named, original)
        return hashlib.sha256(canonical(self._rate_hz, *recipe)).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns anonymized clips, shape (n, samples), float32; see `Corpus.waveforms`.

        Raises:
          CorpusError: if the corpus holds features, which these methods do not apply to.
        """
        clips = self.original.waveforms(utterances)
        if clips.ndim != 2:
            raise CorpusError(f"waveforms are anonymized, and {self.original.name} holds features")
        changed = [
            self._anonymizer(
                clip, self._rate_hz, utterance=one.utterance_id, speaker=one.speaker_id
            )
            for clip, one in zip(clips, utterances, strict=True)
        ]
        return np.stack(changed) if changed else clips

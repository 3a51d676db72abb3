"""Real speakers on simulated devices: a corpus that records another corpus's clips again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import SPEECH_RMS, Device, apply_devices, speech_rms
from fedspeech.corpora.corpus import SILENCE, Corpus, Skipped, Speaker, Utterance
from fedspeech.seeds import canonical

_CHAIN = "device chain 1"  # raise it when the loudness rule below changes


@dataclass(frozen=True)
class Variant:
    """One clip as one device records it.

    Attributes:
      utterance: its own id, the original's speaker and word.
      original: the clip of the underlying corpus.
      device: what records it.
      noise_seed: which stretch of noise it meets, below 2**63.
    """

    utterance: Utterance
    original: Utterance
    device: Device
    noise_seed: int


class DeviceCorpus:
    """A `Corpus`: the clips of another one, and variants of them on simulated devices.

    A device's noise is sized for speech of nominal loudness, so speech is brought to it first: the
    clip is scaled until the 20 ms frames within 20 dB of its loudest have the root mean square
    `SPEECH_RMS`. Silence keeps its level.
    """

    def __init__(self, corpus: Corpus, variants: Mapping[str, Variant]) -> None:
        """Wraps a corpus.

        Args:
          corpus: at 16 kHz, the rate of the device chain.
          variants: by the id of their utterance.

        Raises:
          ValueError: if a variant has the id of an original clip.
        """
        self._corpus = corpus
        self._variants = dict(variants)
        originals = {utterance.utterance_id for utterance in corpus.utterances}
        taken = sorted(originals & set(self._variants))
        if taken:
            raise ValueError(f"the id of a variant must be new, got {taken[0]!r}")

    @property
    def name(self) -> str:
        """The original's name, and what was done to it."""
        return f"{self._corpus.name} on simulated devices"

    @property
    def licence(self) -> str:
        """The original's licence."""
        return self._corpus.licence

    @property
    def speakers(self) -> Mapping[str, Speaker]:
        """The original's speakers; a device is a segment of the phone, not of the speaker."""
        return self._corpus.speakers

    @property
    def utterances(self) -> Sequence[Utterance]:
        """The original's clips, then the variants."""
        variants = (variant.utterance for variant in self._variants.values())
        return (*self._corpus.utterances, *variants)

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What the original left out."""
        return self._corpus.skipped

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the original's fingerprint, the device and the stretch of noise."""
        variant = self._variants.get(utterance.utterance_id)
        if variant is None:
            return self._corpus.fingerprint(utterance)
        original = self._corpus.fingerprint(variant.original)
        recipe = canonical(_CHAIN, original, repr(variant.device), variant.noise_seed)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns clips, shape (n, clip_samples), float32; variants recorded on their devices."""
        found = [self._variants.get(utterance.utterance_id) for utterance in utterances]
        clips = self._corpus.waveforms(
            [
                utterance if variant is None else variant.original
                for utterance, variant in zip(utterances, found, strict=True)
            ]
        )
        rows = [row for row, variant in enumerate(found) if variant is not None]
        played = [variant for variant in found if variant is not None]
        if played:
            spoken = np.stack(
                [
                    clips[row] if variant.original.word == SILENCE else nominal(clips[row])
                    for row, variant in zip(rows, played, strict=True)
                ]
            )
            clips[rows] = apply_devices(
                spoken,
                [variant.device for variant in played],
                [variant.noise_seed for variant in played],
            )
        return clips


def nominal(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales speech, shape (n,), to nominal loudness; see `DeviceCorpus`."""
    level = speech_rms(clip)
    return clip * np.float32(SPEECH_RMS / level) if level > 0 else clip

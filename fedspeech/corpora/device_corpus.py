"""Real speakers on simulated devices: the clips of a corpus, recorded again."""

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
      noise_seed: of the stretch of noise that is added, below 2**63.
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

    Attributes:
      original: the other corpus.
    """

    def __init__(self, corpus: Corpus, variants: Mapping[str, Variant]) -> None:
        """Wraps a corpus at 16 kHz; the key of a variant is the id of its utterance.

        Raises:
          ValueError: if a variant has the id of an original clip.
        """
        self.original, self._variants = corpus, dict(variants)
        taken = sorted({clip.utterance_id for clip in corpus.utterances} & set(variants))
        if taken:
            raise ValueError(f"the id of a variant must be new, got {taken[0]!r}")
        self.name = f"{corpus.name} on simulated devices"
        self.license = corpus.license
        # A device is a segment of the phone, not of the speaker.
        self.speakers: Mapping[str, Speaker] = corpus.speakers
        self.utterances: Sequence[Utterance] = (
            *corpus.utterances,
            *(variant.utterance for variant in variants.values()),
        )
        self.skipped: Sequence[Skipped] = corpus.skipped

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the original's fingerprint, the device and the stretch of noise."""
        variant = self._variants.get(utterance.utterance_id)
        if variant is None:
            return self.original.fingerprint(utterance)
        original = self.original.fingerprint(variant.original)
        recipe = canonical(_CHAIN, original, repr(variant.device), variant.noise_seed)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns clips, shape (n, clip_samples), float32; variants recorded on their devices."""
        found = [self._variants.get(utterance.utterance_id) for utterance in utterances]
        clips = self.original.waveforms(
            [
                utterance if variant is None else variant.original
                for utterance, variant in zip(utterances, found, strict=True)
            ]
        )
        played = {row: variant for row, variant in enumerate(found) if variant is not None}
        if not played:
            return clips
        for row, variant in played.items():
            if variant.original.word != SILENCE:
                clips[row] = nominal(clips[row])  # a device's noise is relative to it
        devices = [variant.device for variant in played.values()]
        seeds = [variant.noise_seed for variant in played.values()]
        clips[list(played)] = apply_devices(clips[list(played)], devices, seeds)
        return clips


def nominal(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales speech, shape (n,), to nominal loudness; see `DeviceCorpus`."""
    level = speech_rms(clip)
    return clip * np.float32(SPEECH_RMS / level) if level > 0 else clip

"""Sentences joined from one speaker's own recorded words, with gaps from the recordings themselves.

    corpus = JoinedWords(open_corpus(folder), spec, words=(2, 4), most=12, seed=1)

Each clip of a speaker is used at most once. To make the joints inaudible, a word keeps some of the
pause recorded around it, all words of a sentence have one loudness, and a speaker's sentences are
recorded again on one simulated device in one room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import Device, apply_devices, draw_device
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, UNKNOWN, Corpus, Skipped, Speaker, Utterance
from fedspeech.corpora.device_corpus import nominal
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical, stream

_FRAME = 160
_FADE = 160
_PAUSE = (480, 2_400)  # samples kept before or after a word: 30 to 150 ms


class JoinedWords:
    """A `Corpus` of sentences over a corpus of recorded words."""

    def __init__(
        self,
        words: Corpus,
        spec: FrontendSpec,
        *,
        length: tuple[int, int],
        most: int,
        seed: int,
    ) -> None:
        """Draws at most `most` sentences per speaker; nothing is read yet.

        The clip of the front end is the longest sentence; `length` is the fewest and most words.

        Raises:
          ValueError: if the lengths are not 1 <= fewest <= most.
        """
        if not 1 <= length[0] <= length[1]:
            raise ValueError(f"words per sentence must be 1 <= fewest <= most, got {length}")
        self._words, self._spec, self._seed = words, spec, seed
        self._parts: dict[str, tuple[Utterance, ...]] = {}
        utterances = []
        clips: dict[str, list[Utterance]] = {name: [] for name in words.speakers}
        for clip in words.utterances:
            if clip.word not in (SILENCE, UNKNOWN):
                clips[clip.speaker_id].append(clip)
        for speaker_id, own in clips.items():
            rng = stream(seed, "joined sentences", speaker_id)
            order = [own[index] for index in rng.permutation(len(own))]
            for number in range(most):
                count = int(rng.integers(length[0], length[1] + 1))
                if len(order) < count:
                    break
                parts, order = tuple(order[:count]), order[count:]
                name = f"{speaker_id}/{number}"
                self._parts[name] = parts
                said = " ".join(part.word for part in parts)
                utterances.append(Utterance(name, speaker_id, said))
        self.name = f"{words.name} joined to sentences"
        self.license = words.license
        self.one_id_one_person = getattr(words, "one_id_one_person", True)
        self.speakers: Mapping[str, Speaker] = {
            clip.speaker_id: words.speakers[clip.speaker_id] for clip in utterances
        }
        self.utterances: Sequence[Utterance] = utterances
        self.skipped: Sequence[Skipped] = words.skipped

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the clips' fingerprints in their order, the device and the clip length."""
        parts = [self._words.fingerprint(part) for part in self._parts[utterance.utterance_id]]
        recipe = canonical(
            "joined sentence 1",
            utterance.utterance_id,
            self._seed,
            repr(self._device(utterance.speaker_id)),
            self._spec.clip_samples,
            *parts,
        )
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Joins and records sentences, shape (n, clip_samples), zeros after the end of each.

        Raises:
          CorpusError: if a sentence is longer than a clip.
        """
        num_samples = self._spec.clip_samples
        dry = np.zeros((len(utterances), num_samples), dtype=np.float32)
        lengths = []
        for row, utterance in zip(dry, utterances, strict=True):
            joined = self._join(utterance)
            if len(joined) > num_samples:  # cut, it would lack words that its transcript has
                rate = self._spec.rate_hz
                raise CorpusError(
                    f"{utterance.utterance_id}: {len(utterance.word.split())} words are "
                    f"{len(joined) / rate:.1f} s long, and a sentence has at most "
                    f"{num_samples / rate:.1f} s: lower corpus.words_per_sentence"
                )
            row[: len(joined)] = joined
            lengths.append(len(joined))
        seeds = [int(self.fingerprint(utterance)[:16], 16) for utterance in utterances]
        devices = [self._device(utterance.speaker_id) for utterance in utterances]
        clips = apply_devices(dry, devices, seeds)
        for row, count in zip(clips, lengths, strict=True):
            row[count:] = 0  # nothing was recorded
        return clips

    def _device(self, speaker_id: str) -> Device:
        """The device of all sentences of a speaker."""
        return draw_device(stream(self._seed, "joined device", speaker_id))

    def _join(self, utterance: Utterance) -> NDArray[np.float32]:
        """One sentence before its room: words with the pauses around them, cross-faded."""
        rng = stream(self._seed, "joined pauses", utterance.utterance_id)
        parts = self._words.waveforms(self._parts[utterance.utterance_id])
        pieces = [_trimmed(nominal(clip), rng.integers(*_PAUSE, 2)) for clip in parts]
        sentence = pieces[0]
        ramp = np.linspace(0, 1, _FADE, dtype=np.float32)
        for piece in pieces[1:]:
            overlap = sentence[-_FADE:] * (1 - ramp) + piece[:_FADE] * ramp
            sentence = np.concatenate([sentence[:-_FADE], overlap, piece[_FADE:]])
        return sentence


def _trimmed(clip: NDArray[np.float32], around: NDArray[np.int64]) -> NDArray[np.float32]:
    """A word with at most `around` samples before and after it, without zeros at the ends."""
    frames = len(clip) // _FRAME
    power = (
        np.square(clip[: frames * _FRAME], dtype=np.float64).reshape(frames, _FRAME).mean(axis=1)
    )
    loud = np.flatnonzero(power > power.max() / 1_000)  # 30 dB below the loudest frame
    recorded = np.flatnonzero(clip)
    # Zeros at the ends are padding, not a recorded pause.
    start = max(int(loud[0]) * _FRAME - int(around[0]), int(recorded[0]))
    stop = min(int(loud[-1] + 1) * _FRAME + int(around[1]), int(recorded[-1]) + 1)
    return clip[start:stop]

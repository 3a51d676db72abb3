"""What a file is compared on: speech, what is not speech, held-out users, and torch's logits.

Half of the probes are speech, the other half noise, tones, clicks, overload and digital silence,
because a phone's microphone hears those most of the day. Held-out clips are of people on whom
nothing was trained or calibrated; their predictions are compared user by user.

Thousands of held-out clips are some gigabytes of sound and a hundred megabytes of features. So
sound is made a block at a time, and kept of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.seeds import stream
from tflite_export.arrays import FloatArray
from tflite_export.weights import Trained

MINIMUM_SPEECH = 250
LISTENING_PROBES = 20
STREAMED_PROBES = 160
SOUND_CLIPS = 300
_BLOCK = 64


class HeardClips:
    """Waveforms (n, heard_samples) of a corpus's clips, made each time they are asked for."""

    def __init__(self, base: Base, corpus: Corpus, clips: Sequence[Utterance]) -> None:
        self._base, self._corpus, self._clips = base, corpus, clips

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._clips)

    def __getitem__(self, places: slice | NDArray[np.int64]) -> FloatArray:
        """The clips at these places."""
        return self._base.heard(self._corpus, self.rows(places)._clips)

    def rows(self, places: slice | NDArray[np.int64]) -> HeardClips:
        """These clips alone, not made yet."""
        chosen = [self._clips[place] for place in np.arange(len(self))[places]]
        return HeardClips(self._base, self._corpus, chosen)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Clips of people who neither trained nor calibrated anything. Printing it shows shapes only.

    Attributes:
      source: what they are, in words, such as a corpus's name.
      waveforms: shape (n, heard_samples), float32, full scale 1, as `Base.heard` gives them; an
        array, or what makes the clips that it is asked for.
      labels: shape (n,), int64.
      users: whose clip each is, shape (n,), pseudonyms.

    Raises:
      ValueError: if lengths differ or there is no clip.
    """

    source: str
    waveforms: FloatArray | HeardClips = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    users: NDArray[np.str_] = field(repr=False)

    def __post_init__(self) -> None:
        """Checks the lengths."""
        lengths = {len(self.waveforms), len(self.labels), len(self.users)}
        if len(lengths) != 1 or not len(self.labels):
            raise ValueError(
                f"held-out clips need one label and one user each, got {sorted(lengths)}"
            )

    def evenly(self, most: int) -> NDArray[np.int64]:
        """Places of at most so many clips: clips lie user by user, so every user has some."""
        return evenly(len(self.labels), most)

    def rows(self, places: NDArray[np.int64]) -> HeldOut:
        """The clips at these places; no sound is made for it."""
        clips = self.waveforms
        return replace(
            self,
            waveforms=clips.rows(places) if isinstance(clips, HeardClips) else clips[places],
            labels=self.labels[places],
            users=self.users[places],
        )

    def sounding(self, most: int) -> HeldOut:
        """At most so many clips, evenly spread, their sound in memory."""
        few = self.rows(self.evenly(most))
        return replace(few, waveforms=few.waveforms[:])


class Evidence:
    """A trained model, and its logits of everything a file of it is compared on, computed once.

    Attributes:
      speech: shape (n, heard_samples), as `Base.heard` gives it.
      held_out: people for agreement and loss of accuracy.

    Raises:
      ValueError: if the speech cannot be used; see `probes`.
    """

    def __init__(self, trained: Trained, speech: FloatArray, held_out: HeldOut) -> None:
        self.trained, self.speech, self.held_out = trained, speech, held_out
        self.probes = probes(speech, trained.base)

    @cached_property
    def log_mel(self) -> FloatArray:
        """Log-mel of the probes by torch, shape (2 n, frames, mels)."""
        return log_mel(self.trained.base.built_in.frontend, self.probes)

    @cached_property
    def logits(self) -> FloatArray:
        """Torch's logits of the probes, shape (2 n, c)."""
        return reference_logits(self.trained, self.probes)

    @cached_property
    def listening(self) -> FloatArray:
        """Minutes of probes (samples,): speech after digital silence, noise, and other words."""
        # The speech stands first among the probes, what is not speech after it.
        rows, half = LISTENING_PROBES, len(self.speech)
        silence = np.zeros((rows, 3 * self.trained.base.encoder.rate_hz), dtype=np.float32)
        quiet = np.concatenate([silence, self.probes[:rows]], axis=1)
        noisy = np.concatenate([self.probes[half : half + rows], self.probes[rows : 2 * rows]], 1)
        return np.concatenate([quiet.ravel(), noisy.ravel(), self.speech[:rows].ravel()])

    @cached_property
    def listening_embeddings(self) -> FloatArray:
        """Torch's embeddings at every hop of `listening`, shape (hops, *e)."""
        return listening_embeddings(self.trained, self.listening)

    @cached_property
    def listening_logits(self) -> FloatArray:
        """Torch's logits at every hop of `listening`, shape (hops, c)."""
        return scored(self.trained, self.listening_embeddings)

    @cached_property
    def streamed(self) -> NDArray[np.int64]:
        """Places of the probes that go through a file hop by hop, speech and what is none.

        Evenly spread, and the loudest and the quietest of both: a hop costs as much as a clip.
        """
        half = len(self.speech)
        spread = np.linspace(0, half - 1, STREAMED_PROBES // 2).astype(np.int64)
        level = np.abs(self.probes).max(axis=1)
        ends = [
            half * part + place
            for part in (0, 1)
            for place in np.argsort(level[half * part : half * (part + 1)])[[0, 1, -2, -1]]
        ]
        return np.unique(np.concatenate([spread, half + spread, ends]))

    @cached_property
    def _sounding(self) -> tuple[NDArray[np.int64], FloatArray]:
        places = self.held_out.evenly(SOUND_CLIPS)
        return places, self.held_out.waveforms[places]

    def sound(self, *most: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Places and waveforms of some of the `SOUND_CLIPS` held-out clips that are kept.

        Evenly spread: so many of them at most, so many at most of those, and so on. So fewer are
        among more.
        """
        places, waveforms = self._sounding
        kept = np.arange(len(places))
        for count in most:
            kept = kept[evenly(len(kept), count)]
        return places[kept], waveforms[kept]

    @property
    def held_out_log_mel(self) -> FloatArray:
        """Log-mel of the held-out clips by torch, shape (n, frames, mels)."""
        features, _ = self._held_out
        assert features is not None, "only the built-in encoder has a front end"
        return features

    @property
    def held_out_logits(self) -> FloatArray:
        """Torch's logits of the held-out clips, shape (n, c)."""
        return self._held_out[1]

    @cached_property
    def _held_out(self) -> tuple[FloatArray | None, FloatArray]:
        """Features, where the encoder has some, and logits; the sound of a block at a time."""
        encoder = self.trained.adapter.encoder(self.trained.base)
        features: list[FloatArray] = []
        logits = []
        for start in range(0, len(self.held_out.labels), _BLOCK):
            given = self.held_out.waveforms[start : start + _BLOCK]
            if isinstance(encoder, BuiltInEncoder):
                given = log_mel(encoder.frontend, given)
                features.append(given)
            logits.append(scored(self.trained, embedded(self.trained, encoder(given))))
        return np.concatenate(features) if features else None, np.concatenate(logits)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places of a list of so many, evenly spread, the first and the last too."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def log_mel(spec: FrontendSpec, waveforms: FloatArray) -> FloatArray:
    """The front end of training: (n, samples) to (n, frames, mels), not standardized."""
    with torch.inference_mode():
        features: FloatArray = LogMel(spec)(torch.from_numpy(waveforms)).numpy()
        return features


def reference_logits(trained: Trained, waveforms: FloatArray) -> FloatArray:
    """Logits (n, c) in torch of waveforms (n, heard_samples), as evaluation computes them."""
    # In blocks, or thousands of clips would need gigabytes of windows at once.
    starts = range(0, len(waveforms), _BLOCK)
    encoder = trained.adapter.encoder(trained.base)
    frames = (encoder(waveforms[start : start + _BLOCK]) for start in starts)
    return np.concatenate([scored(trained, embedded(trained, output)) for output in frames])


def listening_embeddings(trained: Trained, samples: FloatArray) -> FloatArray:
    """Torch's embeddings (hops, *e) at every hop of samples (n,), digital silence before them."""
    return embedded(trained, trained.adapter.encoder(trained.base).listening(samples))


def embedded(trained: Trained, frames: torch.Tensor) -> FloatArray:
    """Embeddings (n, *e) in torch of encoder frames (n, w, f)."""
    embeddings: FloatArray = trained.adapter.embed_frames(trained.base, frames).numpy()
    return embeddings


def scored(trained: Trained, embeddings: FloatArray) -> FloatArray:
    """Logits (n, c) in torch of embeddings (n, *e)."""
    vector = trained.adapter.spec.flatten(trained.parameters)[np.newaxis]
    logits: FloatArray = score_clips(trained.adapter, vector, embeddings)[0]
    return logits


def repeated(speech: FloatArray) -> FloatArray:
    """As many clips as parity needs: these, and from the first one on again where they are few."""
    return speech[np.arange(max(MINIMUM_SPEECH, len(speech))) % len(speech)]


def probes(speech: FloatArray, base: Base) -> FloatArray:
    """Speech (n, heard_samples), full scale 1, then as many clips that are no speech: (2 n, ...).

    Raises:
      ValueError: if there are too few clips, or shape, type or a value is wrong.
    """
    heard = base.heard_samples
    if speech.ndim != 2 or speech.shape[1] != heard or speech.dtype != np.float32:
        raise ValueError(
            f"speech must be float32 of shape (n, {heard}), left context included, got "
            f"{speech.dtype} {speech.shape}"
        )
    if len(speech) < MINIMUM_SPEECH:
        raise ValueError(f"parity needs at least {MINIMUM_SPEECH} speech clips, got {len(speech)}")
    if not np.isfinite(speech).all():
        raise ValueError("speech must be finite, got NaN or infinity")
    return np.concatenate([speech, _not_speech(len(speech), heard, base.encoder.rate_hz)])


def _not_speech(num_clips: int, num_samples: int, rate_hz: int) -> FloatArray:
    """Clips without speech: five kinds in turn, -70 to 0 dB of full scale; one is silence."""
    # Of no run's seed: every export of a model is compared on the same clips.
    rng = stream(0, "parity probes")
    seconds = np.arange(num_samples) / rate_hz
    clips = np.empty((num_clips, num_samples), dtype=np.float32)
    for index, clip in enumerate(clips):
        level = 10 ** (rng.uniform(-70, 0) / 20)
        white = rng.standard_normal(num_samples)
        match index % 5:
            case 0:
                sound = white / 4
            case 1:
                brown = np.cumsum(white)
                sound = (brown - brown.mean()) / np.abs(brown).max()
            case 2:
                sound = np.sin(2 * np.pi * rng.uniform(50, rate_hz / 2) * seconds)
            case 3:
                sound = white * (rng.random(num_samples) < 1e-3)
            case _:
                sound = np.sign(white) * (rng.random() + 0.5)
        clip[:] = np.clip(level * sound, -1, 1)
    # Digital silence, in which a standardized feature is far from the mean.
    clips[-1] = 0
    return clips

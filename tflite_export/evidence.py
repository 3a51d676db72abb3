"""What a file is held against: speech, what is not speech, held-out users, and torch's answers.

Half of the probes are speech, the other half noise, tones, clicks, overload and digital silence,
because a phone's microphone hears those most of the day. Held-out clips are of people on whom
nothing was trained or calibrated; of them, answers are compared user by user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.seeds import stream
from tflite_export.weights import Trained

FloatArray = NDArray[np.float32]

MINIMUM_SPEECH = 250
_BLOCK = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Clips of people who neither trained nor calibrated anything. Printing it shows shapes only.

    Attributes:
      source: what they are, in words, such as a corpus's name.
      waveforms: shape (n, clip_samples), float32, full scale 1.
      labels: shape (n,), int64.
      users: whose clip each is, shape (n,), pseudonyms.

    Raises:
      ValueError: if lengths differ or there is no clip.
    """

    source: str
    waveforms: FloatArray = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    users: NDArray[np.str_] = field(repr=False)

    def __post_init__(self) -> None:
        """Checks the lengths."""
        lengths = {len(self.waveforms), len(self.labels), len(self.users)}
        if len(lengths) != 1 or not len(self.labels):
            raise ValueError(
                f"held-out clips need one label and one user each, got {sorted(lengths)}"
            )


class Evidence:
    """A trained model, and what it answers to everything a file of it is compared on.

    Answers are computed once, however many files of a family are compared.

    Attributes:
      trained: the model.
      speech: shape (n, clip_samples).
      held_out: people for agreement and loss of accuracy.
    """

    def __init__(self, trained: Trained, speech: FloatArray, held_out: HeldOut) -> None:
        """Checks the speech.

        Raises:
          ValueError: if it cannot be used; see `probes`.
        """
        self.trained, self.speech, self.held_out = trained, speech, held_out
        self.probes = probes(speech, trained.base.frontend)

    @cached_property
    def log_mel(self) -> FloatArray:
        """Log-mel of the probes by torch, shape (2 n, frames, mels)."""
        return log_mel(self.trained.base.frontend, self.probes)

    @cached_property
    def logits(self) -> FloatArray:
        """Torch's answers to the probes, shape (2 n, c)."""
        return reference_logits(self.trained, self.probes)

    @cached_property
    def stream_logits(self) -> FloatArray:
        """Torch's answers to the probes as a stream begins: preceded by silence, shape (2 n, c)."""
        return reference_logits(self.trained, as_streamed(self.trained, self.probes))

    @cached_property
    def held_out_logits(self) -> FloatArray:
        """Torch's answers to the held-out clips, shape (n, c)."""
        return reference_logits(self.trained, self.held_out.waveforms)

    @cached_property
    def held_out_stream_logits(self) -> FloatArray:
        """The same, as a stream begins."""
        return reference_logits(self.trained, as_streamed(self.trained, self.held_out.waveforms))


def as_streamed(trained: Trained, waveforms: FloatArray) -> FloatArray:
    """Clips whose first samples are silent, as many as one window overlaps the next.

    A stream begins with silence in its memory, so these are the clips that it can hear whole.
    """
    spec = trained.base.frontend
    silenced = waveforms.copy()
    silenced[:, : spec.window_samples - spec.hop_samples] = 0
    return silenced


def log_mel(spec: FrontendSpec, waveforms: FloatArray) -> FloatArray:
    """The front end of training: (n, samples) to (n, frames, mels), not standardised."""
    with torch.inference_mode():
        features: FloatArray = LogMel(spec)(torch.from_numpy(waveforms)).numpy()
        return features


def reference_logits(trained: Trained, waveforms: FloatArray) -> FloatArray:
    """Computes in torch what training and evaluation compute.

    Args:
      trained: the model.
      waveforms: shape (n, clip_samples).

    Returns:
      Logits, shape (n, c).
    """
    adapter = trained.adapter
    tensors = {
        name: torch.tensor(value, dtype=torch.float32)[None]
        for name, value in trained.parameters.items()
    }
    blocks = []
    for start in range(0, len(waveforms), _BLOCK):
        outputs = trained.base.trunk_output(waveforms[start : start + _BLOCK])
        blocks.append(adapter.logits(tensors, adapter.embed(outputs)[None])[0].numpy())
    return np.concatenate(blocks)


def probes(speech: FloatArray, spec: FrontendSpec) -> FloatArray:
    """Returns the speech, then as many clips that are not speech.

    Args:
      speech: shape (n, clip_samples), float32, full scale 1; at least 250 clips.
      spec: the front end.

    Returns:
      Shape (2 n, clip_samples), float32; the same for the same speech.

    Raises:
      ValueError: if there are too few clips, or shape, type or a value is wrong.
    """
    if speech.ndim != 2 or speech.shape[1] != spec.clip_samples or speech.dtype != np.float32:
        raise ValueError(
            f"speech must be float32 of shape (n, {spec.clip_samples}), got {speech.dtype} "
            f"{speech.shape}"
        )
    if len(speech) < MINIMUM_SPEECH:
        raise ValueError(f"parity needs at least {MINIMUM_SPEECH} speech clips, got {len(speech)}")
    if not np.isfinite(speech).all():
        raise ValueError("speech must be finite, got NaN or infinity")
    return np.concatenate([speech, _not_speech(len(speech), spec)])


def _not_speech(num_clips: int, spec: FrontendSpec) -> FloatArray:
    """Makes clips without speech: five kinds in turn, -70 to 0 dB of full scale; one is silence."""
    rng = stream(0, "parity probes")
    seconds = np.arange(spec.clip_samples) / spec.rate_hz
    clips = np.empty((num_clips, spec.clip_samples), dtype=np.float32)
    for index, clip in enumerate(clips):
        level = 10 ** (rng.uniform(-70, 0) / 20)
        white = rng.standard_normal(spec.clip_samples)
        match index % 5:
            case 0:
                sound = white / 4
            case 1:
                brown = np.cumsum(white)
                sound = (brown - brown.mean()) / np.abs(brown).max()
            case 2:
                sound = np.sin(2 * np.pi * rng.uniform(50, spec.rate_hz / 2) * seconds)
            case 3:
                sound = white * (rng.random(spec.clip_samples) < 1e-3)
            case _:
                sound = np.sign(white) * (rng.random() + 0.5)
        clip[:] = np.clip(level * sound, -1, 1)
    clips[-1] = 0
    return clips

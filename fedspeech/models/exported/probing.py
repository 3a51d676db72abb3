"""What a frozen encoder must keep, tried on it: the same answer each time, for each clip by itself.

Adapters train on cached outputs, in blocks, and phones compute them alone. So an answer must be
finite on anything a microphone delivers, repeat to the bit, and depend neither on the calls before
nor on the clips beside. Causality and time invariance are measured and not required: a clip is
heard as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH_TOLERANCE = 1e-4
"""Of the largest output: matrix products round differently by the number of rows."""

STREAM_TOLERANCE = 1e-4
"""Of the largest output, for a frame that should not have moved."""


class Probed(Protocol):
    """What is tried: an encoder as `fedspeech.models.encoder.Encoder` says."""

    @property
    def context_samples(self) -> int: ...  # noqa: D102
    @property
    def clip_samples(self) -> int: ...  # noqa: D102
    @property
    def hop_samples(self) -> int: ...  # noqa: D102
    def __call__(self, heard: NDArray[np.float32]) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What probing measured.

    Attributes:
      num_windows: frames of an utterance.
      num_features: features of a frame.
      batch_difference: largest difference of an answer alone and among others, over the largest
        output.
      heard_late: frames, from the end, that the last hop of an utterance changes; all of them: the
        encoder hears an utterance as a whole.
      shift_difference: how far a frame differs from the one after it when what is heard moves by
        one hop, over the largest output; infinite for a single frame.
    """

    num_windows: int
    num_features: int
    batch_difference: float
    heard_late: int
    shift_difference: float

    @property
    def streams(self) -> bool:
        """Whether a stream could compute most frames once, instead of each utterance anew."""
        return self.heard_late < self.num_windows and self.shift_difference <= STREAM_TOLERANCE

    def in_words(self) -> str:
        """What a listening phone has to compute."""
        if self.streams:
            return (
                f"streams: {self.num_windows} frames, of which the last hop changes "
                f"{self.heard_late}"
            )
        if self.heard_late >= self.num_windows:
            why = "its last hop changes every frame"
        elif self.shift_difference == float("inf"):
            why = "no two frames lie away from its edges"
        else:
            why = f"a shift by one hop changes frames by {self.shift_difference:.2g} of the largest"
        return f"hears each utterance as a whole ({why}), so a stream costs one pass per hop"


def probe(encoder: Probed) -> Findings:
    """Tries an encoder on silence, noise, full scale and clicks.

    Raises:
      ValueError: naming what it does not keep, and the value measured.
    """
    sounds = _sounds(encoder.context_samples + encoder.clip_samples)
    answers = {name: _checked(name, encoder(sound[np.newaxis])) for name, sound in sounds.items()}
    _, windows, features = answers["silence"].shape
    largest = max(float(answer.abs().max()) for answer in answers.values())
    if max(float((one - answers["silence"]).abs().max()) for one in answers.values()) == 0:
        raise ValueError("an encoder must hear something, this one answers everything alike")
    for name, sound in sounds.items():
        again = encoder(sound[np.newaxis])
        moved = float((again - answers[name]).abs().max())
        if moved:
            raise ValueError(
                "an encoder must answer the same each time, whatever it heard before; on "
                f"{name} two answers differ by {moved:.3g}"
            )
    batch = _batch_difference(encoder, sounds, answers) / largest
    if batch > BATCH_TOLERANCE:
        raise ValueError(
            "an encoder must answer each clip by itself, this one's answers differ by "
            f"{batch:.3g} of the largest output when other clips stand beside it (at most "
            f"{BATCH_TOLERANCE:g})"
        )
    return Findings(
        num_windows=windows,
        num_features=features,
        batch_difference=batch,
        heard_late=_heard_late(encoder, sounds["speech-like noise"], largest),
        shift_difference=_shift_difference(encoder, sounds["speech-like noise"], largest),
    )


def _sounds(samples: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=samples)
    slow = np.sin(2 * np.pi * 3 * np.arange(samples) / 16_000) ** 2
    click = np.zeros(samples)
    click[samples // 2] = 1
    sounds = {
        "silence": np.zeros(samples),
        "noise at -80 dB": 1e-4 * noise,
        "speech-like noise": 0.1 * slow * noise,
        "full scale": np.sign(np.sin(2 * np.pi * 200 * np.arange(samples) / 16_000) + 1e-9),
        "clipped noise": np.clip(10 * noise, -1, 1),
        "a constant offset": np.ones(samples),
        "a click": click,
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


def _checked(name: str, answer: Tensor) -> Tensor:
    """Refuses an answer that is not finite."""
    if answer.numel() == 0:
        raise ValueError(f"an encoder answers at least one value, got {tuple(answer.shape)}")
    wrong = int((~torch.isfinite(answer)).sum())
    if wrong:
        raise ValueError(
            f"an encoder must answer finite values, on {name} {wrong} of {answer.numel()} are "
            "NaN or infinite"
        )
    return answer


def _batch_difference(
    encoder: Callable[[NDArray[np.float32]], Tensor],
    sounds: dict[str, NDArray[np.float32]],
    answers: dict[str, Tensor],
) -> float:
    """Largest difference of answers in one call and in calls of their own."""
    together = encoder(np.stack(list(sounds.values())))
    alone = torch.cat(list(answers.values()))
    if together.shape != alone.shape:
        raise ValueError(
            f"an encoder must answer every clip, {len(sounds)} clips gave {tuple(together.shape)}"
        )
    return float((together - alone).abs().max())


def _moved(encoder: Probed, one: NDArray[np.float32], other: NDArray[np.float32]) -> Tensor:
    """By frame, the largest difference of two answers, shape (w,)."""
    return (encoder(one[np.newaxis]) - encoder(other[np.newaxis])).abs().amax(dim=-1)[0]


def _heard_late(encoder: Probed, sound: NDArray[np.float32], largest: float) -> int:
    """Counts frames, from the end, up to the first that the last hop changes."""
    other = sound.copy()
    other[-encoder.hop_samples :] = 0
    moved = _moved(encoder, sound, other)
    changed = (moved > STREAM_TOLERANCE * largest).nonzero()
    return len(moved) - int(changed.min()) if len(changed) else 0


def _heard_early(encoder: Probed, sound: NDArray[np.float32], largest: float) -> int:
    """Counts frames up to the last that the first hop changes: they may see the edge as well."""
    other = sound.copy()
    other[: encoder.hop_samples] = 0
    changed = (_moved(encoder, sound, other) > STREAM_TOLERANCE * largest).nonzero()
    return int(changed.max()) + 1 if len(changed) else 0


def _shift_difference(encoder: Probed, sound: NDArray[np.float32], largest: float) -> float:
    """How far frames differ from the next frames of what is heard one hop earlier, edges apart."""
    hop = encoder.hop_samples
    new = 0.1 * np.random.default_rng(1).normal(size=hop).astype(np.float32)
    first = encoder(sound[np.newaxis])[0]
    second = encoder(np.concatenate([sound[hop:], new])[np.newaxis])[0]
    early = _heard_early(encoder, sound, largest)
    late = len(first) - _heard_late(encoder, sound, largest)
    if late - early < 2:
        return float("inf")
    return float((first[early + 1 : late] - second[early : late - 1]).abs().max()) / largest

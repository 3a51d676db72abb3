"""A stream through a network that answers frame after frame: every frame is computed once.

    stream = OnePass(encoder, padding_samples=0, frames=network)
    if stream.answers_as_clips():
        found = stream(samples)                             # (hops, w, f), as clip by clip

Clips that end one hop apart share all frames but one. A network that takes longer input than a
clip, and whose frames see no edge of it, answers a stream in one pass: the frames of the clip that
ends with a hop are w of its answers in a row. No file says whether a network is one, so it is
tried. Frames that hear the zeros behind a clip are computed for every hop by themselves: there the
stream has sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.models.encoder import Encoder, clip_by_clip

FloatArray = NDArray[np.float32]

TOLERANCE = 1e-4
"""Of the largest output, for a frame of the stream and the same frame of a clip."""

_PASS_FRAMES = 500  # longer passes take more memory and are no faster
_TAILS = 64  # clips in one pass
_TRIED_HOPS = 5


@dataclass(frozen=True, eq=False)
class OnePass:
    """How an encoder answers a stream.

    Attributes:
      encoder: answers clips; its frames are one hop apart.
      padding_samples: zeros that it puts behind a clip.
      frames: what it computes of samples of any length (n, m), (n, frames, f), without padding.
    """

    encoder: Encoder
    padding_samples: int
    frames: Callable[[FloatArray], Tensor]

    def answers_as_clips(self) -> bool:
        """Tries a few hops of noise both ways, the stream cut into several passes."""
        encoder = self.encoder
        count = self._clip_samples + _TRIED_HOPS * encoder.hop_samples
        loudness = np.sin(np.arange(count) / 2_000) ** 2
        noise = np.random.default_rng(2).normal(size=count)
        samples = (0.1 * loudness * noise).astype(np.float32)
        try:
            found = self(samples, pass_frames=encoder.num_windows + 2)
        except (ValueError, RuntimeError):  # a network of one length says so in its own way
            return False
        expected = clip_by_clip(encoder, samples)
        difference = float((found - expected).abs().max())
        return difference <= TOLERANCE * float(expected.abs().max())

    def __call__(self, samples: FloatArray, pass_frames: int = _PASS_FRAMES) -> Tensor:
        """Returns the output of the clip that ends with each hop of samples (n,), (hops, w, f).

        Digital silence is before the samples.

        Raises:
          ValueError: if the network answers more or fewer frames than clips have.
        """
        encoder, hop, length = self.encoder, self.encoder.hop_samples, self._clip_samples
        hops = len(samples) // hop
        if not hops:
            return torch.zeros(0, encoder.num_windows, encoder.num_features)
        before = np.zeros(max(length - hop, 0), dtype=np.float32)
        stream = np.concatenate([before, samples[: hops * hop]])[-(length + (hops - 1) * hop) :]
        frames = self.of_stream(stream, pass_frames)
        shared = len(frames) - hops + 1  # that hear no padding
        heard = frames.unfold(0, shared, 1).transpose(1, 2)
        if shared < encoder.num_windows:
            tails = np.lib.stride_tricks.sliding_window_view(stream, length)[::hop, shared * hop :]
            heard = torch.cat([heard, torch.cat(list(self._tails(tails)))], dim=1)
        if heard.shape != (hops, encoder.num_windows, encoder.num_features):
            raise ValueError(
                f"a clip has {encoder.num_windows} frames of {encoder.num_features} features, in a "
                f"stream it would have {tuple(heard.shape[1:])}"
            )
        return heard

    def of_stream(self, stream: FloatArray, pass_frames: int = _PASS_FRAMES) -> Tensor:
        """Returns the frames of sound (n,) with nothing around it, (frames, f), one a hop.

        Clips that end one hop apart are rows of `num_windows` of them where no padding is heard.
        """
        hop, length = self.encoder.hop_samples, self._clip_samples
        if len(stream) < length:
            return torch.zeros(0, self.encoder.num_features)
        in_clip = self.frames(stream[np.newaxis, :length]).shape[1]
        count = in_clip + (len(stream) - length) // hop
        reach = length - (in_clip - 1) * hop
        return torch.cat(list(self._passes(stream, count, reach, pass_frames)))

    def _passes(
        self, stream: FloatArray, count: int, reach: int, pass_frames: int
    ) -> Iterator[Tensor]:
        """Yields `count` frames, in pieces that overlap by what a frame hears, `reach` samples."""
        hop = self.encoder.hop_samples
        # All pieces are as long: LiteRT prepares itself anew for every shape.
        size = (min(pass_frames, count) - 1) * hop + reach
        for first in range(0, count, pass_frames):
            piece = stream[first * hop : first * hop + size]
            padded = np.pad(piece, (0, size - len(piece)))
            yield self.frames(padded[np.newaxis])[0, : count - first]

    def _tails(self, tails: FloatArray) -> Iterator[Tensor]:
        """Yields what clips (n, samples) answer from where padding is heard, some at a time."""
        for first in range(0, len(tails), _TAILS):
            rows = tails[first : first + _TAILS]
            yield self.frames(np.pad(rows, ((0, 0), (0, self.padding_samples))))

    @property
    def _clip_samples(self) -> int:
        """Of left context and clip."""
        return self.encoder.context_samples + self.encoder.clip_samples

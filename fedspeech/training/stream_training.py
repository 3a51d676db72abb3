"""Trains encoder and head on clips and on segments of streams, and finds what is hard in these.

    training = StreamTraining(base, scenes, settings, HardNegatives(hours=4))
    training.run(log_mel, labels, lesson)
    training.encoder, training.head, training.windows(200)

`fedspeech.training.hard_negatives` says why.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedspeech.audio.augment import augment
from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.limits import Count, Positive, Share, check_limits
from fedspeech.models.base import Base
from fedspeech.models.kws import pooled_logits
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.base_training import Lesson, optimize
from fedspeech.training.pretrain import (
    CLIPS_PER_STREAM,
    PretrainSettings,
    clip_streams,
    clip_windows,
    left_contexts,
)

_SCENES_AT_ONCE = 25


@dataclass(frozen=True, kw_only=True)
class HardNegatives:
    """How a base is trained against them.

    Attributes:
      hours: of synthesized sound without a target word.
      accents: of those who speak in it. Voices of accents in which no target word is taught would
        teach that such a voice says none.
      mined_per_hour: windows that are hard, at most one of an event.
      segments: of streams beside a batch of clips.
      easy: share of segments that are drawn without regard to what they hold.
      hardest: answers of a segment that count.
      epochs: over the lesson's clips.
      learning_rate: peak of the schedule.

    Raises:
      ValueError: if a number is out of its range.
    """

    hours: Positive
    accents: tuple[str, ...] = tuple(sorted(ACCENTS))
    mined_per_hour: Count = 500
    segments: Count = 16
    easy: Share = 0.25
    hardest: Count = 4
    epochs: Count = 4
    learning_rate: Positive = 1.5e-3

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_limits(self)


class StreamTraining:
    """See the module.

    Args:
      start: what is trained further; a copy of it is.
      scenes: features (scenes, frames, m) of sound without a target word.
      settings: of the optimizer, and how clips are varied.
      mining: sizes.

    Attributes:
      encoder, head: as they are now.
      mean, std: what features are standardized by, (m,).

    Raises:
      ValueError: if the base has no built-in encoder, or scenes are shorter than a segment.
    """

    def __init__(
        self,
        start: Base,
        scenes: Tensor,
        settings: PretrainSettings,
        mining: HardNegatives,
    ) -> None:
        own = start.built_in
        self.encoder = copy.deepcopy(own.network).train().requires_grad_(True)
        self.head = nn.Linear(start.num_features, len(start.head_bias))
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(start.head_weight))
            self.head.bias.copy_(torch.from_numpy(start.head_bias))
        self.mean, self.std = (torch.from_numpy(one) for one in (own.feature_mean, own.feature_std))
        self._scenes, self._settings, self._mining = scenes, settings, mining
        self._hard = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        self._windows, stride = start.num_windows, own.spec.stride
        slot = own.spec.num_windows(own.frontend.frames_per_clip) * stride
        self._length = own.context_frames + CLIPS_PER_STREAM * slot
        # Before this answer a clip has no whole left context.
        self._first = own.spec.num_windows(own.context_frames) + self._windows - 1
        if scenes.shape[1] < self._length:
            raise ValueError(
                f"scenes must have at least {self._length} frames, got {scenes.shape[1]}"
            )

    def run(self, log_mel: Tensor, labels: Tensor, lesson: Lesson) -> None:
        """Trains on clips (n, frames, m) with their labels, and on segments of the scenes."""
        contexts = left_contexts(self._settings)

        def batches(size: int, rng: np.random.Generator) -> Iterator[Tensor]:
            self._hard = self._mined(round(self._mining.mined_per_hour * self._mining.hours))
            order = torch.from_numpy(rng.permutation(len(labels)))
            yield from torch.split(order[: len(order) // size * size], size)

        def losses(batch: Tensor, generator: torch.Generator) -> list[Tensor]:
            streams = clip_streams(log_mel[batch], contexts, self._settings, generator)
            heard = torch.cat([streams, self._segments(generator)])
            output = self.encoder((heard - self.mean) / self.std)
            said = clip_windows(output[: len(streams)], len(batch), self._settings)
            logits = pooled_logits(said, self.head.weight, self.head.bias)
            return [
                nn.functional.cross_entropy(logits, labels[batch]),
                self._wrong(output[len(streams) :]),
            ]

        optimize((self.encoder, self.head), self._settings, lesson, batches, losses, warm_up=0.2)

    def windows(self, count: int) -> Tensor:
        """Outputs of the windows that are hardest now, (count, w, f), before the activation."""
        rows, ends = self._mined(count)
        with torch.inference_mode():
            output = self._outputs(self._scenes[rows])
        places = ends[:, None] - torch.arange(self._windows - 1, -1, -1)
        return output[torch.arange(len(rows))[:, None], places].clone()

    def _wrong(self, output: Tensor) -> Tensor:
        """Mean cost of the answers of segments (n, windows, f) that are furthest wrong."""
        logits = self._answers(output)[:, self._first - self._windows + 1 :]
        others = logits[..., -NUM_NEGATIVE_LABELS:].logsumexp(-1)
        costs = logits.logsumexp(-1) - others  # - log of the probability of no target word
        return costs.topk(min(self._mining.hardest, costs.shape[1]), dim=1).values.mean()

    def _answers(self, output: Tensor) -> Tensor:
        """Logits of the clip that ends with each window, of the first whole clip on."""
        clips = torch.relu(output).unfold(1, self._windows, 1).mean(-1)
        logits: Tensor = self.head(clips)
        return logits

    def _outputs(self, scenes: Tensor) -> Tensor:
        self.encoder.eval()
        output: Tensor = self.encoder((scenes.float() - self.mean) / self.std)
        self.encoder.train()
        return output

    def _mined(self, count: int) -> tuple[Tensor, Tensor]:
        """Scene and last window of what is taken most for a word, one of an event, (count,)."""
        with torch.inference_mode():
            blocks = torch.split(self._scenes, _SCENES_AT_ONCE)
            found = torch.cat([_log_odds(self._answers(self._outputs(block))) for block in blocks])
        reach = self._windows - 1  # answers nearer than that share windows
        peaks = nn.functional.max_pool1d(found[:, None], 2 * reach + 1, 1, reach)[:, 0]
        found = torch.where(found == peaks, found, -torch.inf)
        found[:, : self._first - reach] = -torch.inf
        best = found.flatten().topk(min(count, int(found.isfinite().sum()))).indices
        return best // found.shape[1], best % found.shape[1] + reach

    def _segments(self, generator: torch.Generator) -> Tensor:
        """Varied segments of scenes, most of them around what is hard, (segments, frames, m)."""
        count, stride = self._mining.segments, self._settings.encoder.stride
        easy = round(self._mining.easy * count)
        latest = self._scenes.shape[1] - self._length
        drawn = torch.randint(len(self._hard[0]), (count - easy,), generator=generator)
        # A hard window ends anywhere in a segment where a whole left context is before its clip.
        behind = torch.randint(
            self._first, self._length // stride, (count - easy,), generator=generator
        )
        starts = (stride * (self._hard[1][drawn] - behind)).clamp(0, latest)
        rows = torch.cat(
            [self._hard[0][drawn], torch.randint(len(self._scenes), (easy,), generator=generator)]
        )
        places = torch.cat([starts, torch.randint(latest + 1, (easy,), generator=generator)])
        cut = [
            self._scenes[row, place : place + self._length]
            for row, place in zip(rows.tolist(), places.tolist(), strict=True)
        ]
        floor = self._settings.frontend.floor
        return augment(torch.stack(cut).float(), floor, self._settings.augmentation, generator)


def _log_odds(logits: Tensor) -> Tensor:
    """How much more a target word weighs than none, of logits (..., c)."""
    targets, none = logits[..., :-NUM_NEGATIVE_LABELS], logits[..., -NUM_NEGATIVE_LABELS:]
    return targets.amax(-1) - none.logsumexp(-1)

"""Trains a base for words further, against what it takes for a word in hours without one.

    mining = HardNegatives(hours=4)
    scenes = scene_features(base.built_in.frontend, mining, targets, lexicon={})
    base = against_hard_negatives(base, lesson, scenes, mining)
    base.hard_negatives                             # (n, w, f): windows to ship to phones

A base that is right on clips wakes many times in an hour of speech, music or near misses, because
the clips that taught it hold none of their windows. So it answers every window of the hours, and
those that it takes most for a word are what it learns next (bootstrapping; Sung and Poggio 1998,
IEEE Trans. PAMI 20, 39), beside the words of its lesson. Before each epoch they are found anew. Of
a segment of a stream the few answers that are furthest wrong count (as in the max-pooling loss of
Sun et al. 2016, arXiv:1705.02411): the others are right already and would outweigh them.

Everything here is public: phones have no part in it, and no epsilon covers it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedspeech.audio.augment import augment
from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Vocabulary
from fedspeech.corpora.negative_scenes import SHARES, negative_scenes
from fedspeech.corpora.synthetic import PRETRAINING_ACCENT
from fedspeech.limits import Count, Positive, Share, check_limits
from fedspeech.models.base import Base, Provenance
from fedspeech.models.kws import KwsEncoder, pooled_logits
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.base_training import (
    Lesson,
    Progress,
    optimize,
    synthetic,
    trained_base,
)
from fedspeech.training.mining import SHIPPED
from fedspeech.training.pretrain import (
    BLOCK_CLIPS,
    CLIPS_PER_STREAM,
    PretrainSettings,
    base_accuracy,
    clip_streams,
    clip_windows,
    left_contexts,
    public_and_validation,
    synthetic_base,
)

VERSION = 1
"""Raised by whoever changes what the same settings lead to; cached bases are then made again."""

MINED_SEED = 2_000
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


def scene_features(
    spec: FrontendSpec,
    mining: HardNegatives,
    targets: Sequence[str],
    lexicon: Mapping[str, str],
    progress: Progress | None = None,
) -> Tensor:
    """Features that are not standardized of scenes without a target word, (scenes, frames, m).

    Kinds of sound have the shares of `SHARES`.
    """
    frontend, seconds, features = LogMel(spec), 3600 * mining.hours, []
    made = negative_scenes(seconds, targets, MINED_SEED, lexicon, SHARES, mining.accents)
    for scene in made:
        with torch.no_grad():  # in half precision, which costs a feature a thousandth
            features.append(frontend(torch.from_numpy(scene.sound)[None]).half())
        if progress is not None:
            heard = len(features) * len(scene.sound) / spec.rate_hz
            progress("hours", min(round(heard), round(seconds)), round(seconds))
    return torch.cat(features)


def against_hard_negatives(
    start: Base, lesson: Lesson, scenes: Tensor, mining: HardNegatives
) -> Base:
    """Trains encoder and head further; the same arguments give the same bytes on one machine.

    Args:
      start: a base for words with the built-in encoder.
      lesson: what taught it.
      scenes: features (scenes, frames, m) of sound without a target word.
      mining: sizes.

    Raises:
      ValueError: if the base has no built-in encoder, or scenes are shorter than a segment.
    """
    settings = PretrainSettings(
        frontend=start.built_in.frontend, encoder=start.built_in.spec, epochs=mining.epochs,
        # Smoothed labels bound a word's log-odds, and a threshold has to stand above all else.
        learning_rate=mining.learning_rate, label_smoothing=0,
    )  # fmt: skip
    labels = torch.from_numpy(start.vocabulary.encode([one.word for one in lesson.utterances]))
    hardest: list[Tensor] = []

    def train(log_mel: Tensor, _: Tensor) -> tuple[KwsEncoder, nn.Linear, Tensor, Tensor]:
        training = _Training(start, scenes, settings, mining, lesson.seed)
        training.run(log_mel, labels, lesson)
        hardest.append(training.windows(SHIPPED))
        return training.encoder, training.head, training.mean, training.std

    made = trained_base(
        lesson, start.vocabulary, settings, train, block_clips=BLOCK_CLIPS, score=base_accuracy,
        figure="accuracy", start=start,
    )  # fmt: skip
    figures = {"mined_hours": mining.hours, "mined_accents": " ".join(mining.accents)}
    return dataclasses.replace(
        made,
        hard_negatives=hardest[0].numpy(),
        provenance={**made.provenance, **figures},
    )


def synthetic_listener(
    vocabulary: Vocabulary,
    mining: HardNegatives,
    *,
    seed: int,
    cache_dir: Path,
    lexicon: Mapping[str, str] | None = None,
    settings: PretrainSettings | None = None,
    provenance: tuple[Provenance | None, Provenance | None] = (None, None),
    progress: Progress | None = None,
) -> Base:
    """Makes `synthetic_base` and trains it against hard negatives, or finds both in the cache.

    Args:
      vocabulary: its words.
      mining: sizes; speakers have the accent of those who teach the base.
      seed: of speakers and weights.
      cache_dir: folder of bases.
      lexicon: words as ARPAbet strings.
      settings: of `synthetic_base`.
      provenance: what the first base's file says of how it was made, and the second's.
      progress: called with a stage, how much of it is done, and how much there is.

    Raises:
      ValueError: if a word has no pronunciation.
    """
    mining = dataclasses.replace(mining, accents=(PRETRAINING_ACCENT,))
    start = synthetic_base(
        vocabulary, seed=seed, cache_dir=cache_dir, lexicon=lexicon, settings=settings,
        provenance=provenance[0], progress=progress,
    )  # fmt: skip

    def further(lesson: Lesson) -> Base:
        spec = start.built_in.frontend
        scenes = scene_features(spec, mining, vocabulary.targets, lexicon or {}, progress)
        return against_hard_negatives(start, lesson, scenes, mining)

    return synthetic(
        public_and_validation(vocabulary, seed=seed, lexicon=lexicon),
        (VERSION, start.sha256), mining, cache_dir, further, score=base_accuracy,
        figure="accuracy", provenance=provenance[1], progress=progress,
    )  # fmt: skip


class _Training:
    """Encoder and head at work, and the places in the scenes that they take most for a word."""

    def __init__(
        self,
        start: Base,
        scenes: Tensor,
        settings: PretrainSettings,
        mining: HardNegatives,
        seed: int,
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
        scores = []
        with torch.inference_mode():
            for block in torch.split(self._scenes, _SCENES_AT_ONCE):
                logits = self._answers(self._outputs(block))
                targets, others = logits.split(
                    [logits.shape[2] - NUM_NEGATIVE_LABELS, NUM_NEGATIVE_LABELS], dim=2
                )
                scores.append(targets.amax(-1) - others.logsumexp(-1))
        found = torch.cat(scores)
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

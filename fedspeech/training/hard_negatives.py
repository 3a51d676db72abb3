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

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.corpora.negative_scenes import SHARES, negative_scenes
from fedspeech.corpora.synthetic import PRETRAINING_ACCENT
from fedspeech.models.base import Base, Provenance
from fedspeech.models.kws import KwsEncoder
from fedspeech.training.base_training import (
    Lesson,
    Progress,
    synthetic,
    trained_base,
)
from fedspeech.training.mining import SHIPPED
from fedspeech.training.pretrain import (
    BLOCK_CLIPS,
    PretrainSettings,
    base_accuracy,
    public_and_validation,
    synthetic_base,
)
from fedspeech.training.stream_training import HardNegatives, StreamTraining

VERSION = 1
"""Raised by whoever changes what the same settings lead to; cached bases are then made again."""

MINED_SEED = 2_000


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
        training = StreamTraining(start, scenes, settings, mining)
        training.run(log_mel, labels, lesson)
        hardest.append(training.windows(SHIPPED))
        return training.encoder, training.head, training.mean, training.std

    made = trained_base(
        lesson, start.vocabulary, settings, train, block_clips=BLOCK_CLIPS, score=base_accuracy,
        figure="accuracy", start=start,
    )  # fmt: skip
    figures: dict[str, str | float] = {
        "mined_hours": mining.hours, "mined_accents": " ".join(mining.accents)
    }  # fmt: skip
    return dataclasses.replace(
        made, hard_negatives=hardest[0].numpy(), provenance={**made.provenance, **figures}
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

"""Makes a base for words: trains encoder and head on public speakers, then freezes them.

A listening phone has always heard something, so training listens too: clips follow each other
without a reset, `CLIPS_PER_STREAM` of them after one of `left_context.sounds_before`. What comes
before a clip is digital silence, noise or another word, and only the clip's own windows are scored.

    base = pretrain(Lesson(corpus=corpus, utterances=public, seed=1), vocabulary)
    base = synthetic_base(Vocabulary(("yes", "no", "stop")), seed=1, cache_dir=Path("cache"))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from fedspeech.audio.augment import Augmentation, augment
from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Corpus, Utterance, Vocabulary
from fedspeech.corpora.left_context import LEFT_CONTEXT_VERSION, sounds_before
from fedspeech.corpora.synthetic import SyntheticSpec, pretraining_spec
from fedspeech.limits import Count, Decay, NotNegative, Positive, check_limits
from fedspeech.models.base import Base, Provenance
from fedspeech.models.encoder_spec import ENCODERS, EncoderSpec, front_end_of
from fedspeech.models.kws import KwsEncoder, pooled_logits
from fedspeech.training.base_training import (
    Lesson,
    Progress,
    blocks,
    optimize,
    synthetic,
    trained_base,
)

VERSION = 2
"""Raised by whoever changes what the same settings lead to; cached bases are then made again."""

BLOCK_CLIPS = 192

CLIPS_PER_STREAM = 4
"""Each costs a quarter of the left context that a stream begins with."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """How a base is trained.

    Attributes:
      label_smoothing: share of the target spread over all labels.
      word_loss: weight of telling all words apart, unknown ones too, by a second head that is
        thrown away: features that know more words than the vocabulary serve more phones.

    Raises:
      ValueError: if a number is out of its range.
    """

    frontend: FrontendSpec = dataclasses.field(default_factory=FrontendSpec)
    encoder: EncoderSpec = dataclasses.field(default_factory=EncoderSpec)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    epochs: Count = 16
    batch_clips: Annotated[int, Ge(2)] = 128
    learning_rate: Positive = 4e-3
    weight_decay: NotNegative = 0.02
    label_smoothing: Decay = 0.1
    word_loss: NotNegative = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_limits(self)

    @classmethod
    def of(cls, encoder: str) -> PretrainSettings:
        """The recipe for an encoder of `kws.ENCODERS`.

        Raises:
          ValueError: if there is none of that name.
        """
        if encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}")
        return cls(encoder=ENCODERS[encoder], frontend=front_end_of(encoder))


def pretrain(
    lesson: Lesson, vocabulary: Vocabulary, settings: PretrainSettings | None = None
) -> Base:
    """Trains a base for a vocabulary; the same arguments give the same bytes on one machine.

    Raises:
      ValueError: if a speaker is in two groups, or a label of the vocabulary has no clip.
    """
    settings = PretrainSettings() if settings is None else settings
    labels = torch.from_numpy(vocabulary.encode([clip.word for clip in lesson.utterances]))
    absent = sorted({*range(len(vocabulary.labels))} - {*labels.tolist()})
    if absent:
        raise ValueError(f"no clip to learn {[vocabulary.labels[label] for label in absent]} from")
    return trained_base(
        lesson, vocabulary, settings,
        lambda log_mel, _: _train(log_mel, labels, lesson, settings),
        block_clips=BLOCK_CLIPS, score=base_accuracy, figure="accuracy",
    )  # fmt: skip


def synthetic_base(
    vocabulary: Vocabulary,
    *,
    seed: int,
    cache_dir: Path,
    num_speakers: int = 150,
    lexicon: Mapping[str, str] | None = None,
    settings: PretrainSettings | None = None,
    provenance: Provenance | None = None,
    progress: Progress | None = None,
) -> Base:
    """Makes a base of synthetic speakers with a plain accent, or finds it in the cache.

    The training group has 60 clips of each speaker. A lexicon adds words as ARPAbet strings.

    Raises:
      ValueError: if a word has no pronunciation.
    """
    settings = PretrainSettings() if settings is None else settings
    return synthetic(
        public_and_validation(vocabulary, seed=seed, num_speakers=num_speakers, lexicon=lexicon),
        (VERSION, LEFT_CONTEXT_VERSION),
        settings,
        cache_dir,
        lambda lesson: pretrain(lesson, vocabulary, settings),
        score=base_accuracy,
        figure="accuracy",
        provenance=provenance,
        progress=progress,
    )


def public_and_validation(
    vocabulary: Vocabulary,
    *,
    seed: int,
    num_speakers: int = 150,
    lexicon: Mapping[str, str] | None = None,
) -> SyntheticSpec:
    """The synthetic speakers of a base.

    Half of those who validate speak with the accent that the base hears, half with another.

    Raises:
      ValueError: if a word has no pronunciation.
    """
    spec = pretraining_spec(
        vocabulary.targets,
        seed=seed,
        num_public=num_speakers,
        num_validation=max(10, num_speakers // 4),
        lexicon=lexicon,
    )
    public, validation = spec.groups
    accents = dict(validation.accents)
    accents["plain"] = sum(share for accent, share in accents.items() if accent != "plain")
    validation = dataclasses.replace(validation, accents=tuple(accents.items()))
    return dataclasses.replace(spec, groups=(public, validation))


def base_accuracy(base: Base, corpus: Corpus, utterances: Sequence[Utterance]) -> float:
    """Returns the share of clips that the base's own head labels correctly."""
    correct = 0
    for block in blocks(utterances, BLOCK_CLIPS):
        logits = base.logits(base.encoder_output(base.heard(corpus, block)))
        labels = torch.from_numpy(base.vocabulary.encode([clip.word for clip in block]))
        correct += int((logits.argmax(dim=1) == labels).sum())
    return correct / len(utterances)


def _train(
    log_mel: Tensor, labels: Tensor, lesson: Lesson, settings: PretrainSettings
) -> tuple[KwsEncoder, nn.Linear, Tensor, Tensor]:
    """Runs the optimizer; `log_mel` is not standardized."""
    mean, std = log_mel.mean(dim=(0, 1)), log_mel.std(dim=(0, 1))
    words = sorted({clip.word for clip in lesson.utterances})
    word_of = torch.tensor([words.index(clip.word) for clip in lesson.utterances])
    contexts = left_contexts(settings)
    encoder = KwsEncoder(settings.encoder).train()
    head = nn.Linear(settings.encoder.features, int(labels.max()) + 1)
    word_head = nn.Linear(settings.encoder.features, len(words))
    heads = ((head, labels, 1.0), (word_head, word_of, settings.word_loss))

    def batches(size: int, rng: np.random.Generator) -> Sequence[Tensor]:
        order = torch.from_numpy(rng.permutation(len(labels)))
        return torch.split(order[: len(order) // size * size], size)

    def losses(batch: Tensor, generator: torch.Generator) -> list[Tensor]:
        streams = clip_streams(log_mel[batch], contexts, settings, generator)
        output = clip_windows(encoder((streams - mean) / std), len(batch), settings)
        return [
            weight
            * nn.functional.cross_entropy(
                pooled_logits(output, one.weight, one.bias),
                right[batch],
                label_smoothing=settings.label_smoothing,
            )
            for one, right, weight in heads
        ]

    optimize((encoder, head, word_head), settings, lesson, batches, losses, warm_up=0.3)
    return encoder, head, mean, std


def left_contexts(settings: PretrainSettings) -> Tensor:
    """Features of what may be heard before a stream's first clip, (sounds, frames, mels)."""
    spec = settings.frontend
    samples = (settings.encoder.context_frames - 1) * spec.hop_samples + spec.window_samples
    with torch.no_grad():
        features: Tensor = LogMel(spec)(torch.tensor(sounds_before(samples)))
    return features


def clip_streams(
    clips: Tensor, contexts: Tensor, settings: PretrainSettings, generator: torch.Generator
) -> Tensor:
    """Varies clips (n, frames, mels) and lays them one after another, a few to a stream.

    Every clip begins at a multiple of the encoder's stride, after frames of digital silence where
    its predecessor ends before one.

    Returns:
      Shape (streams, context and slots, mels).
    """
    floor, stride = settings.frontend.floor, settings.encoder.stride
    drawn = torch.randint(len(contexts), (_streams_of(len(clips)),), generator=generator)
    before, varied = (
        augment(features, floor, settings.augmentation, generator)
        for features in (contexts[drawn], clips)
    )
    slots = nn.functional.pad(varied, (0, 0, 0, -clips.shape[1] % stride), value=math.log(floor))
    return torch.cat([before, slots.reshape(len(drawn), -1, slots.shape[2])], dim=1)


def clip_windows(output: Tensor, num_clips: int, settings: PretrainSettings) -> Tensor:
    """Picks each clip's windows, (n, w, f), out of those of the streams."""
    context = settings.encoder.num_windows(settings.encoder.context_frames)
    return output[:, context:].reshape(num_clips, -1, output.shape[2])


def _streams_of(num_clips: int) -> int:
    """Streams of equal length for a batch: as few as divide it."""
    return num_clips // math.gcd(num_clips, CLIPS_PER_STREAM)

"""Makes a base for sentences, as `pretrain` makes one for words.

base = synthetic_sentence_base(seed=0, cache_dir=Path("cache"))
base = pretrain_sentences(Lesson(corpus=corpus, utterances=sentences, seed=1), start=base)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from fedspeech.audio.augment import CepstralVariation, vary_cepstra
from fedspeech.audio.spec import SPHINX_MFCC, FrontendSpec
from fedspeech.corpora.corpus import Alphabet, Corpus, Utterance
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticSpec
from fedspeech.limits import Count, NotNegative, Positive, check_limits
from fedspeech.models.asr import FLUSH_WINDOWS, SENTENCE_ENCODER, SentenceEncoder, window_logits
from fedspeech.models.base import Base, Provenance
from fedspeech.models.decoding import greedy
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder
from fedspeech.synthesis.grammar import Grammar
from fedspeech.synthesis.lexicon import sentence_pronunciation
from fedspeech.synthesis.names import NAMES, PEOPLE, PLACES, pretraining_names
from fedspeech.synthesis.phonemes import SYMBOLS
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.base_training import (
    Lesson,
    Progress,
    blocks,
    cached_base,
    optimize,
    synthetic,
    trained_base,
)
from fedspeech.training.objectives import ctc

VERSION = 1
"""Raised by whoever changes what the same settings lead to; cached bases are then made again."""

BLOCK_CLIPS = 64
PAD_FRAMES = 32


@dataclass(frozen=True, kw_only=True)
class SentenceSettings:
    """How a base for sentences is trained.

    Attributes:
      frontend: features; its clip length is the longest sentence.
      batch_clips: sentences per step; those of similar length share a step.
      phone_loss: weight of answering the dictionary's phonemes too, where they are known, by a
        second head that is thrown away: features that tell sounds apart serve more accents.

    Raises:
      ValueError: if a number is out of its range.
    """

    frontend: FrontendSpec = SPHINX_MFCC
    encoder: EncoderSpec = SENTENCE_ENCODER
    variation: CepstralVariation = dataclasses.field(default_factory=CepstralVariation)
    epochs: Count = 20
    batch_clips: Annotated[int, Ge(2)] = 24
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.02
    phone_loss: NotNegative = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_limits(self)


def pretrain_sentences(
    lesson: Lesson,
    settings: SentenceSettings | None = None,
    *,
    lexicon: Mapping[str, str] | None = None,
    start: Base | None = None,
) -> Base:
    """Trains a base on transcribed sentences; the same arguments give the same bytes.

    Args:
      lesson: sentences.
      settings: how; None takes the defaults.
      lexicon: words beside the built-in ones to ARPAbet strings, if every word that is said has a
        pronunciation; None: the dictionary's phones are not known.
      start: a base to go on from, encoder, head and constants; None starts afresh.

    Raises:
      ValueError: if a speaker is in two groups, or a transcript leaves the alphabet.
    """
    settings = SentenceSettings() if settings is None else settings
    lesson = dataclasses.replace(lesson, provenance={"task": "asr", **(lesson.provenance or {})})
    transcripts, alphabet = [clip.word for clip in lesson.utterances], Alphabet()
    labels = torch.from_numpy(alphabet.encode(transcripts))

    def train(features: Tensor, frames: Tensor) -> tuple[KwsEncoder, nn.Linear, Tensor, Tensor]:
        mean, std = _constants(features, frames, start)
        encoder = SentenceEncoder(settings.encoder)
        head = nn.Linear(settings.encoder.features, len(alphabet.labels))
        if start is not None:
            encoder.load_state_dict(start.built_in.network.state_dict())
            head.weight.data = torch.from_numpy(start.head_weight.copy())
            head.bias.data = torch.from_numpy(start.head_bias.copy())
        there = torch.arange(features.shape[1]) < frames[:, None]
        standard = (features - mean) / std * there[:, :, None]
        heads = [(head, labels, 1.0)]
        if lexicon is not None and settings.phone_loss:
            phone_head = nn.Linear(settings.encoder.features, len(SYMBOLS) + 1)
            heads.append((phone_head, _phone_rows(transcripts, lexicon), settings.phone_loss))
        _train(encoder, heads, standard, frames, lesson, settings)
        return encoder, head, mean, std

    return trained_base(
        lesson, alphabet, settings, train, block_clips=BLOCK_CLIPS, score=sentences_right,
        figure="sentences_right", start=start,
    )  # fmt: skip


def tuning(base: Base) -> SentenceSettings:
    """How a base goes on learning from public speakers."""
    return SentenceSettings(
        frontend=base.built_in.frontend,
        encoder=base.built_in.spec,
        epochs=30,
        learning_rate=1.5e-3,
    )


def tuned_base(
    base: Base, corpus: Corpus, utterances: Sequence[Utterance], *, seed: int, cache_dir: Path
) -> Base:
    """Goes on teaching a base with public speakers, or finds it in the cache."""
    settings = tuning(base)
    prints = [corpus.fingerprint(clip) for clip in utterances]
    made_from: tuple[str | int, ...] = (
        base.sha256,
        repr(settings),
        seed,
        corpus.name,
        corpus.license,
        *prints,
    )
    return cached_base(
        cache_dir,
        ("tuned", VERSION, torch.__version__, *made_from),
        lambda: pretrain_sentences(
            Lesson(corpus=corpus, utterances=utterances, seed=seed), settings, start=base
        ),
    )


def public_grammar() -> Grammar:
    """What public speakers say: everything, but of the names only those that are heard."""
    return Grammar(
        people=pretraining_names(PEOPLE),
        places=pretraining_names(PLACES),
        shares=(0.2, 0.25, 0.3, 0.25),
    )


def synthetic_sentence_base(
    *,
    seed: int,
    cache_dir: Path,
    num_speakers: int = 500,
    sentences_per_speaker: int = 16,
    settings: SentenceSettings | None = None,
    provenance: Provenance | None = None,
    progress: Progress | None = None,
) -> Base:
    """Makes a base of synthetic speakers with a plain accent, or finds it in the cache."""
    settings = SentenceSettings() if settings is None else settings
    public = SpeakerGroup(
        name="public",
        num_speakers=num_speakers,
        words=(),
        utterances_per_word=0,
        grammar=public_grammar(),
        num_sentences=sentences_per_speaker,
    )
    # Half of those who validate speak with the accent that the base hears, half with another.
    accents = tuple((name, len(ACCENTS) - 1.0 if name == "plain" else 1.0) for name in ACCENTS)
    validation = dataclasses.replace(
        public,
        name="validation",
        num_speakers=max(10, num_speakers // 10),
        num_sentences=6,
        accents=accents,
    )
    spec = SyntheticSpec(
        seed=seed,
        groups=(public, validation),
        lexicon=tuple(NAMES.items()),
        frontend=settings.frontend,
    )

    return synthetic(
        spec,
        ("sentences", VERSION),
        settings,
        cache_dir,
        lambda lesson: pretrain_sentences(lesson, settings, lexicon=NAMES),
        score=sentences_right,
        figure="sentences_right",
        provenance=provenance,
        progress=progress,
    )


def sentences_right(base: Base, corpus: Corpus, utterances: Sequence[Utterance]) -> float:
    """Returns the share of sentences that the base's own head transcribes without an error."""
    alphabet = Alphabet(base.vocabulary.labels[1:])
    right = 0
    for block in blocks(utterances, BLOCK_CLIPS):
        output = base.encoder_output(corpus.waveforms(block))
        frames = (output != 0).any(dim=2).sum(dim=1)
        found = greedy(base.logits(output).numpy(), frames.numpy(), alphabet)
        right += sum(text == clip.word for text, clip in zip(found, block, strict=True))
    return right / len(utterances)


def _constants(features: Tensor, frames: Tensor, start: Base | None) -> tuple[Tensor, Tensor]:
    """Mean and deviation of recorded frames, shape (m,) each; those of `start` if there is one."""
    # What goes on learning has weights for features standardized by these, so new ones would not
    # fit.
    if start is not None:
        constants = start.built_in
        return torch.from_numpy(constants.feature_mean), torch.from_numpy(constants.feature_std)
    recorded = features[torch.arange(features.shape[1]) < frames[:, None]]
    return recorded.mean(dim=0), recorded.std(dim=0)


def _phone_rows(transcripts: Sequence[str], lexicon: Mapping[str, str]) -> Tensor:
    """Numbers of the dictionary's phones from 1, shape (n, most phones), -1 after the last."""
    rows = [
        # 0 is the blank of CTC.
        [SYMBOLS.index(phone.rstrip("012")) + 1 for word in words for phone in word]
        for words in (sentence_pronunciation(text, lexicon) for text in transcripts)
    ]
    labels = torch.full((len(rows), max(map(len, rows))), -1)
    for row, numbers in zip(labels, rows, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    return labels


def _train(
    encoder: SentenceEncoder,
    heads: Sequence[tuple[nn.Linear, Tensor, float]],
    features: Tensor,
    frames: Tensor,
    lesson: Lesson,
    settings: SentenceSettings,
) -> None:
    """Runs the optimizer on standardized features; a head stands beside its labels and weight."""
    encoder.train().requires_grad_(True)
    stride = settings.encoder.stride

    def losses(batch: Tensor, generator: torch.Generator) -> list[Tensor]:
        longest = int(frames[batch].max())
        varied, lasting = vary_cepstra(
            features[batch, :longest], frames[batch], settings.variation, generator
        )
        # Few different lengths: convolutions keep a plan for every shape they have met.
        padded = -(-int(lasting.max()) // PAD_FRAMES) * PAD_FRAMES
        varied = nn.functional.pad(varied, (0, 0, 0, max(0, padded - varied.shape[1])))
        varied = varied[:, :padded]
        output = encoder(nn.functional.pad(varied, (0, 0, 0, FLUSH_WINDOWS * stride)))
        answered = -(-lasting // stride) + FLUSH_WINDOWS
        return [
            weight
            * ctc(window_logits(output, head.weight, head.bias), answered, labels[batch]).mean()
            for head, labels, weight in heads
        ]

    modules = (encoder, *(head for head, _, _ in heads))
    batches = functools.partial(_batches, frames)
    optimize(modules, settings, lesson, batches, losses, warm_up=0.2)


def _batches(frames: Tensor, size: int, rng: np.random.Generator) -> list[Tensor]:
    """One epoch's steps in random order; sentences of similar length share one."""
    order = rng.permutation(len(frames))
    # Sorted within pools and not over all, so that a sentence meets others in every epoch.
    pool = 16 * size
    batches = []
    for first in range(0, len(order), pool):
        part = order[first : first + pool]
        part = part[np.argsort(frames.numpy()[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part) - size + 1, size)]
    rng.shuffle(batches)
    return [torch.from_numpy(batch) for batch in batches]

"""Makes a base for sentences, as `pretrain` makes one for words.

base = synthetic_sentence_base(seed=0, cache_dir=Path("cache"))
base = pretrain_sentences(corpus, sentences, seed=1, start=base)     # public speakers, real
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedspeech.audio.augment import CepstralVariation, vary_cepstra
from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import SPHINX_MFCC, FrontendSpec
from fedspeech.corpora.corpus import Alphabet, Corpus, Utterance
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.models.asr import FLUSH_WINDOWS, SENTENCE_ENCODER, SentenceEncoder, window_logits
from fedspeech.models.base import Base, Provenance
from fedspeech.models.decoding import greedy
from fedspeech.models.kws import EncoderSpec
from fedspeech.seeds import stream
from fedspeech.synthesis.grammar import Grammar
from fedspeech.synthesis.lexicon import sentence_pronunciation
from fedspeech.synthesis.names import NAMES, PEOPLE, PLACES, pretraining_names
from fedspeech.synthesis.phonemes import SYMBOLS
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.objectives import ctc
from fedspeech.training.pretrain import (
    Progress,
    by_accent,
    cached_base,
    check_apart,
    check_optimizer,
    record,
    reproducible,
    speakers_of,
    synthetic_recipe,
)

VERSION = 1
"""Raised by whoever changes what the same settings lead to; cached bases are then made again."""

BLOCK_CLIPS = 64
PAD_FRAMES = 32


@dataclass(frozen=True, kw_only=True)
class SentenceSettings:
    """How a base for sentences is trained.

    Attributes:
      frontend: features; its clip length is the longest sentence.
      encoder: layout.
      variation: how far training features are varied.
      epochs: passes over the training sentences.
      batch_clips: sentences per step; those of similar length share a step.
      learning_rate: peak of the one-cycle schedule.
      weight_decay: AdamW's.
      phone_loss: weight of answering the dictionary's phones too, where they are known, by a second
        head that is thrown away: features that tell sounds apart serve more accents.

    Raises:
      ValueError: if a number is out of its range.
    """

    frontend: FrontendSpec = SPHINX_MFCC
    encoder: EncoderSpec = SENTENCE_ENCODER
    variation: CepstralVariation = dataclasses.field(default_factory=CepstralVariation)
    epochs: int = 20
    batch_clips: int = 24
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    phone_loss: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_optimizer(
            self.epochs,
            self.batch_clips,
            self.learning_rate,
            weight_decay=self.weight_decay,
            phone_loss=self.phone_loss,
        )


def pretrain_sentences(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    *,
    seed: int,
    settings: SentenceSettings | None = None,
    lexicon: Mapping[str, str] | None = None,
    start: Base | None = None,
    validation_utterances: Sequence[Utterance] = (),
    forbidden_speakers: Collection[str] = (),
    provenance: Provenance | None = None,
    progress: Progress | None = None,
) -> Base:
    """Trains a base on transcribed sentences of public speakers.

    Args:
      corpus: where waveforms or features come from.
      utterances: of public speakers.
      seed: of initial weights, order and variation.
      settings: how; None takes the defaults.
      lexicon: words beside the built-in ones to ARPAbet strings, if every word that is said has a
        pronunciation; None: phones are not known.
      start: a base to go on from, encoder, head and constants; None starts afresh.
      validation_utterances: of other public speakers.
      forbidden_speakers: everybody who is, or may become, a phone.
      provenance: what to add to the record.
      progress: see `pretrain.pretrain`.

    Returns:
      The base; same arguments, same bytes on one machine.

    Raises:
      ValueError: if a speaker is in two groups, or a transcript leaves the alphabet.
    """
    settings = SentenceSettings() if settings is None else settings
    check_apart(
        training=speakers_of(utterances),
        validation=speakers_of(validation_utterances),
        phones=set(forbidden_speakers),
    )
    alphabet = Alphabet()
    labels = torch.from_numpy(alphabet.encode([utterance.word for utterance in utterances]))
    with reproducible(seed):
        features, frames = _features(corpus, utterances, settings.frontend, progress)
        mean, std = _constants(features, frames, start)
        encoder = SentenceEncoder(settings.encoder)
        head = nn.Linear(settings.encoder.features, len(alphabet.labels))
        if start is not None:
            encoder.load_state_dict(start.encoder.state_dict())
            head.weight.data = torch.from_numpy(start.head_weight.copy())
            head.bias.data = torch.from_numpy(start.head_bias.copy())
        there = torch.arange(features.shape[1]) < frames[:, None]
        standard = (features - mean) / std * there[:, :, None]
        heads = [(head, labels, 1.0)]
        if lexicon is not None and settings.phone_loss:
            phones = _phone_rows([utterance.word for utterance in utterances], lexicon)
            phone_head = nn.Linear(settings.encoder.features, len(SYMBOLS) + 1)
            heads.append((phone_head, phones, settings.phone_loss))
        _train(encoder, heads, standard, frames, seed, settings, progress)
        taught = speakers_of(utterances) | set(start.speakers if start else ())
        base = Base(
            encoder=encoder,
            frontend=settings.frontend,
            feature_mean=mean.numpy(),
            feature_std=std.numpy(),
            vocabulary=alphabet,
            head_weight=head.weight.detach().numpy(),
            head_bias=head.bias.detach().numpy(),
            provenance={},
            speakers=tuple(sorted(taught)),
        )
        figures = {"task": "asr", **record(corpus, utterances, seed, settings.epochs)}
        if start is not None:
            figures["started_from"] = start.sha256
        if validation_utterances:
            figures["validation_clips"] = len(validation_utterances)
            figures["validation_speakers"] = len(speakers_of(validation_utterances))
            figures["validation_sentences_right"] = round(
                sentences_right(base, corpus, validation_utterances), 4
            )
        return dataclasses.replace(base, provenance={**figures, **(provenance or {})})


def tuning(base: Base) -> SentenceSettings:
    """How a base goes on learning from public speakers."""
    return SentenceSettings(
        frontend=base.frontend, encoder=base.encoder.spec, epochs=30, learning_rate=1.5e-3
    )


def tuned_base(
    base: Base, corpus: Corpus, utterances: Sequence[Utterance], *, seed: int, cache_dir: Path
) -> Base:
    """Goes on teaching a base with public speakers, or finds it in the cache."""
    settings = tuning(base)
    prints = [corpus.fingerprint(clip) for clip in utterances]
    made_from = (base.sha256, repr(settings), *prints)
    return cached_base(
        cache_dir,
        ("tuned", VERSION, torch.__version__, *made_from),
        lambda: pretrain_sentences(corpus, utterances, seed=seed, settings=settings, start=base),
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
    """Makes a base of synthetic speakers with a plain accent, or finds it in the cache.

    Args:
      seed: of speakers and training.
      cache_dir: where bases are kept, by everything that their bytes depend on.
      num_speakers: of the training group.
      sentences_per_speaker: of each.
      settings: how; None takes the defaults.
      provenance: what to add to the record.
      progress: see `pretrain.pretrain`; not called if the cache has the base.

    Returns:
      The base. Its provenance holds the share of sentences that it gets right of other synthetic
      speakers, those of the accent it has heard apart from the others.
    """
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

    def make() -> Base:
        corpus = SyntheticCorpus(spec)
        training, plain, others = by_accent(corpus)
        base = pretrain_sentences(
            corpus,
            training,
            seed=seed,
            settings=settings,
            lexicon=NAMES,
            validation_utterances=plain,
            provenance=provenance,
            progress=progress,
        )
        share = round(sentences_right(base, corpus, others), 4)
        figures = {**base.provenance, "validation_sentences_right_other_accents": share}
        return dataclasses.replace(base, provenance=figures)

    recipe = ("sentences", VERSION, *synthetic_recipe(spec, settings, provenance))
    return cached_base(cache_dir, recipe, make)


def sentences_right(base: Base, corpus: Corpus, utterances: Sequence[Utterance]) -> float:
    """Returns the share of sentences that the base's own head transcribes without an error."""
    alphabet = Alphabet(base.vocabulary.labels[1:])
    right = 0
    for first in range(0, len(utterances), BLOCK_CLIPS):
        block = utterances[first : first + BLOCK_CLIPS]
        output = base.encoder_output(corpus.waveforms(block))
        windows = (output != 0).any(dim=2).sum(dim=1)
        found = greedy(base.logits(output).numpy(), windows.numpy(), alphabet)
        right += sum(text == clip.word for text, clip in zip(found, block, strict=True))
    return right / len(utterances)


def _constants(features: Tensor, frames: Tensor, start: Base | None) -> tuple[Tensor, Tensor]:
    """Mean and deviation of recorded frames, shape (m,) each; those of `start` if there is one."""
    if start is not None:
        return torch.from_numpy(start.feature_mean), torch.from_numpy(start.feature_std)
    recorded = features[torch.arange(features.shape[1]) < frames[:, None]]
    return recorded.mean(dim=0), recorded.std(dim=0)


def _phone_rows(transcripts: Sequence[str], lexicon: Mapping[str, str]) -> Tensor:
    """Numbers of the dictionary's phones from 1, shape (n, most phones), -1 after the last."""
    rows = [
        [SYMBOLS.index(phone.rstrip("012")) + 1 for word in words for phone in word]
        for words in (sentence_pronunciation(text, lexicon) for text in transcripts)
    ]
    labels = torch.full((len(rows), max(map(len, rows))), -1)
    for row, numbers in zip(labels, rows, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    return labels


def _features(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    spec: FrontendSpec,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Features of all sentences, (n, frames, m), and how many frames of each were recorded."""
    frontend = LogMel(spec)
    blocks, counts = [], []
    with torch.no_grad():
        for first in range(0, len(utterances), BLOCK_CLIPS):
            block = utterances[first : first + BLOCK_CLIPS]
            clips = torch.from_numpy(corpus.waveforms(block))
            blocks.append(frontend(clips) if clips.ndim == 2 else clips)
            counts.append(spec.recorded_frames(clips.numpy()))
            if progress is not None:
                progress("features", first + len(block), len(utterances))
    return torch.cat(blocks), torch.from_numpy(np.concatenate(counts))


def _train(
    encoder: SentenceEncoder,
    heads: Sequence[tuple[nn.Linear, Tensor, float]],
    features: Tensor,
    frames: Tensor,
    seed: int,
    settings: SentenceSettings,
    progress: Progress | None,
) -> None:
    """Runs the optimizer on standardized features; a head stands beside its labels and weight."""
    encoder.train().requires_grad_(True)
    parameters = [*encoder.parameters(), *(p for head, _, _ in heads for p in head.parameters())]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    num_clips, size = len(frames), min(settings.batch_clips, len(frames))
    steps = num_clips // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps, pct_start=0.2
    )
    generator = torch.Generator().manual_seed(int(stream(seed, "augment").integers(2**62)))
    order_rng = stream(seed, "order")
    stride = settings.encoder.stride
    flush = FLUSH_WINDOWS * stride
    for epoch in range(settings.epochs):
        for batch in _batches(frames, size, order_rng):
            longest = int(frames[batch].max())
            varied, lasting = vary_cepstra(
                features[batch, :longest], frames[batch], settings.variation, generator
            )
            # Few different lengths: convolutions keep a plan for every shape they have met.
            padded = -(-int(lasting.max()) // PAD_FRAMES) * PAD_FRAMES
            varied = nn.functional.pad(varied, (0, 0, 0, max(0, padded - varied.shape[1])))
            varied = varied[:, :padded]
            output = encoder(nn.functional.pad(varied, (0, 0, 0, flush)))
            windows = -(-lasting // stride) + FLUSH_WINDOWS
            losses = [
                weight
                * ctc(window_logits(output, head.weight, head.bias), windows, labels[batch]).mean()
                for head, labels, weight in heads
            ]
            optimizer.zero_grad()
            torch.autograd.backward(losses)
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
        if progress is not None:
            progress("training", epoch + 1, settings.epochs)


def _batches(frames: Tensor, size: int, rng: np.random.Generator) -> list[Tensor]:
    """One epoch's steps in random order; sentences of similar length share one."""
    order = rng.permutation(len(frames))
    pool = 16 * size
    batches = []
    for first in range(0, len(order), pool):
        part = order[first : first + pool]
        part = part[np.argsort(frames.numpy()[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part) - size + 1, size)]
    rng.shuffle(batches)
    return [torch.from_numpy(batch) for batch in batches]

"""Makes a base: trains encoder and head on public speakers, then freezes them.

Only public speakers are heard here. Their recordings alone give the weights and the constants that
standardize the features; a speaker who is also a phone, or who also validates, is refused.

A listening phone has always heard something, so training listens too: clips follow each other
without a reset, `CLIPS_PER_STREAM` of them after one of `left_context.sounds_before`. What comes
before a clip is digital silence, noise or another word, and only the clip's own windows are scored.

    base = pretrain(corpus, training, vocabulary, validation_utterances=validation, seed=1)
    base = synthetic_base(Vocabulary(("yes", "no", "stop")), seed=1, cache_dir=Path("cache"))
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.audio.augment import Augmentation, augment
from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Corpus, Utterance, Vocabulary
from fedspeech.corpora.left_context import LEFT_CONTEXT_VERSION, sounds_before
from fedspeech.corpora.synthetic import SyntheticCorpus, SyntheticSpec, pretraining_spec
from fedspeech.models.base import Base, Provenance
from fedspeech.models.kws import EncoderSpec, KwsEncoder, pooled_logits
from fedspeech.seeds import canonical, stream
from fedspeech.synthesis.formants import SYNTHESISER_VERSION

VERSION = 2
"""Raised by whoever changes what the same settings lead to; cached bases are then made again."""

BLOCK_CLIPS = 192

CLIPS_PER_STREAM = 4
"""Each costs a quarter of the left context that a stream begins with."""

Progress = Callable[[str, int, int], None]
"""Called with a stage ("features" or "training"), how much of it is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """How a base is trained.

    Attributes:
      frontend: features.
      encoder: layout.
      augmentation: how far training features are varied.
      epochs: passes over the training clips.
      batch_clips: clips per step.
      learning_rate: peak of the one-cycle schedule.
      weight_decay: AdamW's.
      label_smoothing: share of the target spread over all labels.
      word_loss: weight of telling all words apart, unknown ones too, by a second head that is
        thrown away: features that know more words than the vocabulary serve more phones.

    Raises:
      ValueError: if a number is out of its range.
    """

    frontend: FrontendSpec = dataclasses.field(default_factory=FrontendSpec)
    encoder: EncoderSpec = dataclasses.field(default_factory=EncoderSpec)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    epochs: int = 16
    batch_clips: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    word_loss: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        check_optimizer(
            self.epochs,
            self.batch_clips,
            self.learning_rate,
            weight_decay=self.weight_decay,
            word_loss=self.word_loss,
        )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")


def pretrain(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    vocabulary: Vocabulary,
    *,
    seed: int,
    settings: PretrainSettings | None = None,
    validation_utterances: Sequence[Utterance] = (),
    forbidden_speakers: Collection[str] = (),
    provenance: Provenance | None = None,
    progress: Progress | None = None,
) -> Base:
    """Trains a base.

    Args:
      corpus: where the waveforms come from.
      utterances: of public speakers; targets, other words and silence.
      vocabulary: labels of the head.
      seed: of initial weights, order and augmentation.
      settings: how; None takes the defaults.
      validation_utterances: of other public speakers; their accuracy goes into the provenance.
      forbidden_speakers: everybody who is, or may become, a phone.
      provenance: what to add to the record: the command, for instance.
      progress: called after every block of clips and every epoch.

    Returns:
      The base; same arguments, same bytes on one machine.

    Raises:
      ValueError: if a speaker is in two groups, or a label of the vocabulary has no clip.
    """
    settings = PretrainSettings() if settings is None else settings
    check_apart(
        training=speakers_of(utterances),
        validation=speakers_of(validation_utterances),
        phones=set(forbidden_speakers),
    )
    labels = vocabulary.encode([utterance.word for utterance in utterances])
    absent = sorted({*range(len(vocabulary.labels))} - {*labels.tolist()})
    if absent:
        raise ValueError(f"no clip to learn {[vocabulary.labels[label] for label in absent]} from")

    with reproducible(seed):
        log_mel = _log_mel(corpus, utterances, settings.frontend, progress)
        mean = log_mel.mean(dim=(0, 1))
        std = log_mel.std(dim=(0, 1))
        encoder, head = _train(log_mel, labels, utterances, mean, std, seed, settings, progress)
        base = Base(
            encoder=encoder,
            frontend=settings.frontend,
            feature_mean=mean.numpy(),
            feature_std=std.numpy(),
            vocabulary=vocabulary,
            head_weight=head.weight.detach().numpy(),
            head_bias=head.bias.detach().numpy(),
            provenance={},
            speakers=tuple(sorted(speakers_of(utterances))),
        )
        figures = record(corpus, utterances, seed, settings.epochs)
        if validation_utterances:
            figures["validation_clips"] = len(validation_utterances)
            figures["validation_speakers"] = len(speakers_of(validation_utterances))
            figures["validation_accuracy"] = round(
                base_accuracy(base, corpus, validation_utterances), 4
            )
        return dataclasses.replace(base, provenance={**figures, **(provenance or {})})


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

    Args:
      vocabulary: any words that have a pronunciation.
      seed: of speakers and training.
      cache_dir: where bases are kept, by everything that their bytes depend on.
      num_speakers: of the training group; 60 clips each.
      lexicon: further words to ARPAbet strings.
      settings: how; None takes the defaults.
      provenance: what to add to the record.
      progress: see `pretrain`; not called if the cache has the base.

    Returns:
      The base. Its provenance holds its accuracy on other synthetic speakers, those of the accent
      it has heard apart from the others.

    Raises:
      ValueError: if a word has no pronunciation.
    """
    settings = PretrainSettings() if settings is None else settings
    spec = pretraining_spec(
        vocabulary.targets,
        seed=seed,
        num_public=num_speakers,
        num_validation=max(10, num_speakers // 4),
        lexicon=lexicon,
    )
    public, validation = spec.groups
    # Half of those who validate speak with the accent that the base hears, half with another.
    others = sum(share for accent, share in validation.accents if accent != "plain")
    accents = {**dict(validation.accents), "plain": others}
    validation = dataclasses.replace(validation, accents=tuple(accents.items()))
    spec = dataclasses.replace(spec, groups=(public, validation))

    def make() -> Base:
        corpus = SyntheticCorpus(spec)
        training, heard, unheard = by_accent(corpus)
        base = pretrain(
            corpus,
            training,
            vocabulary,
            seed=seed,
            settings=settings,
            validation_utterances=heard,
            provenance=provenance,
            progress=progress,
        )
        accuracy = round(base_accuracy(base, corpus, unheard), 4)
        figures = {**base.provenance, "validation_accuracy_other_accents": accuracy}
        return dataclasses.replace(base, provenance=figures)

    recipe = (VERSION, LEFT_CONTEXT_VERSION, *synthetic_recipe(spec, settings, provenance))
    return cached_base(cache_dir, recipe, make)


def base_accuracy(base: Base, corpus: Corpus, utterances: Sequence[Utterance]) -> float:
    """Returns the share of clips that the base's own head labels correctly."""
    correct = 0
    for start in range(0, len(utterances), BLOCK_CLIPS):
        block = utterances[start : start + BLOCK_CLIPS]
        logits = base.logits(base.encoder_output(base.heard(corpus, block)))
        labels = torch.from_numpy(base.vocabulary.encode([clip.word for clip in block]))
        correct += int((logits.argmax(dim=1) == labels).sum())
    return correct / len(utterances)


def synthetic_recipe(
    spec: SyntheticSpec, settings: object, provenance: Provenance | None
) -> tuple[str | int, ...]:
    """What the bytes of a base depend on that the synthesizer taught, our own version excepted."""
    told = repr(sorted((provenance or {}).items()))
    return (SYNTHESISER_VERSION, torch.__version__, repr(spec), repr(settings), told)


def cached_base(cache_dir: Path, recipe: Sequence[str | int], make: Callable[[], Base]) -> Base:
    """Finds a base in the cache by everything that its bytes depend on, or makes and keeps it."""
    path = cache_dir / "bases" / f"{hashlib.sha256(canonical(*recipe)).hexdigest()}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError):  # a damaged file is made again
        return Base.load(path)
    base = make()
    base.save(path)
    return base


def by_accent(
    corpus: SyntheticCorpus,
) -> tuple[list[Utterance], list[Utterance], list[Utterance]]:
    """Clips of who teaches, of others with the plain accent that is taught, of the rest."""
    teachers = set(corpus.groups["public"])
    plain = {who for who, it in corpus.speakers.items() if it.segments["accent"] == "plain"}
    held_back = [clip for clip in corpus.utterances if clip.speaker_id not in teachers]
    return (
        [clip for clip in corpus.utterances if clip.speaker_id in teachers],
        [clip for clip in held_back if clip.speaker_id in plain],
        [clip for clip in held_back if clip.speaker_id not in plain],
    )


def record(
    corpus: Corpus, utterances: Sequence[Utterance], seed: int, epochs: int
) -> dict[str, str | int | float]:
    """What every base's provenance says of its training."""
    return {
        "seed": seed,
        "corpus": corpus.name,
        "license": corpus.license,
        "training_clips": len(utterances),
        "training_speakers": len(speakers_of(utterances)),
        "epochs": epochs,
    }


def check_optimizer(
    epochs: int, batch_clips: int, learning_rate: float, **not_negative: float
) -> None:
    """Checks ranges of settings that every pretraining has.

    Raises:
      ValueError: naming the setting and its value.
    """
    if epochs < 1 or batch_clips < 2:
        raise ValueError(f"expected epochs >= 1 and batch_clips >= 2, got {epochs}, {batch_clips}")
    if learning_rate <= 0 or min(not_negative.values()) < 0:
        values = ", ".join(map(str, (learning_rate, *not_negative.values())))
        raise ValueError(
            f"learning_rate must be positive, {' and '.join(not_negative)} not negative, "
            f"got {values}"
        )


def check_apart(**groups: Collection[str]) -> None:
    """Refuses speakers who are in two groups.

    Args:
      **groups: name of the group to its speakers' ids.

    Raises:
      ValueError: naming the two groups and how many speakers they share.
    """
    names = list(groups)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            shared = set(groups[one]) & set(groups[other])
            if shared:
                raise ValueError(
                    f"no speaker may be in two groups, {one} and {other} share {len(shared)}, "
                    f"for instance {min(shared)!r}"
                )


def _train(
    log_mel: Tensor,
    labels: NDArray[np.int64],
    utterances: Sequence[Utterance],
    mean: Tensor,
    std: Tensor,
    seed: int,
    settings: PretrainSettings,
    progress: Progress | None,
) -> tuple[KwsEncoder, nn.Linear]:
    """Runs the optimizer; `log_mel` is not standardized."""
    words = sorted({utterance.word for utterance in utterances})
    word_of = torch.tensor([words.index(utterance.word) for utterance in utterances])
    label_of = torch.from_numpy(labels)
    contexts = _contexts(settings)

    encoder = KwsEncoder(settings.encoder).train()
    head = nn.Linear(settings.encoder.features, int(labels.max()) + 1)
    word_head = nn.Linear(settings.encoder.features, len(words))
    parameters = [*encoder.parameters(), *head.parameters(), *word_head.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    num_clips = len(utterances)
    steps = max(1, num_clips // settings.batch_clips)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps
    )
    generator = torch.Generator().manual_seed(int(stream(seed, "augment").integers(2**62)))
    order_rng = stream(seed, "order")
    for epoch in range(settings.epochs):
        order = torch.from_numpy(order_rng.permutation(num_clips))
        # The few clips that fill no batch wait for another epoch's order.
        for batch in order[: steps * settings.batch_clips].chunk(steps):
            streams = _streams(log_mel[batch], contexts, settings, generator)
            output = _clip_windows(encoder((streams - mean) / std), len(batch), settings)
            loss = nn.functional.cross_entropy(
                pooled_logits(output, head.weight, head.bias),
                label_of[batch],
                label_smoothing=settings.label_smoothing,
            )
            loss = loss + settings.word_loss * nn.functional.cross_entropy(
                pooled_logits(output, word_head.weight, word_head.bias),
                word_of[batch],
                label_smoothing=settings.label_smoothing,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
        if progress is not None:
            progress("training", epoch + 1, settings.epochs)
    return encoder, head


def _contexts(settings: PretrainSettings) -> Tensor:
    """Features of what may be heard before a stream's first clip, (sounds, frames, mels)."""
    spec = settings.frontend
    samples = (settings.encoder.context_frames - 1) * spec.hop_samples + spec.window_samples
    with torch.no_grad():
        features: Tensor = LogMel(spec)(torch.tensor(sounds_before(samples)))
    return features


def _streams(
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


def _clip_windows(output: Tensor, num_clips: int, settings: PretrainSettings) -> Tensor:
    """Picks each clip's windows, (n, w, f), out of those of the streams."""
    context = settings.encoder.num_windows(settings.encoder.context_frames)
    return output[:, context:].reshape(num_clips, -1, output.shape[2])


def _streams_of(num_clips: int) -> int:
    """Streams of equal length for a batch: as few as divide it."""
    return num_clips // math.gcd(num_clips, CLIPS_PER_STREAM)


def _log_mel(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    spec: FrontendSpec,
    progress: Progress | None,
) -> Tensor:
    """Features of all clips, shape (n, frames, mels), not standardized."""
    frontend = LogMel(spec)
    blocks = []
    with torch.no_grad():
        for start in range(0, len(utterances), BLOCK_CLIPS):
            block = utterances[start : start + BLOCK_CLIPS]
            blocks.append(frontend(torch.from_numpy(corpus.waveforms(block))))
            if progress is not None:
                progress("features", start + len(block), len(utterances))
    return torch.cat(blocks)


def speakers_of(utterances: Sequence[Utterance]) -> set[str]:
    """Who speaks in them."""
    return {utterance.speaker_id for utterance in utterances}


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One thread and a seeded torch generator (initial weights); then both as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(seed, "weights").integers(2**62)))
            yield
    finally:
        torch.set_num_threads(threads)

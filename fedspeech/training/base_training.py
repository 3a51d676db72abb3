"""What making a base has in common for words and sentences: speakers, optimizer, record, cache.

Only public speakers are heard. Their recordings alone give the weights and the constants that
standardize the features; a speaker who is also a phone, or who also validates, is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Corpus, Labels, Utterance
from fedspeech.corpora.synthetic import SyntheticCorpus, SyntheticSpec
from fedspeech.models.base import Base, Provenance
from fedspeech.models.built_in import BuiltInEncoder
from fedspeech.models.kws import KwsEncoder
from fedspeech.seeds import canonical, stream
from fedspeech.synthesis.formants import SYNTHESISER_VERSION
from fedspeech.training.one_thread import one_thread

Progress = Callable[[str, int, int], None]
"""Called with a stage ("features" or "training"), how much of it is done, and how much there is."""

Score = Callable[[Base, Corpus, Sequence[Utterance]], float]
"""Share of clips that a base gets right."""


class Settings(Protocol):
    """Front end, and optimizer: AdamW on a one-cycle schedule that peaks at `learning_rate`."""

    @property
    def frontend(self) -> FrontendSpec: ...  # noqa: D102
    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def batch_clips(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a base is taught, on whom it is checked and who may not be heard.

    Attributes:
      corpus: where waveforms or features come from.
      utterances: of public speakers.
      validation: of other public speakers; what the base gets right of them is recorded.
      forbidden: everybody who is, or may become, a phone.
      seed: of initial weights, order and variation.
      provenance: what is added to the record.
      progress: called after every block of clips and every epoch.
    """

    corpus: Corpus
    utterances: Sequence[Utterance]
    validation: Sequence[Utterance] = ()
    forbidden: Collection[str] = ()
    seed: int
    provenance: Provenance | None = None
    progress: Progress | None = None


Train = Callable[[Tensor, Tensor], tuple[KwsEncoder, nn.Linear, Tensor, Tensor]]
"""From features (n, frames, m) and recorded frames (n,) to encoder, head, mean and std (m,)."""


def trained_base(
    lesson: Lesson,
    vocabulary: Labels,
    settings: Settings,
    train: Train,
    *,
    block_clips: int,
    score: Score,
    figure: str,
    start: Base | None = None,
) -> Base:
    """Trains a base and records how; `figure` names what `score` counts.

    Raises:
      ValueError: if a speaker is in two groups.
    """
    taught = _speakers_of(lesson.utterances)
    validating = _speakers_of(lesson.validation)
    check_apart(training=taught, validation=validating, phones=set(lesson.forbidden))
    with reproducible(lesson.seed):
        encoder, head, mean, std = train(*_features(lesson, settings.frontend, block_clips))
        base = Base(
            encoder=BuiltInEncoder(
                network=encoder,
                frontend=settings.frontend,
                feature_mean=mean.numpy(),
                feature_std=std.numpy(),
            ),
            vocabulary=vocabulary,
            head_weight=head.weight.detach().numpy(),
            head_bias=head.bias.detach().numpy(),
            provenance={},
            speakers=tuple(sorted(taught | set(start.speakers if start else ()))),
        )
        figures: dict[str, str | int | float] = {
            "seed": lesson.seed,
            "corpus": lesson.corpus.name,
            "license": lesson.corpus.license,
            "training_clips": len(lesson.utterances),
            "training_speakers": len(taught),
            "epochs": settings.epochs,
        }
        if start is not None:
            figures["started_from"] = start.sha256
        if lesson.validation:
            figures["validation_clips"] = len(lesson.validation)
            figures["validation_speakers"] = len(validating)
            right = score(base, lesson.corpus, lesson.validation)
            figures[f"validation_{figure}"] = round(right, 4)
        return dataclasses.replace(base, provenance={**figures, **(lesson.provenance or {})})


def check_apart(**groups: Collection[str]) -> None:
    """Refuses speakers who are in two groups, given by the groups' names.

    Raises:
      ValueError: naming the two groups and how many speakers they share.
    """
    for (one, of_one), (other, of_other) in itertools.combinations(groups.items(), 2):
        if shared := set(of_one) & set(of_other):
            raise ValueError(
                f"no speaker may be in two groups, {one} and {other} share {len(shared)}, "
                f"for instance {min(shared)!r}"
            )


def _speakers_of(utterances: Sequence[Utterance]) -> set[str]:
    return {utterance.speaker_id for utterance in utterances}


def blocks(utterances: Sequence[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    """Yields utterances in blocks of a fixed size, the last one shorter."""
    for first in range(0, len(utterances), size):
        yield utterances[first : first + size]


def _features(lesson: Lesson, spec: FrontendSpec, block_clips: int) -> tuple[Tensor, Tensor]:
    """Features that are not standardized, (n, frames, m), and recorded frames of each clip, (n,).

    A corpus holds waveforms, or the features of the base's own front end.
    """
    frontend = LogMel(spec)
    features, counts, done = [], [], 0
    with torch.no_grad():
        for block in blocks(lesson.utterances, block_clips):
            clips = torch.from_numpy(lesson.corpus.waveforms(block))
            features.append(frontend(clips) if clips.ndim == 2 else clips)
            counts.append(spec.recorded_frames(clips.numpy()))
            done += len(block)
            if lesson.progress is not None:
                lesson.progress("features", done, len(lesson.utterances))
    return torch.cat(features), torch.from_numpy(np.concatenate(counts))


def optimize(
    modules: Iterable[nn.Module],
    settings: Settings,
    lesson: Lesson,
    batches: Callable[[int, np.random.Generator], Iterable[Tensor]],
    losses: Callable[[Tensor, torch.Generator], Sequence[Tensor]],
    *,
    warm_up: float,
) -> None:
    """Trains modules in place.

    Args:
      modules: encoder and heads.
      settings: of the optimizer.
      lesson: how many clips there are, and the seed.
      batches: draws the batches of an epoch, indices of so many clips each; clips that fill no
        batch wait for another epoch.
      losses: of a batch, scalars that are added; the generator varies its features.
      warm_up: share of the steps in which the learning rate rises.
    """
    num_clips = len(lesson.utterances)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    size = min(settings.batch_clips, num_clips)
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=settings.epochs * (num_clips // size),
        pct_start=warm_up,
    )
    generator = torch.Generator().manual_seed(int(stream(lesson.seed, "augment").integers(2**62)))
    order = stream(lesson.seed, "order")
    for epoch in range(settings.epochs):
        for batch in batches(size, order):
            optimizer.zero_grad()
            torch.autograd.backward(losses(batch, generator))
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
        if lesson.progress is not None:
            lesson.progress("training", epoch + 1, settings.epochs)


def synthetic(
    spec: SyntheticSpec,
    recipe: Sequence[str | int],
    settings: object,
    cache_dir: Path,
    pretrain: Callable[[Lesson], Base],
    *,
    score: Score,
    figure: str,
    provenance: Provenance | None,
    progress: Progress | None,
) -> Base:
    """Makes a base of the synthesizer's public speakers, or finds it in the cache.

    Half of the group "validation" must have an accent that the group "public" does not have: the
    record states what the base gets right of each half.
    """

    def make() -> Base:
        corpus = SyntheticCorpus(spec)
        taught, plain, others = _by_accent(corpus)
        base = pretrain(
            Lesson(
                corpus=corpus, utterances=taught, validation=plain, seed=spec.seed,
                provenance=provenance, progress=progress,
            )
        )  # fmt: skip
        found = {f"validation_{figure}_other_accents": round(score(base, corpus, others), 4)}
        return dataclasses.replace(base, provenance={**base.provenance, **found})

    # The name of a base is the hash of its bytes, so the key holds whatever moves one of them:
    # another version of torch may round otherwise, and provenance stands in the file.
    told = repr(sorted((provenance or {}).items()))
    made_by = (SYNTHESISER_VERSION, torch.__version__, repr(spec), repr(settings), told)
    return cached_base(cache_dir, (*recipe, *made_by), make)


def cached_base(cache_dir: Path, recipe: Sequence[str | int], make: Callable[[], Base]) -> Base:
    """Finds a base in the cache by everything that its bytes depend on, or makes and keeps it."""
    path = cache_dir / "bases" / f"{hashlib.sha256(canonical(*recipe)).hexdigest()}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError):  # a damaged file is made again
        return Base.load(path)
    base = make()
    base.save(path)
    return base


def _by_accent(
    corpus: SyntheticCorpus,
) -> tuple[list[Utterance], list[Utterance], list[Utterance]]:
    """Clips of the public speakers, of others with the plain accent, of the rest."""
    public = set(corpus.groups["public"])
    plain = {who for who, it in corpus.speakers.items() if it.segments["accent"] == "plain"}
    others = [clip for clip in corpus.utterances if clip.speaker_id not in public]
    return (
        [clip for clip in corpus.utterances if clip.speaker_id in public],
        [clip for clip in others if clip.speaker_id in plain],
        [clip for clip in others if clip.speaker_id not in plain],
    )


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One thread and a seeded torch generator (initial weights); then both as they were."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, "weights").integers(2**62)))
        yield

"""A head for a task's words behind an encoder from elsewhere, fit on public speakers.

Recorded words of public speakers, and the synthesizer's beside them: it knows many more voices than
a few recordings do. None of these speakers is ever a phone, and none guards a threshold: the base
names them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Corpus, Utterance, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.partition import utterances_of
from fedspeech.corpora.records import NOBODY
from fedspeech.corpora.synthetic import (
    SpeakerGroup,
    SyntheticCorpus,
    SyntheticSpec,
    accent_shares,
    other_words,
)
from fedspeech.models.base import Base
from fedspeech.models.pooling import Pooling
from fedspeech.synthesis.lexicon import speakable
from fedspeech.training.encoder_cache import Progress, encoder_outputs
from fedspeech.training.heads import FittedHead, PublicFeatures, fit_head
from simulations.setup.speakers import SpeakerSplit

SYNTHETIC_SPEAKERS = 60
SYNTHETIC_TAKES = 2  # of each target word
SYNTHETIC_UNKNOWN, SYNTHETIC_SILENCE = 12, 4  # clips of each synthetic speaker
NEW_ACCENTS = 0.8  # share of synthetic speakers with another accent than the built-in base's


@dataclass(frozen=True, eq=False)
class HeadLesson:
    """What a head is fit on.

    Attributes:
      corpus: of the clips; None: there are none.
      clips: target words, other words and silence of public speakers.
      synthetic: speakers who are no people.
      vocabulary: target words.
      seed: of the folds of cross-validation.
    """

    corpus: Corpus | None
    clips: Sequence[Utterance]
    synthetic: Collection[str]
    vocabulary: Vocabulary
    seed: int

    @property
    def speakers(self) -> tuple[str, ...]:
        """Everybody who is heard."""
        return tuple(sorted({clip.speaker_id for clip in self.clips}))


def taught_head(
    base: Base,
    lesson: HeadLesson,
    cache: Path,
    provenance: Mapping[str, str | int | float],
    progress: Progress | None = None,
) -> Base:
    """The base with a head and a projection for other words, and figures on speakers left out.

    Raises:
      ValueError: if a target word has no clip, naming it, or there are fewer than two speakers.
    """
    if lesson.corpus is None:
        raise ValueError("a head is fit on clips of public speakers, got none")
    said = {clip.word for clip in lesson.clips}
    if unsaid := [word for word in lesson.vocabulary.targets if word not in said]:
        raise ValueError(
            f"a head is fit on clips of public speakers, and none says {', '.join(unsaid)}: take "
            "more public speakers (corpus.public_speakers), give the sounds of these "
            "words to the synthesizer (lexicon), or bring a head (docs/own-model.md)"
        )
    frames = encoder_outputs(base, lesson.corpus, lesson.clips, cache, progress=progress)
    features = PublicFeatures(
        pooled_features(frames),
        lesson.vocabulary.encode([clip.word for clip in lesson.clips]),
        [clip.speaker_id for clip in lesson.clips],
        np.array([clip.speaker_id in lesson.synthetic for clip in lesson.clips]),
    )
    fitted = fit_head(features, len(lesson.vocabulary.labels), seed=lesson.seed)
    return dataclasses.replace(
        base,
        vocabulary=lesson.vocabulary,
        head_weight=fitted.weight,
        head_bias=fitted.bias,
        pooling=fitted.pooling,
        provenance={**base.provenance, **provenance, **_figures(fitted, features)},
        speakers=tuple(sorted({*base.speakers, *lesson.speakers})),
    )


def head_in_words(base: Base) -> Iterator[str]:
    """What whoever starts a run with a base from elsewhere should know of its head."""
    yield from base.doubts
    if base.lacks_head:
        yield (
            "the base has no head, so it answers nothing and every label is learned in rounds: "
            "bring one (docs/own-model.md)"
        )
    elif "head_seed" in base.provenance:
        right = base.provenance.get("head_held_out_words_right")
        quality = "" if right is None else f"; among words of speakers left out, {right:.1%} right"
        yield (
            f"the base had no head: one was fit on {base.provenance['head_recorded_speakers']} "
            f"public speakers of the corpus and {SYNTHETIC_SPEAKERS} synthetic ones, none of them "
            f"a phone{quality}"
        )


def pooled_features(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and maximum over the frames of an encoder: (n, w, f) to (n, 2 f)."""
    pool = Pooling.identity(frames.shape[-1])
    return pool(torch.from_numpy(np.array(frames)))[:, 0].numpy().astype(np.float64)


def lesson_of(
    speakers: SpeakerSplit, vocabulary: Vocabulary, *, seed: int, lexicon: Mapping[str, str]
) -> HeadLesson:
    """What the public speakers of a run say, without those who guard its thresholds."""
    task = speakers.task
    negatives, _ = task.public_clips(speakers.public, speakers.recorded, (), seed)
    said = [
        clip for clip in utterances_of(speakers.partition.public) if clip.word in vocabulary.targets
    ]
    return with_synthetic(
        HeadLesson(speakers.public_corpus, (*said, *negatives), _made(speakers), vocabulary, seed),
        lexicon,
    )


def with_synthetic(lesson: HeadLesson, lexicon: Mapping[str, str]) -> HeadLesson:
    """Adds synthetic speakers: other words, silence, and target words as far as they can."""
    words = speakable(lesson.vocabulary.targets, lexicon)
    known, _ = other_words(lesson.vocabulary.targets)
    corpus = SyntheticCorpus(
        SyntheticSpec(
            seed=0,  # a run's seed draws phones, never the base
            lexicon=tuple(lexicon.items()),
            groups=(
                SpeakerGroup(
                    name="lesson",
                    num_speakers=SYNTHETIC_SPEAKERS,
                    accents=accent_shares(NEW_ACCENTS),
                    words=words,
                    utterances_per_word=SYNTHETIC_TAKES,
                    unknown_words=known,
                    num_unknown=SYNTHETIC_UNKNOWN,
                    num_silence=SYNTHETIC_SILENCE,
                ),
            ),
        )
    )
    return dataclasses.replace(
        lesson,
        corpus=corpus if lesson.corpus is None else JoinedCorpus(lesson.corpus, corpus),
        clips=(*lesson.clips, *corpus.utterances),
        synthetic={*lesson.synthetic, *corpus.speakers},
    )


def _made(speakers: SpeakerSplit) -> set[str]:
    """Public speakers of the synthesizer."""
    return {
        phone.speaker_id
        for phone in speakers.public
        if phone.speaker_id not in speakers.recorded and not phone.speaker_id.startswith(NOBODY)
    }


def _figures(fitted: FittedHead, features: PublicFeatures) -> dict[str, str | int | float]:
    """What is known of a head, for the provenance of its base."""
    recorded = {
        name for name, made in zip(features.speakers, features.synthetic, strict=True) if not made
    }
    figures: dict[str, str | int | float] = {
        "head": "ridge regression on whitened features",
        "head_regularization": fitted.regularization,
        "head_recorded_speakers": len(recorded),
        "head_clips": len(features.labels),
    }
    for name, value in (
        ("head_held_out_words_right", fitted.held_out_words_right),
        ("head_held_out_right", fitted.held_out_right),
        ("head_held_out_words_right_of_half_the_speakers", fitted.half_words_right),
    ):
        if np.isfinite(value):  # a base says nothing of what could not be measured
            figures[name] = round(value, 4)
    return figures

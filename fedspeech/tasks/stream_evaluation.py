"""How a wake word is scored: false rejects at so many false accepts per hour of a stream.

A share of clips says nothing of a phone that listens all day: a word that is taken for the wake
word once in a hundred clips wakes it many times an hour. So every adapter listens to hours of
synthesized sound without target words, and to the target words of held-out phones after what was
heard before them; each model has the lowest threshold that keeps to the rate.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Corpus, Utterance
from fedspeech.evaluation import kws
from fedspeech.evaluation.kws import KwsScores
from fedspeech.evaluation.metric import Interval, Metric, Model, Section, Segment
from fedspeech.evaluation.streaming import (
    ListeningCounts,
    OperatingPoint,
    false_rejects,
    poisson_interval,
)
from fedspeech.tasks.evaluation import HeldOutPhone
from fedspeech.tasks.keyword_stream import HeardStreams
from fedspeech.tasks.kws_evaluation import KwsEvaluation
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, Vector


@dataclass(frozen=True)
class StreamSettings:
    """The rate at which false rejects are stated, and minutes of synthesized sound that hold it.

    Attributes:
      false_accepts_per_hour: the rate.
      minutes: of sound without a target word.
      lexicon: pronunciations that are not built in, of targets whose near misses are in that sound.

    Raises:
      ValueError: if the sound is too short for the rate: not one false accept may be in it.
    """

    false_accepts_per_hour: float
    minutes: float = 30.0
    lexicon: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Checks that the rate can be told from none."""
        if self.false_accepts_per_hour * self.minutes < 60:
            raise ValueError(
                "a rate is told from none where one false accept an hour is counted: expected "
                "false_accepts_per_hour * stream_minutes >= 60, got "
                f"false_accepts_per_hour={self.false_accepts_per_hour:g}, "
                f"stream_minutes={self.minutes:g}"
            )


@dataclass(frozen=True, eq=False)
class StreamEvaluation(KwsEvaluation):
    """Answers to a stream, beside those to clips."""

    stream: StreamSettings
    _heard: dict[str, ListeningCounts] = field(default_factory=dict, init=False, repr=False)
    _spoken: dict[str, HeardStreams] = field(default_factory=dict, init=False, repr=False)

    @property
    def error(self) -> str:
        """False rejects at the stated rate."""
        return f"false rejects at {self.stream.false_accepts_per_hour:g} false accepts per hour"

    def validation_error(self, vector: FloatVector, clips: LocalDataset) -> float | None:
        """False rejects of the words of public speakers; None if they say none."""
        del clips  # their last second alone
        words = self._keywords("validation", self.scored.public_corpus, self.scored.validation)
        if words is None:
            return None
        counts = self._false(vector) + words.counts(vector)
        return _frr(counts.at_most(self.stream.false_accepts_per_hour))

    def score(self, vector: FloatVector, phone: HeldOutPhone) -> KwsScores:
        """Counts on clips and, of the same adapter, on the stream."""
        clips = super().score(vector, phone)
        words = self._keywords(phone.phone_id, self.scored.corpus, phone.judged_clips)
        found = self._false(vector)
        return replace(clips, stream=found if words is None else found + words.counts(vector))

    def error_on(self, scores: Sequence[KwsScores]) -> str:
        """What was listened to."""
        counts = kws.merged(scores).stream
        assert counts is not None
        hours = counts.hours / len(scores)
        return (
            f"{counts.keywords:,} words, and {hours:.1f} synthesized hours without one that each "
            f"of {len(scores)} phones hears"
        )

    def error_metric(
        self,
        scores: Sequence[KwsScores],
        model: Model,
        *,
        variant: str = "",
        segment: Segment | None = None,
    ) -> Metric | None:
        """False rejects over phones, the model having its own threshold; None without words."""
        counts = kws.merged(scores).stream
        if counts is None or not counts.keywords:
            return None
        point = counts.at_most(self.stream.false_accepts_per_hour)
        low, high = (1.0, 1.0) if point is None else (point.frr_interval or (0.0, 1.0))
        return Metric(
            name=self.error,
            value=_frr(point),
            lower_is_better=True,
            model=model,
            variant=variant,
            segment=segment,
            phones=len(scores),
            counted=counts.keywords,
            interval=Interval(low=low, high=high, method="Clopper-Pearson, exact"),
            headline=True,
        )

    def error_rates(self, scores: Sequence[KwsScores], times: Vector) -> Vector:
        """False rejects of phones drawn so many times, each draw with a threshold of its own."""
        heard = [phone.stream for phone in scores if phone.stream is not None]
        return false_rejects(heard, times, self.stream.false_accepts_per_hour)

    def sections(
        self,
        scores: Mapping[Model, Sequence[KwsScores]],
        vectors: Mapping[Model, Sequence[FloatVector]],
        phones: Sequence[HeldOutPhone],
    ) -> Iterator[Section]:
        """The thresholds of the stream, then what clips say."""
        yield self._thresholds(scores)
        yield from super().sections(scores, vectors, phones)

    def _thresholds(self, scores: Mapping[Model, Sequence[KwsScores]]) -> Section:
        """At which threshold each model keeps to the rate, and how many false accepts that is."""
        metrics: list[Metric] = []
        for model, found in scores.items():
            counts = kws.merged(found).stream
            point = counts and counts.at_most(self.stream.false_accepts_per_hour)
            if not point or point.false_accepts_per_hour is None:
                continue
            # All phones hear the same sound: so many hours are not as many chances to err.
            low, high = poisson_interval(
                math.ceil(point.false_accepts / len(found)), point.hours / len(found)
            )
            metrics += (
                Metric(name="threshold", value=point.threshold, unit="probability", model=model),
                Metric(
                    name="false accepts per hour",
                    value=point.false_accepts_per_hour,
                    unit="number",
                    lower_is_better=True,
                    model=model,
                    counted=point.false_accepts,
                    interval=Interval(low=low, high=high, method="Poisson, exact"),
                ),
            )
        return Section(
            key="stream",
            title="In an endless stream",
            says="Each model has the lowest threshold that keeps to the rate on synthesized sound "
            "without a target word: running speech and near misses by speakers of all accents, "
            "noise, music, in rooms.",
            metrics=tuple(metrics),
        )

    @functools.cached_property
    def _sound(self) -> HeardStreams:
        return HeardStreams.keyword_free(
            self.scored.base,
            self.scored.adapter,
            seconds=60 * self.stream.minutes,
            targets=self.labels[:-NUM_NEGATIVE_LABELS],
            seed=self.scored.seed,
            lexicon=dict(self.stream.lexicon),
        )

    def _false(self, vector: FloatVector) -> ListeningCounts:
        """False accepts of one adapter: those of a shared one are counted once for all phones."""
        key = hashlib.sha256(vector.tobytes()).hexdigest()
        if key not in self._heard:
            self._heard[key] = self._sound.counts(vector)
        return self._heard[key]

    def _keywords(
        self, who: str, corpus: Corpus, clips: Sequence[Utterance]
    ) -> HeardStreams | None:
        """Target words of some speakers, heard once; None if they say none."""
        said = [clip for clip in clips if clip.word in self.labels[:-NUM_NEGATIVE_LABELS]]
        if not said:
            return None
        if who not in self._spoken:
            base = self.scored.base
            labels = base.vocabulary.encode([clip.word for clip in said])
            heard = base.heard(corpus, said)
            self._spoken[who] = HeardStreams.of_keywords(base, self.scored.adapter, heard, labels)
        return self._spoken[who]


def _frr(point: OperatingPoint | None) -> float:
    """Share of words missed; all of them where no threshold keeps to the rate."""
    return 1.0 if point is None or point.frr is None else point.frr

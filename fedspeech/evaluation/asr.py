"""How well sentences are recognized: errors of words and characters, names, whole sentences.

    counts = sum((AsrCounts.of(said, heard, names) for ...), AsrCounts())
    counts.wer, counts.entity_recall

Counts are added over sentences and phones and divided once. They hold no text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass

import jiwer
import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.metric import Interval, Metric, Model, Section, Segment
from fedspeech.evaluation.personalization import bootstrap_interval

RATES = {
    "word error rate": ("word_errors", "words"),
    "character error rate": ("character_errors", "characters"),
}
"""Name of a rate to the counts that are divided."""


@dataclass(frozen=True)
class AsrCounts:
    """What was said and what of it was heard.

    Attributes:
      right: sentences without an error.
      word_errors: substitutions, deletions and insertions of words.
      characters: said, spaces included.
      character_errors: likewise of characters.
      names: of the phone's biasing list, said.
      names_heard: of those, written where they were said or elsewhere in the sentence.
      names_inserted: of the list, written though not said.
    """

    sentences: int = 0
    right: int = 0
    words: int = 0
    word_errors: int = 0
    characters: int = 0
    character_errors: int = 0
    names: int = 0
    names_heard: int = 0
    names_inserted: int = 0

    @classmethod
    def of(
        cls, said: Sequence[str], heard: Sequence[str], biasing_list: Collection[str] = ()
    ) -> AsrCounts:
        """Counts sentences of one phone: transcripts, what was recognized, and its biasing list.

        Raises:
          ValueError: if there are not as many heard as said, or nothing was said in one.
        """
        if len(said) != len(heard) or not all(said):
            raise ValueError(
                "expected one recognized text per sentence and no empty sentence, got "
                f"{len(heard)} for {len(said)}, {sum(not text for text in said)} of them empty"
            )
        if not said:
            return cls()
        words = jiwer.process_words(list(said), list(heard))
        letters = jiwer.process_characters(list(said), list(heard))
        names = names_heard = names_inserted = 0
        for reference, found in zip(said, heard, strict=True):
            wanted = Counter(word for word in reference.split() if word in biasing_list)
            written = Counter(word for word in found.split() if word in biasing_list)
            names += wanted.total()
            names_heard += (wanted & written).total()
            names_inserted += (written - wanted).total()
        return cls(
            sentences=len(said),
            right=sum(a == b for a, b in zip(said, heard, strict=True)),
            words=words.hits + words.substitutions + words.deletions,
            word_errors=words.substitutions + words.deletions + words.insertions,
            characters=letters.hits + letters.substitutions + letters.deletions,
            character_errors=letters.substitutions + letters.deletions + letters.insertions,
            names=names,
            names_heard=names_heard,
            names_inserted=names_inserted,
        )

    def __add__(self, other: AsrCounts) -> AsrCounts:
        """Merges the counts of two sets of sentences."""
        return AsrCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def wer(self) -> float | None:
        """Word error rate; above 1 where more is inserted than was said."""
        return self.word_errors / self.words if self.words else None

    @property
    def sentence_accuracy(self) -> float | None:
        """Share of sentences without an error."""
        return self.right / self.sentences if self.sentences else None

    @property
    def entity_recall(self) -> float | None:
        """Share of the names said that were written."""
        return self.names_heard / self.names if self.names else None

    @property
    def false_insertion_rate(self) -> float | None:
        """Names of the list written though not said, per sentence."""
        return self.names_inserted / self.sentences if self.sentences else None


def word_errors(said: Sequence[str], heard: Sequence[str]) -> NDArray[np.int64]:
    """Counts substituted, deleted and inserted words of each sentence, shape (sentences,)."""
    if not said:
        return np.zeros(0, dtype=np.int64)
    aligned = jiwer.process_words(list(said), list(heard)).alignments
    return np.array(
        [
            sum(
                max(part.ref_end_idx - part.ref_start_idx, part.hyp_end_idx - part.hyp_start_idx)
                for part in parts
                if part.type != "equal"
            )
            for parts in aligned
        ],
        dtype=np.int64,
    )


def rate_metric(
    counts: Sequence[AsrCounts],
    name: str,
    rng: np.random.Generator,
    model: Model,
    *,
    variant: str = "",
    segment: Segment | None = None,
    headline: bool = False,
) -> Metric:
    """One of `RATES`, summed over phones and then divided, with its interval over phones."""
    errors, totals = RATES[name]
    above, below = (
        np.array([getattr(phone, name) for phone in counts]) for name in (errors, totals)
    )
    low, high = bootstrap_interval(above, rng, over=below)
    return Metric(
        name=name,
        value=float(above.sum() / below.sum()),
        lower_is_better=True,
        model=model,
        variant=variant,
        segment=segment,
        phones=len(counts),
        counted=int(below.sum()),
        interval=Interval(low=low, high=high),
        headline=headline,
    )


def decoding_section(ways: Mapping[str, AsrCounts]) -> Section | None:
    """The same sentences, decoded in several ways, each with its counts over all phones."""
    metrics: list[Metric] = []
    for way, counts in ways.items():
        if not counts.sentences:
            continue
        found = (
            ("word error rate", counts.wer or 0.0, counts.words, True),
            ("sentences right", counts.sentence_accuracy or 0.0, counts.sentences, False),
            ("names written", counts.entity_recall, counts.names, False),
        )
        metrics += (
            Metric(
                name=name,
                value=value,
                variant=way,
                counted=counted,
                lower_is_better=error,
                headline=name != "sentences right" and bool(counts.names),
            )
            for name, value, counted, error in found
            if value is not None
        )
        metrics.append(
            Metric(
                name="names wrongly written, per sentence",
                value=counts.false_insertion_rate or 0.0,
                unit="number",
                variant=way,
                counted=counts.sentences,
                lower_is_better=True,
                headline=bool(counts.names),
            )
        )
    return (
        Section(
            key="decoding",
            title="How a phone decodes",
            on="by personalized adapters",
            says="A phone’s contextual biasing list of names is never sent and is in no adapter.",
            metrics=tuple(metrics),
        )
        if metrics
        else None
    )

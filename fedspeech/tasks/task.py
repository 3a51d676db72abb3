"""What a task is: labels, which clips have which use, and how a guard judges an adapted phone.

A round needs none of this. An adapter names its parameters and its output unit, and with that a
phone can train; a task says what its labels mean to whoever chooses clips, adapts a phone that
never trained, and counts what came of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fedspeech.corpora.corpus import Corpus, Labels, Utterance
from fedspeech.corpora.partition import Phone
from fedspeech.corpora.shots import Shots
from fedspeech.models.base import Base
from fedspeech.tasks.evaluation import Scored, TaskEvaluation
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.personalize import Adaptation


class Task(Adaptation, Protocol):
    """One thing to recognize, with the labels of one run.

    Attributes:
      name: what scenarios, cards and `fedspeech pretrain --task` call it.
      adapters: kinds of adapter that answer it, the default one first.
    """

    name: ClassVar[str]
    adapters: ClassVar[tuple[str, ...]]

    @property
    def labels(self) -> Labels:
        """Outputs of the model."""
        ...

    @property
    def negatives(self) -> str:
        """What the clips without a target are on which false accepts are counted; empty: none."""
        ...

    def split(self, phone: Phone, count: int, *, seed: int, reserve: int) -> Shots:
        """Splits the clips of a phone that never trains into `count` shots and what judges it.

        So many as `reserve` are laid aside, so that fewer shots are judged by the same clips.
        """
        ...

    def public_clips(
        self, phones: Sequence[Phone], recorded: Collection[str], taught: Collection[str], seed: int
    ) -> tuple[list[Utterance], list[Utterance]]:
        """Clips of public speakers that every phone holds: to train on, and for its guard.

        Args:
          phones: public speakers and rooms.
          recorded: speakers who are no synthesizer's, where both are public.
          taught: speakers of the base's training data.
          seed: of the run.
        """
        ...

    def evaluation_negatives(
        self, judged: Sequence[LocalDataset], validation: LocalDataset
    ) -> LocalDataset:
        """Validation clips without a target, for false accepts where phones have none."""
        ...

    def check_base(self, base: Base) -> None:
        """Refuses a base with other outputs.

        Raises:
          ValueError: naming what the base answers and what is wanted.
        """
        ...

    def evaluation(self, scored: Scored) -> TaskEvaluation[Any]:
        """How answers are scored."""
        ...

    @classmethod
    def shipped_base(cls) -> Path:
        """Where the base that ships for this task lies."""
        ...

    def synthetic_base(
        self,
        *,
        seed: int,
        cache: Path,
        lexicon: Mapping[str, str],
        encoder: str = "standard",
        hard_negative_hours: float = 0.0,
    ) -> Base:
        """Makes a base of synthetic speakers, or finds it in the cache.

        Args:
          seed: of speakers and weights.
          cache: folder of bases.
          lexicon: pronunciations of words that are not built in.
          encoder: its size.
          hard_negative_hours: of synthesized sound in which nobody says a word of the task, that
            is mined for what the base takes for one.

        Raises:
          ValueError: if this task has no encoder of that name, or mines no hours.
        """
        ...

    def taught_base(
        self, base: Base, corpus: Corpus, clips: Sequence[Utterance], *, seed: int, cache: Path
    ) -> Base:
        """Goes on teaching a base with clips of public speakers, or finds it in the cache.

        Raises:
          ValueError: if this task has no recipe for that.
        """
        ...

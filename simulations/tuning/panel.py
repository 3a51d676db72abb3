"""Who evaluates the trials of one seed, small enough to be sent to every worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.metric import Visibility
from fedspeech.evaluation.personalization import phone_accuracies
from fedspeech.tasks.evaluation import TaskEvaluation
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector
from simulations.setup.experiment import World

Accuracies = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Phones or public speakers on whose examples trials are compared.

    Attributes:
      visibility: "simulation_only": held-out phones; "server": public validation speakers, all that
        may choose where the speech that trains is private and every release is charged.
      task: how answers are scored.
      clips: of each member, whatever setting is evaluated.
      segments: of each member, segment to value.
    """

    visibility: Visibility
    task: TaskEvaluation[Any]
    clips: tuple[LocalDataset, ...]
    segments: tuple[Mapping[str, str], ...]

    @classmethod
    def of_held_out_phones(cls, world: World, task: TaskEvaluation[Any]) -> Panel:
        """Phones that never train, on the examples that a run's report evaluates them by."""
        return cls(
            visibility="simulation_only",
            task=task,
            clips=tuple(phone.judged for phone in world.unseen),
            segments=tuple(phone.phone.segments for phone in world.unseen),
        )

    @classmethod
    def of_public_speakers(cls, world: World, task: TaskEvaluation[Any]) -> Panel:
        """Public validation speakers."""
        clips, speakers, first = world.job.load_arrays().validation, world.partition.validation, 0
        members = []
        for speaker in speakers:
            last = first + len(speaker.utterances)
            members.append(clips.take(np.arange(first, last)))
            first = last
        return cls(
            visibility="server",
            task=task,
            clips=tuple(members),
            segments=tuple(speaker.segments for speaker in speakers),
        )

    def accuracies(self, vector: FloatVector) -> Accuracies:
        """Share of its examples that each member's phone answers rightly, shape (n,).

        Args:
          vector: the adapter, shape (d,).
        """
        correct = [self.task.mistakes(vector, own) == 0 for own in self.clips]
        return phone_accuracies(correct).astype(np.float64)

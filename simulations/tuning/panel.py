"""Who judges the trials of one seed, small enough to be sent to every worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.kws import answers
from fedspeech.evaluation.personalization import phone_accuracies
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.queries.training import AdapterTraining
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector
from simulations.results.records import Eye
from simulations.setup.experiment import World

Accuracies = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Phones or public speakers on whose clips trials are compared.

    Attributes:
      eye: "simulator": phones never trained on; "server": public validation speakers, all that may
        choose where the speech that trains is private and every release is charged.
      adapter: what is judged.
      clips: of each member, whatever setting is judged.
      segments: of each member, segment to value.
    """

    eye: Eye
    adapter: AdapterShape
    clips: tuple[LocalDataset, ...]
    segments: tuple[Mapping[str, str], ...]

    @classmethod
    def of_unseen_phones(cls, world: World) -> Panel:
        """Phones never trained on, on the clips that a run's report judges them by."""
        return cls(
            eye="simulator",
            adapter=AdapterTraining.of(world.job.query).adapter,
            clips=tuple(phone.judged for phone in world.unseen),
            segments=tuple(phone.phone.segments for phone in world.unseen),
        )

    @classmethod
    def of_public_speakers(cls, world: World) -> Panel:
        """Public validation speakers."""
        clips, speakers, first = world.job.load_arrays().validation, world.partition.validation, 0
        members = []
        for speaker in speakers:
            last = first + len(speaker.utterances)
            members.append(clips.take(np.arange(first, last)))
            first = last
        return cls(
            eye="server",
            adapter=AdapterTraining.of(world.job.query).adapter,
            clips=tuple(members),
            segments=tuple(speaker.segments for speaker in speakers),
        )

    def accuracies(self, vector: FloatVector) -> Accuracies:
        """Share of its clips that each member's phone answers rightly with one adapter, shape (n,).

        Args:
          vector: the adapter, shape (d,).
        """
        adapter = self.adapter.build()
        correct = [
            answers(score_clips(adapter, vector[np.newaxis], own.embeddings)[0]) == own.labels
            for own in self.clips
        ]
        return phone_accuracies(correct).astype(np.float64)

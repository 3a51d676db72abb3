"""The likelihood ratio attack on one released model: was this speaker in the training?

LiRA (Carlini et al. 2022, arXiv:2112.03570, Algorithm 1) with a user in the place of an example.
Shadow runs with and without a candidate say how well the candidate's clips are then recognized, and
the ratio of two Gaussians which of the two the released model looks like. Offline, shadow runs are
on public speakers alone, and a candidate is scored by how far above them it stands (their Eq. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from fedspeech.audits.attack import CLIPS, Auxiliary, Guess, Knowledge, Secret, as_phones
from fedspeech.audits.shadow import ShadowRuns
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.objectives import objective_of
from fedspeech.vectors import FloatVector

OWN_SPREAD = 64
"""Shadow runs of either kind from which a candidate's spread is its own; with fewer, all
candidates share one (Carlini et al. 2022, Section VI-A)."""


TRAININGS = 60_000
"""Trainings of one phone that all shadow runs may take together: some fifteen CPU seconds."""
_FEWEST_RUNS = 16


def confidences(
    adapter: Adapter, model: FloatVector, speakers: Sequence[LocalDataset]
) -> NDArray[np.float64]:
    """How surely a model gives each speaker's clips their labels, as log(p / (1 - p)).

    p is e to the minus the mean loss. Carlini et al. 2022, Eq. 3: the logit, and not the loss, is
    close to normal over runs.

    Returns:
      Shape (speakers,).
    """
    parameters = {
        name: torch.tensor(value[np.newaxis])
        for name, value in adapter.spec.unflatten(model).items()
    }
    embeddings = torch.from_numpy(np.concatenate([one.embeddings for one in speakers]))
    ends = np.cumsum([len(one) for one in speakers])[:-1].tolist()
    objective = objective_of(adapter)
    with torch.no_grad():
        logits = adapter.logits(parameters, embeddings[np.newaxis])[0]
        parts = zip(
            torch.tensor_split(logits, ends),
            torch.tensor_split(embeddings, ends),
            speakers,
            strict=True,
        )
        losses = [
            float(objective.loss(answers, clips, torch.tensor(one.labels)))
            for answers, clips, one in parts
        ]
    return np.asarray(-np.log(np.expm1(np.clip(losses, 1e-9, 500.0))), dtype=np.float64)


def likelihood_ratio(
    seen: NDArray[np.float64], shadows: NDArray[np.float64], included: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Scores candidates by how well what was seen fits shadow runs with them and without.

    Args:
      seen: statistic of each candidate in the attacked run, shape (candidates,).
      shadows: likewise in every shadow run, shape (runs, candidates).
      included: whether the candidate was in the shadow run, same shape; none at all: offline.

    Returns:
      Log-likelihood ratios, or offline deviations above the mean, shape (candidates,).

    Raises:
      ValueError: if a candidate has fewer than two shadow runs of a kind that is needed.
    """
    without = _normal(shadows, ~included)
    if not included.any():
        mean, spread = without
        return np.asarray((seen - mean) / spread, dtype=np.float64)
    there = norm.logpdf(seen, *_normal(shadows, included))
    return np.asarray(there - norm.logpdf(seen, *without), dtype=np.float64)


def _normal(
    shadows: NDArray[np.float64], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each candidate over the chosen runs, shape (candidates,)."""
    counts = chosen.sum(axis=0)
    if counts.min() < 2:
        raise ValueError("every candidate needs two shadow runs of either kind")
    mean = np.where(chosen, shadows, 0.0).sum(axis=0) / counts
    squares = np.where(chosen, (shadows - mean) ** 2, 0.0).sum(axis=0)
    own = squares / (counts - 1)
    shared = squares.sum() / (counts - 1).sum()
    variance = np.where(counts >= OWN_SPREAD, own, shared)
    return mean, np.sqrt(np.maximum(variance, 1e-12))


@dataclass(frozen=True, kw_only=True)
class ShadowRatio:
    """The likelihood ratio attack on one released model; see the module.

    Attributes:
      variant: "online": each candidate is in half of the shadow runs; "offline": in none.
      runs: shadow runs at most; of a run with many phones fewer, `TRAININGS` among them all.
    """

    secret: ClassVar[Secret] = "membership"
    observers: ClassVar[tuple[Observer, ...]] = ("reader",)
    auxiliary: Auxiliary = "exact"
    variant: Literal["online", "offline"] = "online"
    runs: int = 120

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"shadow runs, {self.variant}"

    @property
    def knowledge(self) -> str:
        """What the attacker has."""
        others = "candidates and public speakers" if self.variant == "online" else "public speakers"
        return (
            f"the last released model, {CLIPS[self.auxiliary]}, the training's settings, and "
            f"up to {self.runs} runs of its own on {others}"
        )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every candidate; see `Attack.guess`."""
        transcript.require(self.observers)
        candidates = as_phones(knowledge.candidates, knowledge.background)
        public = as_phones(knowledge.speakers, knowledge.background)
        runs = ShadowRuns(
            plan=transcript.plan,
            contributions=knowledge.contributions,
            optimizer=knowledge.optimizer,
            initial=transcript.releases[0],
        )
        asked = [known.clips for known in knowledge.candidates]
        chance = 0.5 if self.variant == "online" else 0.0
        each = max(1, round(transcript.plan.expected_cohort * transcript.plan.rounds))
        count = min(self.runs, max(_FEWEST_RUNS, TRAININGS // each))
        included = rng.random((count, len(candidates))) < chance
        shadows = np.empty(included.shape)
        for row, members in enumerate(included):
            phones = [candidates[place] for place in np.flatnonzero(members)]
            missing = max(0, transcript.plan.population - len(phones))
            drawn = rng.choice(len(public), missing, replace=missing > len(public))
            last = runs.releases([*phones, *(public[place] for place in drawn)], rng)[-1]
            shadows[row] = self._statistic(knowledge.adapter, last, asked)
        seen = self._statistic(knowledge.adapter, transcript.releases[-1], asked)
        return Guess(scores=likelihood_ratio(seen, shadows, included)[np.newaxis])

    @staticmethod
    def _statistic(
        adapter: Adapter, model: FloatVector, asked: Sequence[LocalDataset]
    ) -> NDArray[np.float64]:
        """Confidence in each candidate's clips, without what all candidates share."""
        found = confidences(adapter, model, asked)
        return np.asarray(found - found.mean(), dtype=np.float64)

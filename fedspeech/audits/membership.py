"""Membership: did this speaker take part in a run at all?

Three attacks, and none of them needs what the others need:

* `ShadowRatio`: the likelihood ratio attack (LiRA; Carlini et al. 2022, arXiv:2112.03570,
  Algorithm 1) with a user in the place of an example. It reads one released model. Shadow runs with
  and without a candidate say how well the candidate's clips are then recognized, and the ratio of
  two Gaussians which of the two the released model looks like. Offline, shadow runs are on public
  speakers alone, and a candidate is scored by how far above them it stands (their Eq. 4).
* `Alignment`: a member's own clips give its would-be contribution, which points where the sum of
  its round points (Nasr et al. 2019, arXiv:1812.00910; cosine as in Li et al. 2022,
  arXiv:2202.00100).
* `SumRatio`: the same question to a sum as a ratio of Gaussians: public speakers say what a sum
  without the candidate looks like, and in which directions sums spread anyway.

The last two read what their observer has of each round: decoded sums, single contributions, or what
the releases tell a reader of the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from fedspeech.audits.attack import Auxiliary, Guess, Knowledge, KnownSpeaker, Secret
from fedspeech.audits.shadow import ShadowRuns, clipped, noise_stddev, released_sums
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.objectives import objective_of
from fedspeech.vectors import FloatVector

OWN_SPREAD = 64
"""Shadow runs of either kind from which a candidate's spread is its own; with fewer, all
candidates share one (Carlini et al. 2022, Section VI-A)."""
_SHRINKAGE = 0.1
"""Share of the spread of public contributions that is taken to lie in no direction of theirs."""


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
      runs: shadow runs.
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
            f"the last released model, {_CLIPS[self.auxiliary]}, the training's settings, and "
            f"{self.runs} runs of its own on {others}"
        )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every candidate; see `Attack.guess`."""
        _check(transcript, self.observers)
        candidates = _datasets(knowledge.candidates, knowledge)
        public = _datasets(knowledge.speakers, knowledge)
        runs = ShadowRuns(
            plan=transcript.plan,
            contributions=knowledge.contributions,
            optimizer=knowledge.optimizer,
            initial=transcript.releases[0],
        )
        asked = [known.clips for known in knowledge.candidates]
        chance = 0.5 if self.variant == "online" else 0.0
        included = rng.random((self.runs, len(candidates))) < chance
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


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Cosine of would-be contributions with what was seen, summed over rounds; see the module."""

    name: ClassVar[str] = "alignment"
    secret: ClassVar[Secret] = "membership"
    observers: ClassVar[tuple[Observer, ...]] = ("server", "reader", "cohort_member")
    auxiliary: Auxiliary = "exact"

    @property
    def knowledge(self) -> str:
        """What the attacker has."""
        return (
            f"what was decoded of every round, {_CLIPS[self.auxiliary]}, and the mean contribution "
            "of public speakers"
        )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every candidate; see `Attack.guess`."""
        _check(transcript, self.observers)
        scores = np.zeros(len(knowledge.candidates))
        for seen in _rounds(transcript, knowledge, rng):
            scores += alignments(seen.own, seen.rows, seen.public.mean(axis=0)).max(axis=0)
        return Guess(scores=scores[np.newaxis])


def alignments(
    own: NDArray[np.float64], rows: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cosine of every row seen with every would-be contribution, shape (rows, candidates).

    The mean of public contributions is taken out of both: every speaker points along it.

    Args:
      own: would-be contributions, shape (candidates, d).
      rows: sums or single contributions, shape (rows, d).
      mean: of public contributions, shape (d,).
    """
    along = mean / max(float(np.linalg.norm(mean)), 1e-12)
    left, right = (vectors - np.outer(vectors @ along, along) for vectors in (rows, own))
    lengths = np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    return np.asarray(left @ right.T / np.maximum(lengths, 1e-12), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class SumRatio:
    """Ratio of Gaussians of what was seen, with the candidate in it and without; see the module."""

    name: ClassVar[str] = "sum likelihood ratio"
    secret: ClassVar[Secret] = "membership"
    observers: ClassVar[tuple[Observer, ...]] = ("server", "reader", "cohort_member")
    auxiliary: Auxiliary = "exact"

    @property
    def knowledge(self) -> str:
        """What the attacker has."""
        return (
            f"what was decoded of every round, {_CLIPS[self.auxiliary]}, contributions of public "
            "speakers, and the plan's noise"
        )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every candidate; see `Attack.guess`."""
        _check(transcript, self.observers)
        plan = transcript.plan
        coin = min(1.0, plan.expected_cohort / plan.population)
        scores = np.zeros(len(knowledge.candidates))
        for seen in _rounds(transcript, knowledge, rng):
            stddev = noise_stddev(plan, seen.phones)
            ratios = sum_ratios(seen.own, seen.rows, seen.public, seen.phones, stddev)
            # A candidate that takes part in the run is called to a round by a coin.
            joined = np.logaddexp(np.log(coin) + ratios, np.log1p(-coin)) if coin < 1 else ratios
            scores += joined.max(axis=0)
        return Guess(scores=scores[np.newaxis])


def sum_ratios(
    own: NDArray[np.float64],
    rows: NDArray[np.float64],
    public: NDArray[np.float64],
    phones: float,
    stddev: float,
) -> NDArray[np.float64]:
    """Log-likelihood of rows with a candidate among their phones over that without.

    A sum of n phones is taken as Gaussian with n times the mean and covariance of public
    contributions, shrunk towards the same spread in all directions, plus the noise; a candidate in
    it replaces one of the n. How many of the n said something is not known, so a sum may be n means
    longer or shorter at no cost.

    Args:
      own: would-be contributions, shape (candidates, d).
      rows: sums, or single contributions, shape (rows, d).
      public: contributions of public speakers, shape (speakers, d).
      phones: in a row, n.
      stddev: of the noise in a coordinate of a row.

    Returns:
      Shape (rows, candidates).
    """
    mean = public.mean(axis=0)
    spread = np.sqrt(phones * (1 - _SHRINKAGE) / max(1, len(public) - 1)) * (public - mean)
    spread = np.vstack([spread, phones * mean])
    each = stddev**2 + phones * _SHRINKAGE * public.var(axis=0).mean() + 1e-12
    # Woodbury: the covariance is `each` times the identity, plus few directions.
    inner = np.linalg.inv(each * np.eye(len(spread)) + spread @ spread.T)
    shifts, residuals = own - mean, rows - phones * mean
    left, right = residuals @ spread.T, shifts @ spread.T
    products = (residuals @ shifts.T - left @ inner @ right.T) / each
    lengths = (np.square(shifts).sum(axis=1) - np.einsum("ij,jk,ik->i", right, inner, right)) / each
    return np.asarray(products - lengths / 2, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Round:
    """What an attacker makes of one round: rows seen, of so many phones each, and contributions."""

    rows: NDArray[np.float64]
    phones: float
    own: NDArray[np.float64]
    public: NDArray[np.float64]


def _rounds(
    transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
) -> Sequence[_Round]:
    """Every round with what candidates and public speakers would have contributed to it."""
    plan, observed = transcript.plan, transcript.observations
    sums = None
    if transcript.observer not in ("server", "recipient"):
        sums = released_sums(transcript.releases, knowledge.optimizer, plan)
    speakers = _datasets([*knowledge.candidates, *knowledge.speakers], knowledge)
    found = []
    for place, seen in enumerate(transcript.rounds):
        rows = observed[transcript.observed_in == place] if sums is None else sums[place][None]
        said = clipped(
            knowledge.contributions(speakers, seen.sent, [rng] * len(speakers)), plan.clip_norm
        )
        own, public = np.split(said, [len(knowledge.candidates)])
        senders = len(seen.senders)
        phones = 1.0 if transcript.single else float(senders or plan.expected_cohort)
        found.append(_Round(rows=rows, phones=phones, own=own, public=public))
    return found


def _datasets(known: Sequence[KnownSpeaker], knowledge: Knowledge) -> list[LocalDataset]:
    """What speakers would hold as phones: their clips, then the public background set."""
    return [one.clips.joined(knowledge.background) for one in known]


def _check(transcript: Transcript, observers: tuple[Observer, ...]) -> None:
    if transcript.observer not in observers:
        raise ValueError(f"expected a transcript of {observers}, got {transcript.observer!r}")


_CLIPS: dict[Auxiliary, str] = {
    "exact": "the very clips of the candidates",
    "enrollment": "other clips of the candidates",
    "public": "no clip of the candidates",
}


MEMBERSHIP = (SumRatio(), Alignment(), ShadowRatio(), ShadowRatio(variant="offline"))
"""The attacks on membership."""

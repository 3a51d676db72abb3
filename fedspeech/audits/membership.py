"""Membership: did this speaker take part in a run at all?

A member's own clips give its would-be contribution, and what an observer has of a round is held
against it. Two ways to compare, and neither needs what the other needs:

* `alignments`: it points where the sum of its round points (Nasr et al. 2019, arXiv:1812.00910;
  cosine as in Li et al. 2022, arXiv:2202.00100).
* `sum_ratios`: the same question as a ratio of Gaussians: public speakers say what a sum without
  the candidate looks like, and in which directions sums spread anyway.

`shadow_ratio.ShadowRatio` asks one released model instead, and needs runs of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import CLIPS, Auxiliary, Guess, Knowledge, Secret, as_phones
from fedspeech.audits.observed_sums import observed, phones_in_row
from fedspeech.audits.shadow import clipped, noise_stddev
from fedspeech.audits.shadow_ratio import ShadowRatio
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.privacy.plan import PrivacyPlan

_SHRINKAGE = 0.1
"""Share of the spread of public contributions that is taken to lie in no direction of theirs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundEvidence:
    """One round as an attacker holds it against candidates.

    Attributes:
      rows: what the observer has of it, shape (rows, d).
      phones: in each row, as far as is known.
      own: what each candidate would have contributed, shape (candidates, d).
      public: likewise of public speakers.
      plan: of the run.
    """

    rows: NDArray[np.float64]
    phones: float
    own: NDArray[np.float64]
    public: NDArray[np.float64]
    plan: PrivacyPlan


def evidence(
    transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
) -> Iterator[RoundEvidence]:
    """Every round with what candidates and public speakers would have contributed to it."""
    plan, rows = transcript.plan, observed(transcript, knowledge.optimizer)
    speakers = as_phones([*knowledge.candidates, *knowledge.speakers], knowledge.background)
    number, own, public = -1, np.zeros((0, 0)), np.zeros((0, 0))
    for place, seen in enumerate(transcript.rounds):
        if seen.number != number:  # sums of one round are of one model
            said = knowledge.contributions(speakers, seen.sent, [rng] * len(speakers))
            counted = clipped(said, plan.clip_norm)
            number, (own, public) = seen.number, np.split(counted, [len(knowledge.candidates)])
        yield RoundEvidence(
            rows=rows[transcript.observed_in == place], phones=phones_in_row(transcript, place),
            own=own, public=public, plan=plan,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WouldBe:
    """Holds would-be contributions against every round, and adds up what the best row says.

    Attributes:
      name: how tables call it.
      compare: how well each row of a round goes with each candidate, shape (rows, candidates).
      also: what it has besides the clips and what was decoded.
    """

    name: str
    compare: Callable[[RoundEvidence], NDArray[np.float64]]
    also: str
    secret: ClassVar[Secret] = "membership"
    observers: ClassVar[tuple[Observer, ...]] = ("server", "reader", "cohort_member")
    auxiliary: Auxiliary = "exact"

    @property
    def knowledge(self) -> str:
        """What the attacker has."""
        return f"what was decoded of every round, {CLIPS[self.auxiliary]}, {self.also}"

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every candidate; see `Attack.guess`."""
        transcript.require(self.observers)
        scores = np.zeros(len(knowledge.candidates))
        for held in evidence(transcript, knowledge, rng):
            scores += self.compare(held).max(axis=0)
        return Guess(scores=scores[np.newaxis])


def _aligned(held: RoundEvidence) -> NDArray[np.float64]:
    return alignments(held.own, held.rows, held.public.mean(axis=0))


def _joined(held: RoundEvidence) -> NDArray[np.float64]:
    """Log-likelihood ratios; who takes part in the run is called to a round by a coin."""
    stddev = noise_stddev(held.plan, held.phones)
    ratios = sum_ratios(held.own, held.rows, held.public, held.phones, stddev)
    coin = min(1.0, held.plan.expected_cohort / held.plan.population)
    if coin == 1:
        return ratios
    return np.asarray(np.logaddexp(np.log(coin) + ratios, np.log1p(-coin)), dtype=np.float64)


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


ALIGNMENT = WouldBe(
    name="alignment", compare=_aligned, also="and the mean contribution of public speakers"
)
SUM_RATIO = WouldBe(
    name="sum likelihood ratio", compare=_joined,
    also="contributions of public speakers, and the plan's noise",
)  # fmt: skip
MEMBERSHIP = (SUM_RATIO, ALIGNMENT, ShadowRatio(), ShadowRatio(variant="offline"))
"""The attacks on membership."""

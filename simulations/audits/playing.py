"""Rounds of a job, played to be seen: by the functions of `fedspeech.round`, and nobody is charged.

Secure aggregation decides what the server sees and changes no integer of a sum, so the same rounds
are shown with it and without: with it the server has the decoded sum, without it every vector as
its phone sent it. Nothing that is played is released; noise is that of the job, whose entropy must
be seeded, so that whoever plays again sees the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.games import Attendance
from fedspeech.audits.transcript import Observer, SeenRound, Transcript
from fedspeech.cohorts import groups_of, too_few
from fedspeech.errors import CohortTooSmall, ProtocolAbort, require
from fedspeech.job import Job, rotation_seed
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import (
    ServerState,
    decoded_sum,
    joining,
    open_sum,
    privatize_phone,
    sum_phones,
)
from fedspeech.secagg.protocol import Stage
from fedspeech.vectors import FloatVector
from server.rounds import stopped_early

Tell = Callable[[int], None]
NOBODY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlayedRound:
    """One completed round, with everything in it.

    Attributes:
      number: from 0.
      sent: the model that phones trained on, shape (d,).
      cohort: phones that joined, shape (c,).
      reporting: phones in the sums, shape (n,).
      groups: in which sum each of them is, shape (n,).
      singles: each vector as a server without secure aggregation reads it, shape (n, d), float32.
      totals: the decoded sum of each group, noise of the server included, (groups, d), float64.
    """

    number: int
    sent: FloatVector
    cohort: NDArray[np.int64]
    reporting: NDArray[np.int64]
    groups: NDArray[np.int64]
    singles: NDArray[np.float32]
    totals: NDArray[np.float64]

    def of_server(self, *, masked: bool) -> tuple[SeenRound, ...]:
        """What the server has of it, sum by sum; `masked`: whether secure aggregation is on."""
        return tuple(
            SeenRound(
                number=self.number,
                sent=self.sent,
                senders=self.reporting[self.groups == group],
                singles=None if masked else self.singles[self.groups == group].astype(np.float64),
                total=total,
            )
            for group, total in enumerate(self.totals)
        )

    def of_phone(self, phone: int | None) -> SeenRound:
        """What one phone has of it, if it was there; None: who reads the releases."""
        own = None if phone is None else self.singles[self.reporting == phone]
        return SeenRound(
            number=self.number,
            sent=self.sent,
            senders=NOBODY if phone is None or phone not in self.cohort else self.cohort,
            own=None if own is None or not len(own) else own[0].astype(np.float64),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """A run that was played.

    Attributes:
      plan: of the job.
      releases: models, the initial one first, shape (completed rounds + 1, d), float32.
      rounds: that were completed.
      failed: why others were not, in words.
    """

    plan: PrivacyPlan
    releases: NDArray[np.float32]
    rounds: tuple[PlayedRound, ...]
    failed: tuple[str, ...] = field(default=())

    def seen_by(self, observer: Observer, *, masked: bool, member: int | None = None) -> Transcript:
        """The transcript of an observer.

        Args:
          observer: the server, readers, or a member of cohorts.
          masked: whether secure aggregation is on.
          member: the phone that a member is.
        """
        if observer == "server":
            rounds = [seen for one in self.rounds for seen in one.of_server(masked=masked)]
        else:
            rounds = [one.of_phone(member) for one in self.rounds]
        return Transcript(
            observer=observer, plan=self.plan, releases=self.releases, rounds=tuple(rounds)
        )

    def behind(self, observations: Transcript) -> tuple[NDArray[np.int64], ...]:
        """The phones behind each row of `Transcript.observations`: the truth about it."""
        if observations.observer != "server":
            return tuple(one.reporting for one in self.rounds)
        sums = [seen.senders for seen in observations.rounds]
        if observations.single:
            return tuple(row for senders in sums for row in senders[:, np.newaxis])
        return tuple(sums)

    @property
    def busiest(self) -> NDArray[np.int64]:
        """Phones that sent something, those that did so most often first, shape (n,)."""
        sent = [one.reporting for one in self.rounds]
        phones, counts = np.unique(np.concatenate(sent or [NOBODY]), return_counts=True)
        return np.asarray(phones[np.argsort(-counts, kind="stable")], dtype=np.int64)

    def first(self, rounds: int) -> Played:
        """The same run, ended after so many rounds."""
        return replace(self, releases=self.releases[: rounds + 1], rounds=self.rounds[:rounds])


def play(
    job: Job,
    arrays: PopulationArrays,
    *,
    absent: Collection[int] = (),
    tell: Tell | None = None,
) -> Played:
    """Plays the rounds of a job.

    Args:
      job: with seeded noise.
      arrays: what its phones hold.
      absent: phones that join like others and contribute nothing but their noise: the world without
        them, as zero-out neighbors have it.
      tell: called with the number of rounds that are over.

    Raises:
      ValueError: if noise is the operating system's.
    """
    seeded = job.noise_entropy == "seeded"
    require(seeded, 'noise_entropy must be "seeded"', noise_entropy=job.noise_entropy)
    state = ServerState.initial(job, arrays)
    phones = [Attendance(job.plan) for _ in range(job.plan.population)]
    rounds, releases, failed = [], [state.model], []
    for number in range(job.plan.rounds):
        if stopped_early(job, state):
            break
        try:
            state, played = _round(job, arrays, state, number, phones, absent)
            rounds.append(played)
            releases.append(state.model)
        except (CohortTooSmall, ProtocolAbort) as error:
            failed.append(f"round {number + 1}: {error}")
        if tell is not None:
            tell(number + 1)
    return Played(
        plan=job.plan,
        releases=np.stack(releases),
        rounds=tuple(rounds),
        failed=tuple(failed),
    )


def _round(
    job: Job,
    arrays: PopulationArrays,
    state: ServerState,
    number: int,
    phones: list[Attendance],
    absent: Collection[int],
) -> tuple[ServerState, PlayedRound]:
    """One round, as `fedspeech.round.run_round` has it, without its charge."""
    plan, key, entropy = job.plan, job.round_key(number), job.entropy()
    cohort = [phone for phone in joining(job, key) if phones[phone].admits(number)]
    reporting = [phone for phone in cohort if job.last_stage(number, phone) >= Stage.MASK]
    for phone in reporting:
        phones[phone].sends(number)
    if short := too_few(job, key, cohort, "joined", plan.min_cohort):
        raise CohortTooSmall(short)
    arrays = job.as_of(arrays, number)
    contributions = job.query.on(arrays).contributions(
        [arrays.phone(phone) for phone in reporting], state.sent, job.phone_rngs(key, reporting)
    )
    vectors = {
        phone: privatize_phone(
            plan, np.zeros_like(found) if phone in absent else found, key, phone, entropy,
            state.clip_norm,
        )
        for phone, found in zip(reporting, contributions, strict=True)
    }  # fmt: skip
    total = sum_phones(vectors, job, key, state)
    # From a sum of zero, so that what was added is the decoded mean to the last bit.
    begun = replace(state, summed_means=np.zeros_like(state.summed_means))
    advanced, _ = open_sum(job.query, begun, job, key, total, len(reporting))
    seed, phones_in = rotation_seed(key), np.array(reporting, dtype=np.int64)
    singles = [
        plan.read(vector, rotation_seed=seed, clip_norm=state.clip_norm)
        for vector in vectors.values()
    ]
    parts = total.reshape(plan.groups, plan.vector_length)
    sums = [decoded_sum(job, key, begun, part, group) for group, part in enumerate(parts)]
    played = PlayedRound(
        number=number,
        sent=state.sent,
        cohort=np.array(cohort, dtype=np.int64),
        reporting=phones_in,
        groups=groups_of(job, key, phones_in),
        singles=np.stack(singles).astype(np.float32),
        totals=np.stack([one.mean * plan.expected_in_sum for one in sums]),
    )
    summed = state.summed_means + advanced.summed_means
    return replace(advanced, summed_means=summed), played

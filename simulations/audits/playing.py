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
from fedspeech.errors import CohortTooSmall, ProtocolAbort, require
from fedspeech.job import Job, rotation_seed
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import ServerState, joining, open_sum, privatize_phone
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.ring import ring_sum
from fedspeech.vectors import FloatVector, Vector
from server.rounds import stopped_early

Tell = Callable[[int], None]
NOBODY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlayedRound:
    """One completed round, with everything in it.

    Attributes:
      number: from 0.
      sent: the model that phones trained on, shape (d,).
      reporting: phones in the sum, shape (n,).
      singles: each vector as a server without secure aggregation reads it, shape (n, d), float32.
      total: the decoded sum, noise of the server included, shape (d,), float64.
    """

    number: int
    sent: FloatVector
    reporting: NDArray[np.int64]
    singles: NDArray[np.float32]
    total: Vector

    def seen_by(self, observer: Observer, *, masked: bool) -> SeenRound:
        """What an observer has of it; `masked`: whether secure aggregation is on."""
        server = observer == "server"
        return SeenRound(
            number=self.number,
            sent=self.sent,
            senders=self.reporting if server else NOBODY,
            singles=self.singles.astype(np.float64) if server and not masked else None,
            total=self.total if server else None,
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

    def seen_by(self, observer: Observer, *, masked: bool) -> Transcript:
        """The transcript of an observer; `masked`: whether secure aggregation is on."""
        return Transcript(
            observer=observer,
            plan=self.plan,
            releases=self.releases,
            rounds=tuple(one.seen_by(observer, masked=masked) for one in self.rounds),
        )

    def behind(self, observations: Transcript) -> tuple[NDArray[np.int64], ...]:
        """The phones behind each row of `Transcript.observations`: the truth about it."""
        if observations.single:
            return tuple(row for one in self.rounds for row in one.reporting[:, np.newaxis])
        return tuple(one.reporting for one in self.rounds)

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
      ValueError: if noise is the operating system's, or a round has several sums.
    """
    seeded = job.noise_entropy == "seeded"
    require(seeded, 'noise_entropy must be "seeded"', noise_entropy=job.noise_entropy)
    rule = "attacks on transcripts read one sum of a round: privacy.groups must be 1"
    require(job.plan.groups == 1, rule, groups=job.plan.groups)
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
    if len(cohort) < plan.min_cohort or len(reporting) < plan.min_reporting:
        raise CohortTooSmall(f"{len(cohort)} phones joined and {len(reporting)} reported")
    arrays = job.as_of(arrays, number)
    contributions = job.query.on(arrays).contributions(
        [arrays.phone(phone) for phone in reporting], state.sent, job.phone_rngs(key, reporting)
    )
    vectors = [
        privatize_phone(
            plan, np.zeros_like(found) if phone in absent else found, key, phone, entropy,
            state.clip_norm,
        )
        for phone, found in zip(reporting, contributions, strict=True)
    ]  # fmt: skip
    # From a sum of zero, so that what was added is the decoded mean to the last bit.
    begun = replace(state, summed_means=np.zeros_like(state.summed_means))
    advanced, _ = open_sum(job.query, begun, job, key, ring_sum(vectors, plan.bits), len(reporting))
    mean, seed = advanced.summed_means, rotation_seed(key)
    singles = [
        plan.read(vector, rotation_seed=seed, clip_norm=state.clip_norm) for vector in vectors
    ]
    played = PlayedRound(
        number=number,
        sent=state.sent,
        reporting=np.array(reporting, dtype=np.int64),
        singles=np.stack(singles).astype(np.float32),
        total=mean * plan.expected_cohort,
    )
    return replace(advanced, summed_means=state.summed_means + mean), played

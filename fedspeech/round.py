"""The whole round, slow and obvious: the text to read first.

`clients.fleet` and `server.rounds` do the same over messages, shard by shard, with phones trained
side by side. Given the same training function, the integers of the sum are the same bit for bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import OptimizerState
from fedspeech.errors import CohortTooSmall
from fedspeech.job import Job, JobArrays, rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.participation import PoissonParticipation
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg import ideal
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.session import sum_vectors
from fedspeech.seeds import NoiseEntropy, stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining
from fedspeech.vectors import Delta, FloatVector

TrainingFunction = Callable[
    [
        Adapter,
        Mapping[str, NDArray[np.float32]],
        Sequence[LocalDataset],
        LocalTraining,
        Sequence[np.random.Generator],
    ],
    Sequence[Delta],
]


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server carries from round to round.

    Attributes:
      optimizer: global parameters in float64 and the server optimiser's memory.
      completed: completed rounds.
    """

    optimizer: OptimizerState
    completed: int = 0

    @property
    def adapter(self) -> FloatVector:
        """The global adapter as phones get it, shape (d,), float32."""
        return self.optimizer.parameters.astype(np.float32)

    @classmethod
    def initial(cls, job: Job, arrays: JobArrays) -> ServerState:
        """Starts from the job's initial adapter."""
        return cls(optimizer=job.server.build().init(arrays.initial))


def run_round(
    state: ServerState,
    job: Job,
    arrays: JobArrays,
    train: TrainingFunction,
    ledger: Ledger,
    round_number: int,
) -> tuple[ServerState, NDArray[np.uint32]]:
    """Runs one round in one place.

    Args:
      state: before the round.
      job: the run.
      arrays: what the phones hold.
      train: local training, `training.cohort.train_cohort` or a loop over `training.local`.
      ledger: charged before the sum is opened.
      round_number: from 0.

    Returns:
      The state after the round and the opened sum, shape (padded dimension,).

    Raises:
      BudgetExhausted: before anything is trained, if the round would exceed the budget.
      CohortTooSmall: if the cohort or its survivors are below the plan's floors.
      ProtocolAbort: if a masked sum cannot be opened.
    """
    plan, entropy, key = job.plan, job.entropy(), job.round_key(round_number)
    cohort = [
        int(phone)
        for phone in participation(plan).cohort(round_number, entropy)
        if job.last_stage(round_number, int(phone)) >= Stage.ADVERTISE
    ]
    if len(cohort) < plan.min_cohort:
        raise CohortTooSmall(f"the plan wants {plan.min_cohort} phones, got {len(cohort)}")
    charge = ledger.charge(round_number, key.attempt, key.rid)
    adapter = job.adapter.build()
    deltas = train(
        adapter,
        adapter.spec.unflatten(state.adapter),
        [arrays.phone(phone) for phone in cohort],
        job.training,
        [stream(job.seed, "batches", round_number, phone) for phone in cohort],
    )
    encoded = {
        phone: privatize_phone(plan, delta, key, phone, entropy)
        for phone, delta in zip(cohort, deltas, strict=True)
    }
    total = sum_phones(encoded, job, key, state.adapter)
    state = open_sum(state, job, key, total)
    ledger.outcome(charge, completed=True)
    return state, total


def sum_phones(
    encoded: Mapping[int, NDArray[np.uint32]], job: Job, key: RoundKey, adapter: FloatVector
) -> NDArray[np.uint32]:
    """Sums the vectors of the phones that do not vanish before they send, mod 2^bits.

    Masked or ideal: the same integers.

    Raises:
      CohortTooSmall, ProtocolAbort: if too few are left.
    """
    plan = job.plan

    def last_stage(phone: int) -> Stage:
        return job.last_stage(key.round, phone)

    if plan.secure_aggregation == "masked":
        return sum_vectors(
            encoded,
            terms=plan.terms(key.rid, key.round),
            purpose=job.purpose(key, hashlib.sha256(adapter.tobytes()).digest()),
            enrolment=job.enrol(),
            last_stage=last_stage,
            primitives=job.primitives(),
        ).total
    sent = [vector for phone, vector in encoded.items() if last_stage(phone) >= Stage.MASK]
    if len(sent) < plan.min_survivors:
        raise CohortTooSmall(f"the plan wants {plan.min_survivors} survivors, got {len(sent)}")
    return ideal.partial_sum(sent, plan.bits)


def participation(plan: PrivacyPlan) -> PoissonParticipation:
    """Who takes part under the plan."""
    return PoissonParticipation(
        population=plan.population, probability=plan.participation_probability, quota=plan.quota
    )


def privatize_phone(
    plan: PrivacyPlan, delta: Delta, key: RoundKey, phone: int, entropy: NoiseEntropy
) -> NDArray[np.uint32]:
    """What one phone does to its delta before it leaves: clip, rotate, scale, round, noise, ring.

    Returns:
      Shape (padded dimension,), uint32.
    """
    return plan.privatize(
        delta.vector,
        rotation_seed=rotation_seed(key),
        rounding=entropy.keystream("rounding", key.rid, key.attempt, phone),
        noise=entropy.keystream("noise", key.rid, key.attempt, phone),
    )


def noise_norm(plan: PrivacyPlan, survivors: int) -> float:
    """Expected L2 norm of the noise in the decoded mean of so many phones; 0 without noise."""
    if plan.mechanism == "none":
        return 0.0
    summed = plan.stddev * math.sqrt(survivors * plan.dimension) / plan.scale
    return summed / plan.expected_cohort


class SignalToNoise:
    """How much of what the server decodes is signal: of the last round, and of all so far.

    Reads what the server sees anyway: sums, and how many phones are in them. Norms of single phones
    never leave their phones.

    A decoded mean is a signal s plus noise of known power: d coordinates of variance v. So |mean|^2
    estimates |s|^2 + d v without bias, and sqrt(max(0, |mean|^2 / (d v) - 1)) is the length of the
    signal over that of the noise. Noise alone spreads |mean|^2 / (d v) around 1 by sqrt(2 / d), so
    a ratio below `smallest_seen` is told from none in a few cases of a hundred only.

    One round says little: signal that keeps its direction adds up like T over T rounds and noise
    like sqrt(T), so rounds that each look like nothing can carry a run. The sum of the means, with
    the sum of their noise powers, is therefore followed too. (Phones pull back what noise has put
    into the model; where that is most of what they do, the sum of the means shrinks again.)

    Args:
      plan: of the run.
    """

    def __init__(self, plan: PrivacyPlan) -> None:
        """Has heard nothing yet."""
        self._plan = plan
        self._total = np.zeros(plan.dimension)
        self._total_power = 0.0

    def hear(
        self, total: NDArray[np.uint32], key: RoundKey, survivors: int
    ) -> tuple[float, float] | None:
        """Takes in one opened sum.

        Args:
          total: as opened, shape (padded dimension,).
          key: of its round.
          survivors: phones in it.

        Returns:
          The ratio of this round and that of all rounds so far; None without noise.
        """
        power = noise_norm(self._plan, survivors) ** 2
        if power == 0:
            return None
        mean = self._plan.decode(total, rotation_seed=rotation_seed(key))
        self._total += mean
        self._total_power += power
        return _ratio(mean, power), _ratio(self._total, self._total_power)


def smallest_seen(dimension: int) -> float:
    """Smallest signal to noise that is told from none: where |mean|^2 is two deviations up.

    |mean|^2 / (d v) - 1 > 2 sqrt(2 / d), so the ratio of lengths exceeds (8 / d)^(1/4).
    """
    return float((8 / dimension) ** 0.25)


def _ratio(mean: NDArray[np.float64], noise_power: float) -> float:
    return math.sqrt(max(0.0, float(mean @ mean) / noise_power - 1))


def open_sum(state: ServerState, job: Job, key: RoundKey, total: NDArray[np.uint32]) -> ServerState:
    """Decodes the sum to a mean over the expected cohort and takes one server step.

    The divisor is the plan's, never the number that replied.
    """
    mean = job.plan.decode(total, rotation_seed=rotation_seed(key))
    optimizer = job.server.build().apply(state.optimizer, mean)
    return ServerState(optimizer=optimizer, completed=state.completed + 1)

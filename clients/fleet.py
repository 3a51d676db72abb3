"""The shard of phones that one Flower node hosts: who joins, what leaves.

Each phone follows its own copy of the plan. It tosses its own coin, keeps count of the inputs it
has sent and refuses beyond its quota, refuses a cohort below its floor and a round that it does not
recognise, and answers each round once: a repeated request is refused, never recomputed, since fresh
noise over the same delta would let the noise be averaged away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.job import Job, check_key
from fedspeech.messages import Counts, ProtectedUpdate, Roster, RosterRequest, UpdateRequest
from fedspeech.privacy.encoding import from_ring
from fedspeech.round import participation, privatize_phone
from fedspeech.secagg import ideal
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.vectors import Delta


@dataclass(frozen=True, eq=False)
class FleetState:
    """What a shard must remember between messages; Flower keeps it in the node's context.

    Attributes:
      inputs_sent: masked inputs sent by each phone of the shard, shape (phones,), int64.
      rid: of the round for which phones last joined; 16 bytes, or empty.
      joined: phones that joined it, sorted.
      answered: whether that round was answered.
      last: (round, attempt) last joined; only later ones are accepted.
    """

    inputs_sent: NDArray[np.int64]
    rid: bytes = b""
    joined: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    answered: bool = False
    last: tuple[int, int] = (-1, 0)

    @classmethod
    def fresh(cls, num_phones: int) -> FleetState:
        """State of phones that have never sent anything."""
        return cls(inputs_sent=np.zeros(num_phones, dtype=np.int64))


class Fleet:
    """The phones of one shard.

    Args:
      job: the shard's own copy.
      shard: which part of the population.

    Raises:
      ScenarioError: if the job's arrays are missing or not its own.
      ProtocolAbort: if the shard is not one of the job's.
    """

    def __init__(self, job: Job, shard: int) -> None:
        """Maps the phones' data."""
        if not 0 <= shard < job.num_shards:
            raise ProtocolAbort(f"shard must be in [0, {job.num_shards}), got {shard}")
        self._job = job
        self._shard = shard
        self._phones = job.shard_phones(shard)
        self._arrays = job.load_arrays()
        self._adapter = job.adapter.build()
        self._entropy = job.entropy()

    @property
    def num_phones(self) -> int:
        """Phones in this shard."""
        return len(self._phones)

    def counts(self) -> Counts:
        """Answers how many phones are here."""
        return Counts(
            shard=self._shard, num_shards=self._job.num_shards, num_phones=self.num_phones
        )

    def join(self, request: RosterRequest, state: FleetState) -> tuple[Roster, FleetState]:
        """Lets each phone toss its coin.

        Returns:
          The phones that join and have quota left, and the state to keep.

        Raises:
          ProtocolAbort: for a round that is not the phones' own, not of their plan, or not later
            than the last one.
        """
        key, plan = request.key, self._job.plan
        check_key(self._job, key)
        if key.round >= plan.rounds:
            raise ProtocolAbort(
                f"round {key.round} is beyond the plan, which ends after {plan.rounds} rounds"
            )
        if (key.round, key.attempt) <= state.last:
            raise ProtocolAbort(
                f"round {key.round} attempt {key.attempt} is not later than "
                f"round {state.last[0]} attempt {state.last[1]}: a replayed request"
            )
        coins = participation(plan)
        cohort = coins.cohort(key.round, self._entropy)
        own = cohort[(cohort >= self._phones.start) & (cohort < self._phones.stop)]
        sent = state.inputs_sent[own - self._phones.start]
        own = own[np.array([coins.admits(int(count)) for count in sent], dtype=bool)]
        state = replace(
            state, rid=key.rid, joined=own, answered=False, last=(key.round, key.attempt)
        )
        return Roster(key=key, phones=own), state

    def update(
        self, request: UpdateRequest, state: FleetState
    ) -> tuple[ProtectedUpdate, FleetState]:
        """Trains the phones that joined and sums what they send.

        Returns:
          The protected sum of the shard's survivors, and the state to keep.

        Raises:
          ProtocolAbort: for a round that was not joined or was answered before, or a roster that
            does not list this shard's phones as they joined.
          CohortTooSmall: if the roster is below the phones' floor.
        """
        key, plan = request.key, self._job.plan
        check_key(self._job, key)
        if key.rid != state.rid:
            raise ProtocolAbort(f"round {key.round}: no phone of shard {self._shard} joined it")
        if state.answered:
            raise ProtocolAbort(f"round {key.round} was answered: no second answer is computed")
        roster = request.roster
        own = roster[(roster >= self._phones.start) & (roster < self._phones.stop)]
        if not np.array_equal(own, state.joined):
            raise ProtocolAbort(
                f"round {key.round}: the roster is not what shard {self._shard} sent"
            )
        if len(roster) < plan.min_cohort:
            raise CohortTooSmall(
                f"round {key.round}: a phone takes part among at least {plan.min_cohort} phones, "
                f"got {len(roster)}"
            )
        survivors = own[~self._dropped(key.round, own)]
        parameters = self._adapter.spec.unflatten(request.adapter)
        deltas = train_cohort(
            self._adapter,
            parameters,
            [self._arrays.phone(int(phone)) for phone in survivors],
            self._job.training,
            [stream(self._job.seed, "batches", key.round, int(phone)) for phone in survivors],
        )
        encoded = [
            privatize_phone(plan, delta, key, int(phone), self._entropy)
            for phone, delta in zip(survivors, deltas, strict=True)
        ]
        if self._job.eye:
            self._show_simulator(key.round, deltas, encoded)
        nothing = np.zeros(plan.padded_dimension, dtype=np.uint32)  # a shard may have no survivor
        total = ideal.partial_sum([nothing, *encoded], plan.bits)
        inputs_sent = state.inputs_sent.copy()
        inputs_sent[survivors - self._phones.start] += 1
        state = replace(state, inputs_sent=inputs_sent, answered=True)
        return ProtectedUpdate(key=key, survivors=survivors, total=total), state

    def _dropped(self, round_number: int, phones: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The simulator's schedule of phones that vanish before they send."""
        rate = self._job.plan.dropout_rate
        return np.array(
            [
                stream(self._job.seed, "dropout", round_number, int(p)).random() < rate
                for p in phones
            ],
            dtype=bool,
        )

    def _show_simulator(
        self, round_number: int, deltas: Sequence[Delta], encoded: Sequence[NDArray[np.uint32]]
    ) -> None:
        """Leaves what only a simulator may know where only the simulator looks."""
        plan = self._job.plan
        exact = np.zeros(plan.padded_dimension, dtype=np.int64)
        for vector in encoded:
            exact += from_ring(vector, plan.bits)
        norms = np.array([np.linalg.norm(delta.vector.astype(np.float64)) for delta in deltas])
        folder = Path(self._job.eye)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"round-{round_number:05d}-shard-{self._shard:03d}.npz",
                 exact_sum=exact, delta_norms=norms)  # fmt: skip

"""The shard of phones that one Flower node hosts: who joins, what they learn, what they add up to.

Each phone follows its own copy of the plan. It tosses its own coin, keeps count of the inputs it
has sent and refuses beyond its participation limit or too soon after its last one, refuses a cohort
below its minimum and a round that is not later than its last one. Which request is answered at all,
and when, is said by `clients.permissions`: each stage once, since fresh noise over the same delta
would let the noise be averaged away.

`ClientShard.join` and `ClientShard.update` are the whole exchange where secure aggregation is
simulated; `clients.masked` puts the stages of the protocol between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.state import ShardState
from fedspeech import messages
from fedspeech.cohorts import draw_cohort, groups_of, too_few
from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.job import Job
from fedspeech.messages import RoundKey
from fedspeech.privacy.encoding import from_ring
from fedspeech.round import privatize_phones
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.ring import ring_sum

BLOCK = 256
"""Phones whose vectors are held at once."""


class ClientShard:
    """The phones of one shard.

    Raises:
      ScenarioError: if the job's arrays are missing or not its own.
      ProtocolAbort: if the shard is not one of the job's.
    """

    def __init__(self, job: Job, shard: int) -> None:
        if not 0 <= shard < job.num_shards:
            raise ProtocolAbort(f"shard must be in [0, {job.num_shards}), got {shard}")
        self.job = job
        self.shard = shard
        self.phones = job.shard_phones(shard)
        self._arrays = job.load_arrays()
        self._query = job.query.on(self._arrays)
        self._entropy = job.entropy()

    def counts(self) -> messages.Counts:
        """Answers how many phones are here."""
        num_shards, num_phones = self.job.num_shards, len(self.phones)
        return messages.Counts(shard=self.shard, num_shards=num_shards, num_phones=num_phones)

    def enter(self, key: RoundKey, session: int, state: ShardState) -> ShardState:
        """Lets each phone toss its coin and enter the round.

        Returns:
          The state to keep: `joined` holds the phones that join and have participation limit left.

        Raises:
          ProtocolAbort: for a round that is not of the phones' plan, or not later than the last.
        """
        plan = self.job.plan
        if key.round >= plan.rounds:
            raise ProtocolAbort(
                f"round {key.number} is beyond the plan, which ends after {plan.rounds} rounds"
            )
        history = state.history.entering(key.round, session)
        if max(state.history.round, 0) // plan.window != key.round // plan.window:
            state = state.counting_anew()
        # A round has one toss, whatever session or id the server gives it: tossing again until a
        # phone comes would force its presence.
        tossed = key.round == state.history.round
        own = state.joined if tossed else self.own(draw_cohort(self.job, key))
        own = own[self._admitted(key.round, own, state)]
        called = len(own)
        # Who vanished after advertising is gone when the session restarts.
        own = self.answering(key, own, Stage.ADVERTISE if session == 0 else Stage.ACCEPT)
        if self.job.time is not None and self.job.simulation_only and session == 0:
            self._show_times(key.round, called, own)
        return replace(state, key=key, joined=own, history=history)

    def join(
        self, request: messages.CohortListRequest, state: ShardState
    ) -> tuple[messages.CohortList, ShardState]:
        """Says which phones join, and what state to keep; refuses what `enter` refuses."""
        state = self.enter(request.key, request.key.attempt, state)
        return messages.CohortList(key=request.key, phones=state.joined), state

    def update(
        self, request: messages.UpdateRequest, state: ShardState
    ) -> tuple[messages.ProtectedUpdate, ShardState]:
        """Trains the phones that joined and sums what they send.

        Raises:
          ProtocolAbort: for a cohort list that does not list this shard's phones as they joined.
          CohortTooSmall: if the cohort list is below the phones' minimum.
        """
        key, plan = request.key, self.job.plan
        cohort_list = request.cohort_list
        # The coins of these phones decide who takes part, and not the server's list.
        if not np.array_equal(self.own(cohort_list), state.joined):
            raise ProtocolAbort(
                f"round {key.number}: the cohort list is not what shard {self.shard} sent"
            )
        if short := too_few(self.job, key, cohort_list, "are listed", plan.min_cohort):
            raise CohortTooSmall(
                f"round {key.number}: a phone takes part among at least {plan.min_cohort} phones: "
                f"{short}"
            )
        reporting = self.answering(key, state.joined, Stage.MASK)
        # A shard may host none of a group.
        totals = np.zeros((plan.groups, plan.vector_length), dtype=np.uint32)
        for own, block in self.blocks(request, reporting):
            for group, total in enumerate(totals):
                of_group = groups_of(self.job, key, own) == group
                mine = block if of_group.all() else block[of_group]
                totals[group] = ring_sum([total, mine.sum(axis=0, dtype=np.uint32)], plan.bits)
        total = totals.reshape(-1)
        update = messages.ProtectedUpdate(key=key, reporting=reporting, total=total)
        return update, state.counting(reporting, key.round)

    def _admitted(
        self, round_number: int, phones: NDArray[np.int64], state: ShardState
    ) -> NDArray[np.bool_]:
        """Which of some phones may send one more input, each by its own memory, same shape."""
        admits = self.job.plan.admits
        # Phones with the same memory give the same answer, and most have the same.
        memories = state.sent_by(phones) << 32 | state.last_sent_by(phones) + 1
        known, which = np.unique(memories, return_inverse=True)
        answers = [
            admits(memory >> 32, round_number - last if (last := memory % 2**32 - 1) >= 0 else None)
            for memory in known.tolist()
        ]
        return np.array(answers, dtype=bool)[which]

    # What both ways of summing share.

    def own(self, phones: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some phones that this shard hosts."""
        return phones[(phones >= self.phones.start) & (phones < self.phones.stop)]

    def answering(
        self, key: RoundKey, phones: NDArray[np.int64], stage: Stage
    ) -> NDArray[np.int64]:
        """Those of some phones that, by the simulator's schedule, are there for a stage."""
        answering: NDArray[np.int64] = phones[self.job.last_stages(key.round, phones) >= stage]
        return answering

    def blocks(
        self, request: messages.UpdateRequest | messages.MaskRequest, phones: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
        """Some phones and what they contribute, encoded and noised, block by block.

        Shapes (phones,) and (phones, vector length).

        Raises:
          ProtocolAbort: if phones may not clip to this norm.
        """
        key, plan = request.key, self.job.plan
        if not plan.accepts(request.clip_norm):
            raise ProtocolAbort(
                f"round {key.number}: the plan does not clip to clip_norm={request.clip_norm}"
            )
        arrays = self.job.as_of(self._arrays, key.round)
        exact, norms = np.zeros((plan.groups, plan.vector_length), dtype=np.int64), []
        for start in range(0, len(phones), BLOCK):
            block = phones[start : start + BLOCK]
            contributions = self._query.contributions_of(
                arrays, block, request.model, self.job.phone_rngs(key, block.tolist())
            )
            encoded = privatize_phones(
                plan, contributions, key, block.tolist(), self._entropy, request.clip_norm
            )
            if self.job.simulation_only:
                np.add.at(exact, groups_of(self.job, key, block), from_ring(encoded, plan.bits))
                norms += [np.linalg.norm(vector.astype(np.float64)) for vector in contributions]
            yield block, encoded
        if self.job.simulation_only:
            # What only a simulator may know lies where only the simulator looks.
            self._leave(
                "round", key.round, exact_sum=exact.reshape(-1), delta_norms=np.array(norms)
            )

    def _show_times(self, round_number: int, called: int, joined: NDArray[np.int64]) -> None:
        """Leaves for the simulator how many were called, how long those there take, who sends."""
        time, work = self.job.time, self.job.work
        assert time is not None
        seconds = [time.seconds(work, round_number, phone) for phone in joined.tolist()]
        last = self.job.last_stages(round_number, joined)
        self._leave(
            "times",
            round_number,
            called=np.array(called),
            seconds=np.array(seconds),
            sends=last >= Stage.MASK,
        )

    def _leave(self, what: str, round_number: int, **arrays: Any) -> None:
        folder = Path(self.job.simulation_only)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{what}-{round_number:05d}-shard-{self.shard:03d}.npz", **arrays)

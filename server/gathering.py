"""How the sum of a round comes together: simulated by an ideal party, or by the masked protocol.

Both go in two halves, because the ledger is charged between them: `join` asks who takes part, and
nothing that depends on speech leaves a phone; `collect` asks for what the charge pays for.
`Abandoned` says that a round comes to nothing; the next one has its own draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedspeech import messages
from fedspeech.cohorts import draw_cohort, too_few
from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.job import Job, model_sha256
from fedspeech.messages import RoundKey
from fedspeech.round import ServerState
from fedspeech.secagg.keys import KEY_BYTES
from fedspeech.secagg.masks import packed_bytes, unpack
from fedspeech.secagg.protocol import MAX_SESSIONS, SEALED_BYTES, table
from fedspeech.secagg.refusals import KINDS
from fedspeech.secagg.ring import ring_sum
from fedspeech.secagg.server import NoncesMissing, Server
from fedspeech.secagg.shamir import LIMBS
from server.shards import NobodyAnswers, Shards

AnswerT = TypeVar("AnswerT", bound=messages.MaskedAnswer)


class Abandoned(Exception):
    """A round comes to nothing, for a reason in words."""


class _Gathering:
    """One round.

    Attributes:
      cohort: phones that joined; None if nobody was asked.
      reporting: phones whose inputs arrived; None before.
    """

    cohort: int | None = None
    reporting: int | None = None

    def __init__(self, shards: Shards, job: Job, key: RoundKey, state: ServerState) -> None:
        self._shards, self._job, self._key, self._state = shards, job, key, state

    def _in_turn(self, phones: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some phones may join, as far as the server can tell, same shape.

        Turns are public. They keep the participation limit and the separation that a plan counts
        on, so a phone in its turn joins neither too often nor too soon.
        """
        if self._job.plan.participation != "round_robin":
            return np.ones(len(phones), dtype=bool)
        return np.isin(phones, draw_cohort(self._job, self._key))


class IdealGathering(_Gathering):
    """One round whose sum an ideal party takes: simulated."""

    def join(self) -> None:
        """Asks who takes part."""
        request = messages.CohortListRequest(key=self._key)
        cohort_lists, failed = self._shards.ask(
            "query.cohort_list", request, messages.CohortList, self._key, self._check_turns
        )
        self._cohort_list = np.concatenate([answer.phones for answer in cohort_lists])
        self.cohort = len(self._cohort_list)
        minimum = self._job.plan.min_cohort
        short = self._short(self._cohort_list, "joined", minimum)
        if failed or short:
            raise Abandoned(failed or short)

    def collect(self) -> NDArray[np.uint32]:
        """Returns the sum of what they send, mod 2^bits, shape (groups * vector length,)."""
        plan = self._job.plan
        request = messages.UpdateRequest(
            key=self._key,
            model=self._state.sent,
            clip_norm=self._state.clip_norm,
            cohort_list=self._cohort_list,
        )
        updates, failed = self._shards.ask(
            "train", request, messages.ProtectedUpdate, self._key, self._check_update
        )
        reporting = np.concatenate([update.reporting for update in updates])
        self.reporting = len(reporting)
        short = self._short(reporting, "reported", plan.min_reporting)
        if failed or short:
            raise Abandoned(failed or short)
        return ring_sum([update.total for update in updates], plan.bits)

    def _short(self, phones: NDArray[np.int64], did: str, minimum: int) -> str:
        """Why some phones are too few for a sum of each group; "" if they are not."""
        return too_few(self._job, self._key, phones, did, minimum)

    def _check_turns(self, cohort_list: messages.CohortList) -> None:
        """Checks that no phone joins a round that is not its own."""
        early = cohort_list.phones[~self._in_turn(cohort_list.phones)]
        if len(early):
            raise ProtocolAbort(f"phone {early[0]} joins, and it is not its turn")

    def _check_update(self, update: messages.ProtectedUpdate) -> None:
        """Checks that a shard's sum is one of this round's phones, in this plan's ring."""
        plan = self._job.plan
        if not np.isin(update.reporting, self._cohort_list).all():
            raise ProtocolAbort("a phone outside the cohort list sent an update")
        if len(update.total) != (length := plan.groups * plan.vector_length):
            raise ProtocolAbort(f"a sum must have {length} coordinates, got {len(update.total)}")
        if (update.total >= plan.modulus).any():
            raise ProtocolAbort(f"a sum must be below {plan.modulus} in every coordinate")


class MaskedGathering(_Gathering):
    """One round whose sum only the phones together can open."""

    def __init__(self, shards: Shards, job: Job, key: RoundKey, state: ServerState) -> None:
        super().__init__(shards, job, key, state)
        self._model_sha256 = model_sha256(state.sent, state.clip_norm)
        self._refused: Counter[str] = Counter()
        self._session = 0

    def join(self) -> None:
        """Has phones advertise, draw their graph and share.

        A nonce that stays away restarts the session without its phone. Nothing was sent that
        depends on speech, so nothing is charged for that.
        """
        for self._session in range(MAX_SESSIONS):
            self._server = Server(
                self._job.terms(self._key, self._session),
                self._job.identity_directory(),
                self._job.primitives(),
            )
            try:
                with self._or_abandoned():
                    self._advertise()
                    self._share(self._nonces())
            except NoncesMissing:
                continue
            return
        raise Abandoned(f"advertise: nonces stayed away in each of {MAX_SESSIONS} sessions")

    def collect(self) -> NDArray[np.uint32]:
        """Has phones mask, agree and unmask; returns the sum mod 2^bits, shape (vector length,).

        Raises:
          Abandoned: naming the stage at which a shard failed, too few were left or a phone lied;
            nothing was opened.
        """
        with self._or_abandoned():
            self._mask()
            return self._unmask()

    # The stages.

    def _advertise(self) -> None:
        answers = self._ask(
            "query.advertise", messages.AdvertiseRequest(**self._head), messages.Advertisements, {}
        )
        columns = _columns(answers)
        in_turn = self._in_turn(columns[0])
        self.cohort = int(in_turn.sum())
        self._server.close_cohort_list(*(column[in_turn] for column in columns))
        self._server.bind(self._job.purpose(self._key, self._model_sha256))

    def _nonces(self) -> tuple[bytes, ...]:
        cohort_list = self._server.cohort_list
        request = messages.CohortListNotice(
            **{**self._head, **cohort_list.columns},
            model_sha256=self._model_sha256,
            phones=cohort_list.members.ids,
        )
        width = 0 if self._server.context.parameters.complete else KEY_BYTES
        answers = self._ask("query.accept", request, messages.Nonces, {"nonces": (width,)})
        return self._server.close_nonces(*_columns(answers))

    def _share(self, nonces: tuple[bytes, ...]) -> None:
        request = messages.ShareRequest(**self._head, nonces=table(nonces, KEY_BYTES))
        shapes = {"sealed": (self._k, SEALED_BYTES)}
        answers = self._ask("query.share", request, messages.SealedBatch, shapes)
        self._server.close_shares(*_columns(answers))

    def _mask(self) -> None:
        server, plan, sharers = self._server, self._job.plan, self._server.sharers.ids
        commitments, signatures = server.seed_commitments()
        requests = []
        for shard in range(self._job.num_shards):
            hosted = self._job.shard_phones(shard)
            requests.append(
                messages.MaskRequest(
                    **self._head,
                    model=self._state.sent,
                    clip_norm=self._state.clip_norm,
                    sharers=sharers,
                    commitments=commitments,
                    signatures=signatures,
                    sealed=server.sealed_for(
                        sharers[(sharers >= hosted.start) & (sharers < hosted.stop)]
                    ),
                )
            )
        row = (packed_bytes(plan.vector_length, plan.bits),)
        for answer in self._ask("train.masked", requests, messages.MaskedVectors, {"packed": row}):
            words = unpack(answer.packed, plan.bits)
            for phone, vector, signature in zip(
                answer.phones.tolist(), words, answer.signatures, strict=True
            ):
                server.add_masked(phone, vector, signature.tobytes())
        self.reporting = len(server.close_masked())

    def _unmask(self) -> NDArray[np.uint32]:
        server = self._server
        agree = messages.AgreeRequest(
            **self._head, reporting=server.reporting.ids, signatures=server.masked_signatures()
        )
        quorum = server.close_agreement(
            *_columns(self._ask("query.agree", agree, messages.Agreements, {}))
        )
        unmask = messages.UnmaskRequest(
            **self._head, signers=quorum.members.ids, signatures=quorum.signatures
        )
        answers = self._ask(
            "query.unmask", unmask, messages.UnmaskShares, {"shares": (self._k, LIMBS)}
        )
        return server.open(*_columns(answers))

    # Behind the stages.

    @property
    def _head(self) -> dict[str, Any]:
        """What every request of the session begins with."""
        return {"key": self._key, "session": self._session}

    @property
    def _k(self) -> int:
        """Neighbors of each phone."""
        return self._server.context.parameters.neighbors

    def _ask(
        self,
        kind: str,
        request: messages.Message | Sequence[messages.Message],
        answer_type: type[AnswerT],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> list[AnswerT]:
        """Asks all shards; `shapes`: of one phone's rows, where a message leaves them open."""

        def check(answer: AnswerT) -> None:
            for name, shape in shapes.items():
                found = getattr(answer, name).shape[1:]
                if len(answer.phones) and found != shape:
                    raise ProtocolAbort(f"{name} of a phone must have shape {shape}, got {found}")

        answers, failed = self._shards.ask(kind, request, answer_type, self._key, check)
        for answer in answers:
            for kind_of_refusal, count in zip(KINDS, answer.refused.tolist(), strict=True):
                if count:
                    self._refused[kind_of_refusal.__name__] += count
        if failed:
            raise Abandoned(failed)
        return answers

    @contextmanager
    def _or_abandoned(self) -> Iterator[None]:
        """Turns what ends a session into what ends a round, with what phones refused."""
        try:
            yield
        except (NoncesMissing, NobodyAnswers):
            raise
        except (ProtocolAbort, CohortTooSmall, Abandoned) as error:
            refused = ", ".join(f"{name} x {count}" for name, count in self._refused.items())
            reason = f"{error} (phones refused: {refused})" if refused else str(error)
            raise Abandoned(reason) from None


def _columns(answers: Sequence[messages.MaskedAnswer]) -> list[NDArray[Any]]:
    """The phones of all shards and what they said, field by field, as `Server` takes them."""
    # A shard with no phone left sends empty tables, whose width may be zero and fits no other's.
    told = [answer for answer in answers if len(answer.phones)] or answers[:1]
    return [
        np.concatenate([getattr(answer, field.name) for answer in told])
        for field in fields(answers[0])
        if field.name not in ("key", "session", "refused")
    ]

"""The phones of a shard in a masked session: one message per stage, secrets kept in between.

A node may be a fresh process at each stage, so what its phones must remember travels in
`SessionState`: secrets of this one session, and the public lists that the phones have seen. A phone
that refuses leaves the session, its secrets are not kept, and the answer counts it by the name of
its refusal.

Every stage but the first is asked for once, in order and in the session that the phones are in:
`clients.permissions.require_turn` holds that before `MaskedShard.answer` is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clients.client_shard import ClientShard
from clients.state import SessionState, ShardState
from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.job import model_sha256
from fedspeech.messages import SessionMessage
from fedspeech.secagg.client import Phone, mask_vectors
from fedspeech.secagg.exchange import Advertisement, Inbox, Quorum, SealedShares
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, Identity
from fedspeech.secagg.masks import Masks, pack, word_type
from fedspeech.secagg.protocol import (
    COHORT_LIST_COLUMNS,
    SEALED_BYTES,
    Bytes,
    CohortList,
    Members,
    Stage,
    rows,
    table,
)
from fedspeech.secagg.refusals import KINDS, Refusal
from fedspeech.secagg.shamir import LIMBS

ToldT = TypeVar("ToldT")
AnswerT = TypeVar("AnswerT", bound=messages.MaskedAnswer)
Seen = dict[str, Any]  # what phones saw at a stage and must be shown again: fields of SessionState


class MaskedShard:
    """A shard whose phones mask what they send.

    Raises:
      ScenarioError: if the phones' identities are missing.
    """

    def __init__(self, client_shard: ClientShard) -> None:
        self._client_shard = client_shard
        self._identity_directory = client_shard.job.identity_directory()
        self._primitives = client_shard.job.primitives()
        self._identities: dict[int, Identity] = {}  # of the session that is going on

    def answer(
        self,
        request: messages.MaskedRequest,
        stage: Stage,
        state: ShardState,
        session: SessionState,
    ) -> tuple[messages.MaskedAnswer, ShardState, SessionState]:
        """Answers one stage for all phones that are still there.

        Returns:
          The answer, and what the phones must remember: for ever, and within the session.

        Raises:
          ProtocolAbort: for what `ClientShard.enter` refuses, for another model than the session's,
            or one whose norm phones may not clip to.
        """
        if isinstance(request, messages.AdvertiseRequest):
            state = self._client_shard.enter(request.key, request.session, state)
            self._forget()
            numbers = state.joined.tolist()
            asked = _Asked(request, {number: self._phone(request, number) for number in numbers})
        else:
            asked = _Asked(request, self._phones(request, state, session, stage))
        answer, seen = self._answered(request, asked, session)
        kept = {number: asked.phones[number].save() for number in asked.there}
        if isinstance(request, messages.MaskRequest):
            # Counted whether or not the vectors arrive: a participation limit is of what was sent.
            state = state.counting(answer.phones, request.key.round)
        elif isinstance(request, messages.UnmaskRequest):
            kept = {}
            self._forget()
        return answer, state, replace(session, secrets=kept, **seen)

    def _answered(
        self, request: messages.MaskedRequest, asked: _Asked, session: SessionState
    ) -> tuple[messages.MaskedAnswer, Seen]:
        match request:
            case messages.AdvertiseRequest():
                columns = Advertisement.columns(asked.each(lambda phone: phone.advertise()))
                return asked.answer(messages.Advertisements, **columns), {}
            case messages.CohortListNotice():
                return self._accept(request, asked)
            case messages.ShareRequest():
                nonces = tuple(rows(request.nonces))
                told = asked.each(lambda phone: phone.share(nonces))
                answer = asked.answer(messages.SealedBatch, **SealedShares.columns(told))
                return answer, {"nonces": nonces}
            case messages.MaskRequest():
                return self._mask(request, asked, session)
            case messages.AgreeRequest():
                return self._agree(request, asked)
            case messages.UnmaskRequest():
                return self._unmask(request, asked)

    def _accept(
        self, request: messages.CohortListNotice, asked: _Asked
    ) -> tuple[messages.Nonces, Seen]:
        """The phones take the cohort list and reveal their nonces."""

        @functools.cache
        def cohort_list() -> CohortList:  # read once, and refused by each phone if it cannot be
            columns = {name: getattr(request, name) for name in COHORT_LIST_COLUMNS}
            return CohortList(members=Members(request.phones), **columns)

        purpose = self._client_shard.job.purpose(request.key, request.model_sha256)
        nonces = asked.each(lambda phone: phone.accept(cohort_list(), purpose))
        width = len(nonces[0]) if nonces else KEY_BYTES
        # A shard whose phones all stayed away refused nothing, and stays in the round.
        seen: Seen = {}
        if asked.there or not asked.phones:
            seen = {"cohort_list": cohort_list(), "model_sha256": request.model_sha256}
        return asked.answer(messages.Nonces, nonces=table(nonces, width)), seen

    def _mask(
        self, request: messages.MaskRequest, asked: _Asked, session: SessionState
    ) -> tuple[messages.MaskedVectors, Seen]:
        """The phones train on the model that the session is for, and mask."""
        model = model_sha256(request.model, request.clip_norm)
        # A shard whose phones are all gone has kept no model to compare.
        if asked.phones and model != session.model_sha256:
            raise ProtocolAbort(f"round {request.key.number}: not the model of this session")
        plan, sharers = self._client_shard.job.plan, Members(request.sharers)
        own = self._client_shard.own(request.sharers).tolist()
        # Of a row that is missing its phone gets zeros, which do not open: it alone refuses.
        sealed_for = dict(zip(own, request.sealed, strict=False))

        def masks_of(phone: Phone) -> tuple[bytes, Masks]:
            nothing = np.zeros((len(phone.neighbors), SEALED_BYTES), np.uint8)
            inbox = Inbox(
                sharers=sharers,
                sealed=sealed_for.get(phone.number, nothing),
                commitments=_of_neighbors(phone, sharers, request.commitments),
                signatures=_of_neighbors(phone, sharers, request.signatures),
            )
            return phone.mask(inbox)

        told = asked.each(masks_of)
        # After the inbox: a phone that refuses it trains nothing, and no vector of it exists.
        there = np.array(asked.there, dtype=np.int64)
        blocks = self._client_shard.blocks(request, there)
        encoded = [row for _, block in blocks for row in block]
        words = mask_vectors(encoded, [masks for _, masks in told], self._primitives, plan.bits)
        shape = (len(words), plan.vector_length)
        masked = np.array(words, word_type(plan.bits)).reshape(shape)  # there may be none
        answer = asked.answer(
            messages.MaskedVectors,
            packed=pack(masked, plan.bits),
            signatures=table([signature for signature, _ in told], SIGNATURE_BYTES),
        )
        return answer, {"sharers": sharers}

    def _agree(
        self, request: messages.AgreeRequest, asked: _Asked
    ) -> tuple[messages.Agreements, Seen]:
        """The phones sign the one pair of lists that they will unmask for."""
        reporting = Members(request.reporting)

        def agreed(phone: Phone) -> bytes:
            return phone.agree(reporting, _of_neighbors(phone, reporting, request.signatures))

        signatures = table(asked.each(agreed), SIGNATURE_BYTES)
        return asked.answer(messages.Agreements, signatures=signatures), {"reporting": reporting}

    def _unmask(
        self, request: messages.UnmaskRequest, asked: _Asked
    ) -> tuple[messages.UnmaskShares, Seen]:
        """The phones give one share of each neighbor, and keep nothing."""
        quorum = Quorum(Members(request.signers), request.signatures)
        told = asked.each(lambda phone: phone.unmask(quorum))
        shares = [given for _, given in told]
        answer = asked.answer(
            messages.UnmaskShares,
            shares=np.array(shares) if shares else np.zeros((0, 0, LIMBS), np.uint32),
            signatures=table([signature for signature, _ in told], SIGNATURE_BYTES),
        )
        return answer, {}

    # Behind the stages.

    def _forget(self) -> None:
        """Drops what is kept for the length of a session."""
        self._primitives.forget()
        self._identities.clear()

    def _phone(self, message: SessionMessage, number: int) -> Phone:
        if number not in self._identities:
            self._identities[number] = self._identity_directory.identity(number)
        return Phone(
            number,
            self._identities[number],
            self._identity_directory,
            self._client_shard.job.terms(message.key, message.session),
            self._primitives,
        )

    def _phones(
        self, message: SessionMessage, state: ShardState, session: SessionState, now: Stage
    ) -> dict[int, Phone]:
        """The phones that are still there and do not vanish before this stage."""
        key = message.key
        numbers = np.array(sorted(session.secrets), dtype=np.int64)
        purpose = b""
        if session.cohort_list is not None:
            purpose = self._client_shard.job.purpose(key, session.model_sha256)
        return {
            number: self._phone(message, number).restore(
                session.secrets[number],
                stage=state.history.stage,
                cohort_list=session.cohort_list,
                purpose=purpose,
                nonces=session.nonces,
                sharers=session.sharers,
                reporting=session.reporting,
            )
            for number in self._client_shard.answering(key, numbers, now).tolist()
        }


class _Asked:
    """The phones that are asked at one stage, and what became of them.

    Attributes:
      phones: by number.
      there: numbers of those that answered.
    """

    def __init__(self, request: SessionMessage, phones: Mapping[int, Phone]) -> None:
        self._request, self.phones = request, phones
        self.there: list[int] = []
        self._refused = np.zeros(len(KINDS), np.int64)

    def each(self, ask: Callable[[Phone], ToldT]) -> list[ToldT]:
        """Asks every phone; returns what those say that do not refuse."""
        told = []
        for number, phone in self.phones.items():
            try:
                told.append(ask(phone))
            except Refusal as refusal:
                phone.erase()
                self._refused[KINDS.index(type(refusal))] += 1
            else:
                self.there.append(number)
        return told

    def answer(self, kind: type[AnswerT], **columns: Any) -> AnswerT:
        """Returns the shard's answer, once all phones were asked."""
        return kind(
            key=self._request.key,
            session=self._request.session,
            phones=np.array(self.there, dtype=np.int64),
            refused=self._refused,
            **columns,
        )


def _of_neighbors(phone: Phone, members: Members, table: NDArray[np.uint8]) -> Bytes:
    """A phone's neighbors' rows of a table over some members; zeros for those not among them."""
    numbers = np.array(phone.neighbors)
    there = members.present(phone.neighbors)
    found = np.zeros((len(numbers), table.shape[1]), np.uint8)
    found[there] = table[np.searchsorted(members.ids, numbers[there])]
    return found

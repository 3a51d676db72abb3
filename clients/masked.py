"""The phones of a shard in a masked session: one message per stage, secrets kept in between.

A node may be a fresh process at each stage, so what its phones must remember travels in
`SessionState`: secrets of this one session, and the public lists that the phones have seen. A phone
that refuses leaves the session, its secrets are not kept, and the answer counts it by the name of
its refusal.

Every stage but the first is asked for once, in order and in the session that the phones are in:
`clients.permissions.require_turn` holds that before these methods are called.
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
from fedspeech.errors import ProtocolAbort
from fedspeech.job import model_sha256
from fedspeech.messages import (
    Advertisements,
    AdvertiseRequest,
    Agreements,
    AgreeRequest,
    MaskedVectors,
    MaskRequest,
    Nonces,
    RosterNotice,
    SealedBatch,
    SessionMessage,
    ShareRequest,
    UnmaskRequest,
    UnmaskShares,
)
from fedspeech.secagg.client import Phone, mask_vectors
from fedspeech.secagg.exchange import Inbox, Quorum
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, Identity
from fedspeech.secagg.masks import Masks, pack, word_type
from fedspeech.secagg.protocol import (
    HASH_BYTES,
    SEALED_BYTES,
    Members,
    Roster,
    Stage,
    rows,
    table,
)
from fedspeech.secagg.refusals import KINDS, Refusal
from fedspeech.secagg.shamir import LIMBS

AnswerT = TypeVar("AnswerT")
Answered = tuple[list[int], list[AnswerT], NDArray[np.int64]]
States = tuple[ShardState, SessionState]


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

    def advertise(
        self, request: AdvertiseRequest, state: ShardState
    ) -> tuple[Advertisements, States]:
        """Stage advertise: the phones that join make keys.

        Raises:
          ProtocolAbort: for what `ClientShard.enter` refuses.
        """
        state = self._client_shard.enter(request.key, request.session, state)
        self._forget()
        phones = {number: self._phone(request, number) for number in state.joined.tolist()}
        there, told, refused = _each(phones, lambda phone: phone.advertise())
        answer = Advertisements(
            **_head(request, there, refused),
            seal_keys=table([one.seal_key for one in told], KEY_BYTES),
            mask_keys=table([one.mask_key for one in told], KEY_BYTES),
            commitments=table([one.commitment for one in told], HASH_BYTES),
            signatures=table([one.signature for one in told], SIGNATURE_BYTES),
        )
        return answer, (state, _kept(SessionState(), phones, there))

    def accept(
        self, request: RosterNotice, state: ShardState, session: SessionState
    ) -> tuple[Nonces, States]:
        """Stage advertise, second half: the phones take the roster and reveal their nonces."""
        phones = self._phones(request, state, session, Stage.ACCEPT)

        @functools.cache
        def roster() -> Roster:  # read once, and refused by each phone if it cannot be
            return Roster(
                members=Members(request.phones),
                seal_keys=request.seal_keys,
                mask_keys=request.mask_keys,
                commitments=request.commitments,
                signatures=request.signatures,
            )

        purpose = self._client_shard.job.purpose(request.key, request.model_sha256)
        there, nonces, refused = _each(phones, lambda phone: phone.accept(roster(), purpose))
        width = len(nonces[0]) if nonces else KEY_BYTES
        if there or not phones:
            session = replace(session, roster=roster(), model_sha256=request.model_sha256)
        answer = Nonces(**_head(request, there, refused), nonces=table(nonces, width))
        return answer, (state, _kept(session, phones, there))

    def share(
        self, request: ShareRequest, state: ShardState, session: SessionState
    ) -> tuple[SealedBatch, States]:
        """Stage share: the phones split their secrets among their neighbors."""
        phones = self._phones(request, state, session, Stage.SHARE)
        nonces = tuple(rows(request.nonces))
        there, told, refused = _each(phones, lambda phone: phone.share(nonces))
        sealed = [one.sealed for one in told]
        answer = SealedBatch(
            **_head(request, there, refused),
            sealed=np.array(sealed) if sealed else np.zeros((0, 0, SEALED_BYTES), np.uint8),
            commitments=table([one.commitment for one in told], HASH_BYTES),
            signatures=table([one.signature for one in told], SIGNATURE_BYTES),
        )
        session = replace(session, nonces=nonces)
        return answer, (state, _kept(session, phones, there))

    def mask(
        self, request: MaskRequest, state: ShardState, session: SessionState
    ) -> tuple[MaskedVectors, States]:
        """Stage mask: the phones train on the model that the session is for, and mask.

        Raises:
          ProtocolAbort: if this is another model, or phones may not clip to its norm.
        """
        phones = self._phones(request, state, session, Stage.MASK)
        model = model_sha256(request.model, request.clip_norm)
        if phones and model != session.model_sha256:
            raise ProtocolAbort(f"round {request.key.number}: not the model of this session")
        bits, sharers = self._client_shard.job.plan.bits, Members(request.sharers)
        hosted = dict(
            zip(self._client_shard.own(request.sharers).tolist(), request.sealed, strict=False)
        )

        def masks_of(phone: Phone) -> tuple[bytes, Masks]:
            k = len(phone.neighbors)
            inbox = Inbox(
                sharers=sharers,
                sealed=hosted.get(phone.number, np.zeros((k, SEALED_BYTES), np.uint8)),
                commitments=_of_neighbors(phone, sharers, request.commitments),
                signatures=_of_neighbors(phone, sharers, request.signatures),
            )
            return phone.mask(inbox)

        there, told, refused = _each(phones, masks_of)
        numbers = np.array(there, dtype=np.int64)
        encoded = self._client_shard.vectors(request, numbers)
        words = mask_vectors(encoded, [masks for _, masks in told], self._primitives, bits)
        shape = (len(words), self._client_shard.job.plan.vector_length)
        masked = np.array(words, word_type(bits)).reshape(shape)  # there may be none
        answer = MaskedVectors(
            **_head(request, there, refused),
            packed=pack(masked, bits),
            signatures=table([signature for signature, _ in told], SIGNATURE_BYTES),
        )
        session = replace(session, sharers=sharers)
        return answer, (state.counting(numbers), _kept(session, phones, there))

    def agree(
        self, request: AgreeRequest, state: ShardState, session: SessionState
    ) -> tuple[Agreements, States]:
        """Stage agree: the phones sign the one pair of lists that they will unmask for."""
        phones = self._phones(request, state, session, Stage.AGREE)
        survivors = Members(request.survivors)

        def agreed(phone: Phone) -> bytes:
            return phone.agree(survivors, _of_neighbors(phone, survivors, request.signatures))

        there, told, refused = _each(phones, agreed)
        answer = Agreements(
            **_head(request, there, refused), signatures=table(told, SIGNATURE_BYTES)
        )
        session = replace(session, survivors=survivors)
        return answer, (state, _kept(session, phones, there))

    def unmask(
        self, request: UnmaskRequest, state: ShardState, session: SessionState
    ) -> tuple[UnmaskShares, States]:
        """Stage unmask: the phones give one share of each neighbor, and keep nothing."""
        phones = self._phones(request, state, session, Stage.UNMASK)
        quorum = Quorum(Members(request.signers), request.signatures)
        there, told, refused = _each(phones, lambda phone: phone.unmask(quorum))
        self._forget()
        shares = [given for _, given in told]
        answer = UnmaskShares(
            **_head(request, there, refused),
            shares=np.array(shares) if shares else np.zeros((0, 0, LIMBS), np.uint32),
            signatures=table([signature for signature, _ in told], SIGNATURE_BYTES),
        )
        return answer, (state, replace(session, secrets={}))

    # Behind the stages.

    def _forget(self) -> None:
        """Drops what is kept for the length of a session."""
        self._primitives.forget()
        self._identities.clear()

    def _phone(self, message: SessionMessage, number: int) -> Phone:
        job = self._client_shard.job
        if number not in self._identities:
            self._identities[number] = self._identity_directory.identity(number)
        return Phone(
            number,
            self._identities[number],
            self._identity_directory,
            job.terms(message.key, message.session),
            self._primitives,
        )

    def _phones(
        self, message: SessionMessage, state: ShardState, session: SessionState, now: Stage
    ) -> dict[int, Phone]:
        """The phones that are still there and do not vanish before this stage."""
        key = message.key
        numbers = np.array(sorted(session.secrets), dtype=np.int64)
        purpose = b""
        if session.roster is not None:
            purpose = self._client_shard.job.purpose(key, session.model_sha256)
        phones = {}
        for number in self._client_shard.answering(key, numbers, now).tolist():
            phones[number] = self._phone(message, number).restore(
                session.secrets[number],
                stage=state.history.stage,
                roster=session.roster,
                purpose=purpose,
                nonces=session.nonces,
                sharers=session.sharers,
                survivors=session.survivors,
            )
        return phones


def _each(phones: Mapping[int, Phone], ask: Callable[[Phone], AnswerT]) -> Answered[AnswerT]:
    """Asks every phone: who answered, what, and how many refused for which reason."""
    there, answers, refused = [], [], np.zeros(len(KINDS), np.int64)
    for number, phone in phones.items():
        try:
            answers.append(ask(phone))
        except Refusal as refusal:
            phone.erase()
            refused[KINDS.index(type(refusal))] += 1
        else:
            there.append(number)
    return there, answers, refused


def _of_neighbors(phone: Phone, members: Members, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A phone's neighbors' rows of a table over some members; zeros for those not among them."""
    numbers = np.array(phone.neighbors)
    there = members.present(phone.neighbors)
    found = np.zeros((len(numbers), table.shape[1]), np.uint8)
    found[there] = table[np.searchsorted(members.ids, numbers[there])]
    return found


def _kept(session: SessionState, phones: Mapping[int, Phone], there: list[int]) -> SessionState:
    """The session with the secrets of the phones that are still in it, and of no other."""
    return replace(session, secrets={number: phones[number].save() for number in there})


def _head(request: SessionMessage, there: list[int], refused: NDArray[np.int64]) -> dict[str, Any]:
    """What every answer begins with."""
    return {
        "key": request.key,
        "session": request.session,
        "phones": np.array(there, dtype=np.int64),
        "refused": refused,
    }

"""A whole session in one place: every phone, the server, and who vanishes when.

The text to read after `protocol`; also what a simulation without messages, the tests and the
benchmark run. `clients` and `server` do the same over messages, shard by shard.

    phones = IdentityDirectory(os.urandom(32), b"example", 5)
    vectors = {phone: np.arange(4, dtype=np.uint32) for phone in range(5)}
    found = sum_vectors(vectors, terms=terms, purpose=bytes(32), identities=phones)
    found.total  # five times the vector, mod 2^bits
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fedspeech.errors import ProtocolAbort
from fedspeech.secagg.client import Phone, mask_vectors
from fedspeech.secagg.exchange import Advertisement, SealedShares
from fedspeech.secagg.graph import Graph
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, Directory, Identity
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import (
    MAX_SESSIONS,
    Context,
    Members,
    SessionTerms,
    Stage,
    session_round_id,
    table,
)
from fedspeech.secagg.ring import RingVector
from fedspeech.secagg.server import NoncesMissing, Server
from fedspeech.secagg.shamir import LIMBS


class Identities(Directory, Protocol):
    """Who knows both sides of every identity: a simulator."""

    def identity(self, phone: int) -> Identity:
        """Returns what a phone signs with."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """What a session came to.

    Attributes:
      total: the sum of the survivors' vectors mod 2^bits, shape (dimension,), uint32.
      sharers: who shared, and masked with each other.
      survivors: whose vectors are in it.
      sessions: started, the last one included.
    """

    total: RingVector
    sharers: Members
    survivors: Members
    context: Context
    graph: Graph
    sessions: int


LastStage = Callable[[int], Stage]
Phones = Mapping[int, Phone]


def stays(phone: int) -> Stage:
    """Nobody vanishes."""
    return Stage.UNMASK


def sum_vectors(
    vectors: Mapping[int, RingVector],
    *,
    terms: SessionTerms,
    purpose: bytes,
    identities: Identities,
    last_stage: LastStage = stays,
    primitives: Primitives | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Opened:
    """Sums ring vectors so that the server sees the sum only.

    Args:
      vectors: of each phone, shape (dimension,), uint32, below 2^bits; left as they are.
      terms: of the round; each session of it gets a round id of its own, derived from this one.
      purpose: 32 bytes, hash of whatever else must be alike.
      identities: of all phones.
      last_stage: the last stage that a phone answers before it vanishes.
      primitives: what to compute with; None: each thing where it is asked for.
      random: secret bytes; the operating system's, except in tests with fixed keys.

    Raises:
      ProtocolAbort, CohortTooSmall: naming the stage at which too few phones were left, or at which
        one lied. Nothing was opened.
    """
    primitives = primitives or Primitives()
    present = [phone for phone in vectors if last_stage(phone) >= Stage.ADVERTISE]
    for session in range(MAX_SESSIONS):
        own_terms = replace(terms, round_id=session_round_id(terms.round_id, session))
        server = Server(own_terms, identities, primitives)
        phones = {
            number: Phone(
                number, identities.identity(number), identities, own_terms, primitives, random
            )
            for number in present
        }
        try:
            nonces = _advertise(server, phones, purpose, last_stage)
        except NoncesMissing as missing:
            present = missing.present.tolist()
            continue
        _share(server, phones, nonces, last_stage)
        _mask(server, phones, vectors, last_stage, primitives)
        total = _unmask(server, phones, last_stage)
        return Opened(
            total=total,
            sharers=server.sharers,
            survivors=server.survivors,
            context=server.context,
            graph=server.graph,
            sessions=session + 1,
        )
    raise ProtocolAbort(f"advertise: nonces were missing in each of {MAX_SESSIONS} sessions")


def _there(members: Members, last_stage: LastStage, stage: Stage) -> list[int]:
    """Who of a list has not vanished before a stage."""
    return [phone for phone in members.ids.tolist() if last_stage(phone) >= stage]


def _advertise(
    server: Server, phones: Phones, purpose: bytes, last_stage: LastStage
) -> tuple[bytes, ...]:
    told = [phone.advertise() for phone in phones.values()]
    numbers = np.array([one.phone for one in told], dtype=np.int64)
    roster = server.close_roster(numbers, **Advertisement.columns(told))
    context = server.bind(purpose)
    there = _there(roster.members, last_stage, Stage.ACCEPT)
    nonces = [phones[number].accept(roster, purpose) for number in there]
    width = 0 if context.parameters.complete else KEY_BYTES
    return server.close_nonces(np.array(there, dtype=np.int64), table(nonces, width))


def _share(
    server: Server, phones: Phones, nonces: tuple[bytes, ...], last_stage: LastStage
) -> None:
    there = _there(server.roster.members, last_stage, Stage.SHARE)
    told = [phones[number].share(nonces) for number in there]
    server.close_shares(np.array(there, dtype=np.int64), *SealedShares.columns(told).values())


def _mask(
    server: Server,
    phones: Phones,
    vectors: Mapping[int, RingVector],
    last_stage: LastStage,
    primitives: Primitives,
) -> None:
    there = _there(server.sharers, last_stage, Stage.MASK)
    told = [phones[number].mask(server.inbox(number)) for number in there]
    words = mask_vectors(
        [vectors[number] for number in there],
        [masks for _, masks in told],
        primitives,
        server.context.terms.bits,
    )
    for number, masked, (signature, _) in zip(there, words, told, strict=True):
        server.add_masked(number, masked, signature)
    server.close_masked()


def _unmask(server: Server, phones: Phones, last_stage: LastStage) -> RingVector:
    there = _there(server.survivors, last_stage, Stage.AGREE)
    signatures = [
        phones[number].agree(server.survivors, server.neighbors_signatures(number))
        for number in there
    ]
    quorum = server.close_agreement(
        np.array(there, dtype=np.int64), table(signatures, SIGNATURE_BYTES)
    )
    there = [number for number in there if last_stage(number) >= Stage.UNMASK]
    told = [phones[number].unmask(quorum) for number in there]
    k = server.context.parameters.neighbors
    shares = np.array([given for _, given in told], np.uint32).reshape(len(there), k, LIMBS)
    signed = table([signature for signature, _ in told], SIGNATURE_BYTES)
    return server.open(np.array(there, dtype=np.int64), shares, signed)

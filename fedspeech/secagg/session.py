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
      total: the sum of the reporting phones' vectors mod 2^bits, shape (dimension,), uint32.
      sharers: who shared, and masked with each other.
      reporting: whose vectors are in it.
      sessions: started, the last one included.
    """

    total: RingVector
    sharers: Members
    reporting: Members
    context: Context
    graph: Graph
    sessions: int


LastStage = Callable[[int], Stage]


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
    for number in range(MAX_SESSIONS):
        own_terms = replace(terms, round_id=session_round_id(terms.round_id, number))
        server = Server(own_terms, identities, primitives)
        phones = {
            phone: Phone(
                phone, identities.identity(phone), identities, own_terms, primitives, random
            )
            for phone in present
        }
        session = _Session(server, phones, last_stage)
        try:
            nonces = session.advertise(purpose)
        except NoncesMissing as missing:
            present = missing.present.tolist()
            continue
        session.share(nonces)
        session.mask(vectors, primitives)
        return Opened(
            total=session.unmask(),
            sharers=server.sharers,
            reporting=server.reporting,
            context=server.context,
            graph=server.graph,
            sessions=number + 1,
        )
    raise ProtocolAbort(f"advertise: nonces were missing in each of {MAX_SESSIONS} sessions")


@dataclass(frozen=True, eq=False)
class _Session:
    """One start of a session: the server, and the phones that advertise."""

    server: Server
    phones: Mapping[int, Phone]
    last_stage: LastStage

    def _there(self, members: Members, stage: Stage) -> list[int]:
        """Who of a list has not vanished before a stage."""
        return [phone for phone in members.ids.tolist() if self.last_stage(phone) >= stage]

    def advertise(self, purpose: bytes) -> tuple[bytes, ...]:
        told = [phone.advertise() for phone in self.phones.values()]
        numbers = np.array([one.phone for one in told], dtype=np.int64)
        cohort_list = self.server.close_cohort_list(numbers, **Advertisement.columns(told))
        context = self.server.bind(purpose)
        there = self._there(cohort_list.members, Stage.ACCEPT)
        nonces = [self.phones[number].accept(cohort_list, purpose) for number in there]
        width = 0 if context.parameters.complete else KEY_BYTES
        return self.server.close_nonces(np.array(there, dtype=np.int64), table(nonces, width))

    def share(self, nonces: tuple[bytes, ...]) -> None:
        there = self._there(self.server.cohort_list.members, Stage.SHARE)
        told = [self.phones[number].share(nonces) for number in there]
        columns = SealedShares.columns(told)
        self.server.close_shares(np.array(there, dtype=np.int64), *columns.values())

    def mask(self, vectors: Mapping[int, RingVector], primitives: Primitives) -> None:
        server, there = self.server, self._there(self.server.sharers, Stage.MASK)
        told = [self.phones[number].mask(server.inbox(number)) for number in there]
        masks, bits = [masks for _, masks in told], server.context.terms.bits
        words = mask_vectors([vectors[number] for number in there], masks, primitives, bits)
        for number, masked, (signature, _) in zip(there, words, told, strict=True):
            server.add_masked(number, masked, signature)
        server.close_masked()

    def unmask(self) -> RingVector:
        server, there = self.server, self._there(self.server.reporting, Stage.AGREE)
        signatures = [
            self.phones[number].agree(server.reporting, server.neighbors_signatures(number))
            for number in there
        ]
        signed = table(signatures, SIGNATURE_BYTES)
        quorum = server.close_agreement(np.array(there, dtype=np.int64), signed)
        there = [number for number in there if self.last_stage(number) >= Stage.UNMASK]
        told = [self.phones[number].unmask(quorum) for number in there]
        k = server.context.parameters.neighbors
        shares = np.array([given for _, given in told], np.uint32).reshape(len(there), k, LIMBS)
        signed = table([signature for signature, _ in told], SIGNATURE_BYTES)
        return server.open(np.array(there, dtype=np.int64), shares, signed)

"""What a phone remembers of rounds, what it says, and what it is told, one phone at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES
from fedspeech.secagg.protocol import (
    HASH_BYTES,
    MAX_SESSIONS,
    SEALED_BYTES,
    Bytes,
    Members,
    Stage,
    table,
)
from fedspeech.secagg.refusals import Replayed


@dataclass(frozen=True, kw_only=True)
class History:
    """What a phone remembers from session to session, for ever.

    Attributes:
      round: last one entered; -1 before the first.
      session: last one of that round.
      stage: latest that was answered in that session; from MASK on, a vector of the round has left
        the phone.
    """

    round: int = -1
    session: int = 0
    stage: Stage = Stage.NONE

    def entering(self, round_number: int, session: int) -> History:
        """Returns the history with one more session, in which nothing is answered yet.

        Only later rounds, or later sessions of a round that no vector was sent in: two
        vectors of one round would be two samples of one delta.
        """
        if not 0 <= session < MAX_SESSIONS:
            raise Replayed(f"a round has sessions 0 to {MAX_SESSIONS - 1}, got {session}")
        if (round_number, session) <= (self.round, self.session if self.round >= 0 else -1):
            raise Replayed(
                f"round {round_number + 1} session {session} is not later than round "
                f"{self.round + 1} session {self.session}: a replayed request"
            )
        if round_number < 0:
            raise Replayed(f"rounds are numbered from 1, got {round_number + 1}")
        if round_number == self.round and self.stage >= Stage.MASK:
            raise Replayed(f"round {round_number + 1} already has a vector of this phone")
        return History(round=round_number, session=session)


@dataclass(frozen=True, kw_only=True, eq=False)
class Advertisement:
    """Stage advertise: what a phone says of itself; all of it is public.

    Attributes:
      seal_key: X25519 public key for sealing, 32 bytes.
      mask_key: X25519 public key for masks, 32 bytes.
      commitment: to the nonce, 32 bytes.
      signature: over the other fields, 64 bytes.
    """

    phone: int
    seal_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes

    @staticmethod
    def columns(told: Sequence[Advertisement]) -> dict[str, Bytes]:
        """What several phones say, as the columns of a cohort list."""
        return {
            "seal_keys": table([one.seal_key for one in told], KEY_BYTES),
            "mask_keys": table([one.mask_key for one in told], KEY_BYTES),
            **_signed_commitments(told),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedShares:
    """Stage share: what a phone leaves for its neighbors.

    Attributes:
      sealed: one row per neighbor, in the order of the graph, shape (k, 88), uint8.
      commitment: to the seed of the phone's own mask, 32 bytes.
      signature: over the commitment, 64 bytes.
    """

    sealed: Bytes
    commitment: bytes
    signature: bytes

    @staticmethod
    def columns(told: Sequence[SealedShares]) -> dict[str, Bytes]:
        """What several phones leave: sealed (m, k, 88), commitments (m, 32), signatures (m, 64)."""
        nothing = np.zeros((0, 0, SEALED_BYTES), np.uint8)
        sealed = np.array([one.sealed for one in told]) if told else nothing
        return {"sealed": sealed, **_signed_commitments(told)}


def _signed_commitments(told: Sequence[Advertisement | SealedShares]) -> dict[str, Bytes]:
    return {
        "commitments": table([one.commitment for one in told], HASH_BYTES),
        "signatures": table([one.signature for one in told], SIGNATURE_BYTES),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Inbox:
    """What a phone gets before it masks.

    Attributes:
      sharers: all phones that shared.
      sealed: what the neighbors sealed for this phone, in the order of the graph, shape (k, 88);
        rows of neighbors that did not share are not read.
      commitments: of the neighbors' seeds, shape (k, 32).
      signatures: over them, shape (k, 64).
    """

    sharers: Members
    sealed: Bytes
    commitments: Bytes
    signatures: Bytes


@dataclass(frozen=True, eq=False)
class Quorum:
    """Who signed one pair of lists.

    Attributes:
      members: the signers.
      signatures: theirs, in order, shape (m, 64), uint8.
    """

    members: Members
    signatures: Bytes

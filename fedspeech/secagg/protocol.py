"""What phones and server of a session mean alike: terms, cohort list, context, and what is signed.

Bonawitz et al. 2017 (ePrint 2017/281) on the sparse graph of Bell et al. 2020 (ePrint 2020/704),
hardened against a server that lies. Five stages; each phone answers each of them at most once:

1. *advertise*: a phone sends two one-use public keys and a commitment to a nonce, signed. It gets
   the cohort list of all phones, and sends its nonce. It gets all nonces, and draws the graph from
   them.
2. *share*: for each neighbor a sealed share of its own seed and of its mask key, with a signed
   commitment to the seed. It gets what was sealed for it, and the list of those who shared.
3. *mask*: the masked vector, with a signature over the list of those who shared. It gets the list
   of reporting phones, whose vectors arrived, and the signatures of those that are its neighbors.
4. *agree*: a signature over both lists. It gets a quorum of such signatures.
5. *unmask*: for each neighbor one share: of the seed if it survived, of the mask key if it dropped
   out, never both; signed as given for both lists. The sum is open.

Everything signed or hashed here has fields of fixed length in a fixed order, behind a label of its
own, so that no two statements share an encoding.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.secagg.graph import (
    Graph,
    GraphParameters,
    ThreatModel,
    complete_graph,
    complete_parameters,
    graph_parameters,
    ring_graph,
)
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, TAG_BYTES
from fedspeech.secagg.refusals import KeyReused, Malformed
from fedspeech.secagg.shamir import LIMBS, MAX_SHARES

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]

ROUND_ID_BYTES = 16
HASH_BYTES = 32
SHARE_BYTES = 2 * LIMBS * 4  # a share of the seed and one of the mask key
SEALED_BYTES = SHARE_BYTES + TAG_BYTES
ID_BYTES = 8
# Columns of a cohort list with the bytes of their entries, in the order in which they are hashed.
COHORT_LIST_COLUMNS: Mapping[str, int] = MappingProxyType(
    {
        "seal_keys": KEY_BYTES,
        "mask_keys": KEY_BYTES,
        "commitments": HASH_BYTES,
        "signatures": SIGNATURE_BYTES,
    }
)

# How often a phone may advertise in one round: nonces that stay away restart the session, and each
# start is a new draw of the graph, so the chance of a bad graph is priced that many times.
MAX_SESSIONS = 8


class Stage(IntEnum):
    """What a phone has answered, in order; NONE comes before the first."""

    NONE = 0
    ADVERTISE = 1
    ACCEPT = 2  # the second half of the first stage: one cohort list taken, the nonce revealed
    SHARE = 3
    MASK = 4
    AGREE = 5
    UNMASK = 6

    @property
    def word(self) -> str:
        """What the stage is called in messages; accepting the cohort list ends the first one."""
        return "advertise" if self == Stage.ACCEPT else self.name.lower()


@dataclass(frozen=True, kw_only=True)
class SessionTerms:
    """What each phone holds itself and takes from no message; part of the context of all keys.

    Attributes:
      round_id: 16 bytes that name this session and no other.
      dimension: coordinates of a vector.
      min_cohort: phones that a cohort list has at least.
      min_reporting: phones that share at least, and that a sum has at least.
      colluders: corrupt phones that may join, all of them.
      dropped_share: share of a cohort list that may vanish while the sum still opens.
      threat_model: "malicious" or "semi_honest": what the graph is made for.
    """

    round_id: bytes
    round: int
    dimension: int
    bits: int
    min_cohort: int
    min_reporting: int
    colluders: int = 0
    dropped_share: float = 0.1
    threat_model: ThreatModel = "malicious"

    def __post_init__(self) -> None:
        if len(self.round_id) != ROUND_ID_BYTES:
            raise ValueError(f"round_id must have {ROUND_ID_BYTES} bytes, got {len(self.round_id)}")
        if not 1 <= self.bits <= 32:
            raise ValueError(f"bits must be in 1..32, got bits={self.bits}")
        if not 2 <= self.min_reporting <= self.min_cohort:
            raise ValueError(
                "expected 2 <= min_reporting <= min_cohort, got "
                f"min_reporting={self.min_reporting}, min_cohort={self.min_cohort}"
            )
        if not 0 <= self.dropped_share < 1:
            raise ValueError(f"dropped_share must be in [0, 1), got {self.dropped_share}")

    def parameters(self, num_phones: int) -> GraphParameters:
        """Neighbors and threshold for a cohort list of this size.

        Where more phones may vanish than a quorum can spare, no ring is made: everybody is
        everybody's neighbor, and nothing can fall to pieces.

        Raises:
          ValueError: if so few phones cannot outvote colluders.
        """
        dropped, spare = int(self.dropped_share * num_phones), self.spare(num_phones)
        if 0 <= spare < dropped:
            found = complete_parameters(num_phones, self.colluders)
        else:
            found = graph_parameters(
                num_phones,
                colluders=self.colluders,
                dropped=dropped,
                threat_model=self.threat_model,
            )
        if found.neighbors > MAX_SHARES:
            raise ValueError(
                f"a secret has at most {MAX_SHARES} shares, and {num_phones} phones with "
                f"colluders={self.colluders} need {found.neighbors} neighbors"
            )
        return found

    def quorum(self, num_phones: int) -> int:
        """Signatures over one pair of lists without which nobody unmasks.

        More than (n + c) / 2: two quorums for two pairs would need more than n + c signatures, and
        only the c corrupt phones sign twice.
        """
        return (num_phones + self.colluders) // 2 + 1

    def spare(self, num_phones: int) -> int:
        """Phones that may vanish while a quorum and one more are left; may be negative."""
        return num_phones - self.quorum(num_phones) - 1

    def encode(self) -> bytes:
        """The terms as bytes, fixed layout."""
        # Integers of fixed width, the share in units of 1e-9: what is hashed has one encoding.
        numbers = np.array(
            [
                self.round, self.dimension, self.bits, self.min_cohort, self.min_reporting,
                self.colluders, round(self.dropped_share * 1e9), self.threat_model == "malicious",
            ],
            dtype=">i8",
        )  # fmt: skip
        return self.round_id + numbers.tobytes()


@dataclass(frozen=True, eq=False)
class Members:
    """A list of phones by number, shape (m,), int64, strictly increasing; else `Malformed`."""

    ids: Indices

    def __post_init__(self) -> None:
        # Copied before it is checked, so that nobody can change a list that a phone has accepted.
        ids = _own(self.ids)
        if not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or ids.ndim != 1:
            raise Malformed("a list of phones must be a one-dimensional int64 array")
        if ids.size and (ids[0] < 0 or (ids[1:] <= ids[:-1]).any()):  # a difference could wrap
            raise Malformed("a list of phones must be strictly increasing")
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the list, 32 bytes."""
        return hashlib.sha256(b"fedspeech secagg list" + _id_bytes(self.ids)).digest()

    @cached_property
    def _places(self) -> dict[int, int]:
        return {phone: place for place, phone in enumerate(self.ids.tolist())}

    def place(self, phone: int) -> int | None:
        """Where a phone stands in the list; None if it does not."""
        return self._places.get(phone)

    def present(self, phones: Sequence[int]) -> list[int]:
        """Which of some phones stand in the list, by their place among those."""
        places = self._places
        return [at for at, phone in enumerate(phones) if phone in places]

    def within(self, other: Members) -> bool:
        """Whether every phone stands in the other list too."""
        return self._places.keys() <= other._places.keys()


@dataclass(frozen=True, kw_only=True, eq=False)
class CohortList:
    """The advertisements of a session: sorted, complete, signed.

    Attributes:
      seal_keys: X25519 keys for sealing shares, shape (n, 32), uint8.
      mask_keys: X25519 keys for masks, shape (n, 32), uint8.
      commitments: SHA-256 of each phone's nonce, shape (n, 32), uint8.
      signatures: each phone's over its own advertisement, shape (n, 64), uint8.

    Raises:
      Malformed, KeyReused: for shapes or types that do not fit, or a key or commitment used twice.
    """

    members: Members
    seal_keys: Bytes
    mask_keys: Bytes
    commitments: Bytes
    signatures: Bytes

    def __post_init__(self) -> None:
        for name, width in COHORT_LIST_COLUMNS.items():
            object.__setattr__(self, name, _own(getattr(self, name)))
            check_bytes(name, getattr(self, name), len(self.members), width)
        # Over both kinds at once: a key may not come back as one of the other kind either.
        every_key = self.seal_rows + self.mask_rows
        if len(set(every_key)) < len(every_key):
            raise KeyReused("no key may stand twice in a cohort list")
        if len(set(rows(self.commitments))) < len(self.members):
            raise KeyReused("no commitment may stand twice in a cohort list")

    def __len__(self) -> int:
        return len(self.members)

    @property
    def columns(self) -> dict[str, Bytes]:
        """Everything but the phones' numbers, by name."""
        return {name: getattr(self, name) for name in COHORT_LIST_COLUMNS}

    @cached_property
    def seal_rows(self) -> list[bytes]:
        """The sealing keys, one per phone."""
        return rows(self.seal_keys)

    @cached_property
    def mask_rows(self) -> list[bytes]:
        """The mask keys, one per phone."""
        return rows(self.mask_keys)

    @cached_property
    def id_rows(self) -> list[bytes]:
        """The phones' numbers as eight bytes each."""
        data = _id_bytes(self.members.ids)
        return [data[at : at + ID_BYTES] for at in range(0, len(data), ID_BYTES)]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over every field of every phone, 32 bytes."""
        state = hashlib.sha256(b"fedspeech secagg roster" + len(self).to_bytes(8, "big"))
        state.update(_id_bytes(self.members.ids))
        for column in self.columns.values():
            state.update(np.ascontiguousarray(column).data)
        return state.digest()


@dataclass(frozen=True, eq=False)
class Context:
    """One session as its keys know it: terms, purpose and cohort list, bound by one hash.

    Attributes:
      purpose: 32 bytes: hash of whatever else must be alike, such as the model that was sent.
    """

    terms: SessionTerms
    purpose: bytes
    cohort_list: CohortList

    @cached_property
    def parameters(self) -> GraphParameters:
        """Neighbors and threshold, recomputed, never taken from a message."""
        return self.terms.parameters(len(self.cohort_list))

    @cached_property
    def quorum(self) -> int:
        """Signatures over one pair of lists without which nobody unmasks."""
        return self.terms.quorum(len(self.cohort_list))

    @cached_property
    def advertisements(self) -> list[bytes]:
        """What each phone signed in its advertisement."""
        cohort_list = self.cohort_list
        columns = zip(
            cohort_list.members.ids.tolist(), cohort_list.seal_rows, cohort_list.mask_rows,
            rows(cohort_list.commitments), strict=True,
        )  # fmt: skip
        round_id, number = self.terms.round_id, self.terms.round
        return [advertisement_statement(round_id, number, *column) for column in columns]

    @cached_property
    def digest(self) -> bytes:
        """The 32 bytes that every key and signature of the session is bound to."""
        k, t = self.parameters.neighbors, self.parameters.threshold
        return hashlib.sha256(
            b"fedspeech secagg context"
            + self.terms.encode()
            + self.purpose
            + np.array([len(self.cohort_list), k, t], dtype=">i8").tobytes()
            + self.cohort_list.digest
        ).digest()

    def graph(self, nonces: Sequence[bytes]) -> Graph:
        """Who shares with whom; drawn from all nonces unless everybody shares with everybody.

        SHA-256 of the context and every nonce in the cohort list's order seeds the ring.
        """
        if self.parameters.complete:
            return complete_graph(len(self.cohort_list))
        seed = hashlib.sha256(b"fedspeech secagg graph" + self.digest + b"".join(nonces)).digest()
        return ring_graph(self.cohort_list.members.ids, seed, self.parameters.neighbors)


@functools.lru_cache(maxsize=4)
def bind(terms: SessionTerms, purpose: bytes, cohort_list: CohortList) -> Context:
    """Returns the context of a session.

    It is a function of public values; the phones of one process that read one cohort list share it.
    """
    if not isinstance(purpose, bytes) or len(purpose) != HASH_BYTES:
        raise Malformed(f"a purpose must be {HASH_BYTES} bytes")
    return Context(terms, purpose, cohort_list)


# What is signed, and what keys are for.


def advertisement_statement(
    round_id: bytes,
    round_number: int,
    phone: int,
    seal_key: bytes,
    mask_key: bytes,
    commitment: bytes,
) -> bytes:
    """What a phone signs when it advertises: for one session of one round and for no other."""
    # Valid in two rounds, an advertisement would let phones of the first pad a cohort of the second
    # over its minimum.
    place = round_id + round_number.to_bytes(8, "big") + id_bytes(phone)
    return b"fedspeech secagg adv" + place + seal_key + mask_key + commitment


def seed_statement(context: bytes, phone: bytes, commitment: bytes) -> bytes:
    """What a phone signs when it shares: the hash of the seed of its own mask."""
    return b"fedspeech secagg seed" + context + phone + commitment


def masked_statement(context: bytes, phone: bytes, sharers: bytes) -> bytes:
    """What a phone signs with its masked vector: under which list of sharers it was masked."""
    return b"fedspeech secagg masked" + context + phone + sharers


def agreed_statement(context: bytes, sharers: bytes, reporting: bytes) -> bytes:
    """What a phone signs before it unmasks: the one pair of lists that it will answer for."""
    return b"fedspeech secagg surv" + context + sharers + reporting


def unmasked_statement(
    context: bytes, phone: bytes, sharers: bytes, reporting: bytes, shares: bytes
) -> bytes:
    """What a phone signs with the shares that it gives: nobody else can give others in its name."""
    given = hashlib.sha256(shares).digest()
    return b"fedspeech secagg open" + context + phone + sharers + reporting + given


def share_info(context: bytes, source: bytes, destination: bytes) -> bytes:
    """What the key of a sealed share is for; also what the share is bound to, with its place."""
    return b"fedspeech secagg share" + context + source + destination


def mask_info(context: bytes, low: bytes, high: bytes) -> bytes:
    """What the key of an edge's mask is for; the same at both ends."""
    return b"fedspeech secagg mask" + context + low + high


def commitment_to(secret: bytes) -> bytes:
    """SHA-256 of a nonce or seed of 32 bytes."""
    return hashlib.sha256(b"fedspeech secagg commit" + secret).digest()


def session_round_id(round_id: bytes, session: int) -> bytes:
    """Names one session of a round, 16 bytes; each start of a round has its own."""
    data = b"fedspeech secagg session" + round_id + session.to_bytes(8, "big")
    return hashlib.sha256(data).digest()[:ROUND_ID_BYTES]


# Bytes and checks.


def id_bytes(phone: int) -> bytes:
    """A phone's number as eight bytes."""
    return phone.to_bytes(ID_BYTES, "big")


def _id_bytes(ids: Indices) -> bytes:
    return ids.astype(">i8").tobytes()


def rows(table: Bytes) -> list[bytes]:
    """The rows of a byte table."""
    width, data = table.shape[1], np.ascontiguousarray(table).tobytes()
    return [data[at : at + width] for at in range(0, len(data), width)]


def table(entries: Sequence[bytes], width: int) -> Bytes:
    """Joins byte strings of one width to a table, shape (m, width), uint8."""
    return np.frombuffer(b"".join(entries), dtype=np.uint8).reshape(len(entries), width)


def _own(value: Any) -> Any:
    """A plain copy of an array, that nobody can change once it is checked; other things as is."""
    if not isinstance(value, np.ndarray):
        return value
    copy = np.array(value)
    copy.setflags(write=False)
    return copy


def check_bytes(name: str, value: object, count: int, width: int) -> None:
    """Checks that a value is a byte table of a certain shape."""
    if (
        not isinstance(value, np.ndarray)
        or value.dtype != np.uint8
        or value.shape != (count, width)
    ):
        raise Malformed(
            f"{name} must be uint8 of shape ({count}, {width}), got "
            f"{getattr(value, 'dtype', type(value).__name__)} of shape "
            f"{getattr(value, 'shape', None)}"
        )

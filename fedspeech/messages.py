"""The typed messages of the protocol, and how they travel in Flower records: the one door.

What leaves a phone is one of three kinds, and nothing else has a way out:

* `Counts`: how many phones a shard hosts. A property of the installation, never of data.
* `Roster`: a protocol message; the pseudonymous indices of the phones that take part.
* `ProtectedUpdate`: a sum of encoded, noised vectors mod 2^b over the phones of a shard that
  survived, and their indices.

Every field is checked on both sides: integers in range, unsigned 32-bit vectors of the agreed
length, 32-byte digests. There is no field for audio, text, embeddings, losses, norms or example
counts, no free-form dictionary, and no floating-point number from a phone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedspeech.errors import ProtocolAbort

PROTOCOL_VERSION = 1
MAX_PHONES = 1 << 31


@dataclass(frozen=True, kw_only=True)
class RoundKey:
    """What names one attempt at one round; every message of it carries the same key.

    Attributes:
      round: index from 0.
      attempt: index from 0; a retried round has fresh noise and a fresh rid.
      rid: 16 bytes, never used twice.
      context: SHA-256 over job, source code and round; phones refuse a context that they did not
        compute themselves.
    """

    round: int
    attempt: int
    rid: bytes
    context: bytes

    def __post_init__(self) -> None:
        """Checks ranges and lengths."""
        _check_integer("round", self.round, 1 << 31)
        _check_integer("attempt", self.attempt, 1 << 16)
        _check_bytes("rid", self.rid, 16)
        _check_bytes("context", self.context, 32)


@dataclass(frozen=True, kw_only=True)
class CountsRequest:
    """Server to shard: how many phones do you host?"""

    kind: ClassVar[str] = "counts-request"


@dataclass(frozen=True, kw_only=True)
class RosterRequest:
    """Server to shard: who takes part in this round? Phones toss their own coins."""

    kind: ClassVar[str] = "roster-request"
    key: RoundKey


@dataclass(frozen=True, kw_only=True, eq=False)
class UpdateRequest:
    """Server to shard: train on this global adapter and send the protected sum.

    Attributes:
      adapter: the global adapter, shape (d,), float32.
      roster: all phones of the round, sorted; each phone checks the floor itself.
    """

    kind: ClassVar[str] = "update-request"
    key: RoundKey
    adapter: NDArray[np.float32]
    roster: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        _check_vector("adapter", self.adapter, np.float32)
        _check_indices("roster", self.roster)
        if not np.isfinite(self.adapter).all():
            raise ProtocolAbort("adapter must be finite in every coordinate")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Shard to server: place of the shard and how many phones it hosts."""

    kind: ClassVar[str] = "counts"
    shard: int
    num_shards: int
    num_phones: int

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_integer("num_shards", self.num_shards, 1 << 20)
        _check_integer("shard", self.shard, self.num_shards)
        _check_integer("num_phones", self.num_phones, MAX_PHONES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Roster:
    """Shard to server: the phones that joined, by pseudonymous index, sorted."""

    kind: ClassVar[str] = "roster"
    key: RoundKey
    phones: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Checks the indices."""
        _check_indices("phones", self.phones)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProtectedUpdate:
    """Shard to server: the sum mod 2^b of the survivors' encoded and noised vectors.

    Attributes:
      survivors: indices of the phones in the sum, sorted.
      total: shape (padded dimension,), uint32.
    """

    kind: ClassVar[str] = "protected-update"
    key: RoundKey
    survivors: NDArray[np.int64]
    total: NDArray[np.uint32]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        _check_indices("survivors", self.survivors)
        _check_vector("total", self.total, np.uint32)

    def __repr__(self) -> str:
        """Shows counts and shape only."""
        return f"ProtectedUpdate(survivors={len(self.survivors)}, total={self.total.shape})"


Message = CountsRequest | RosterRequest | UpdateRequest | Counts | Roster | ProtectedUpdate
FROM_PHONES = (Counts, Roster, ProtectedUpdate)
MessageT = TypeVar(
    "MessageT", CountsRequest, RosterRequest, UpdateRequest, Counts, Roster, ProtectedUpdate
)


def _check_integer(name: str, value: object, stop: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < stop:
        raise ProtocolAbort(f"{name} must be an integer in [0, {stop}), got {value!r:.40}")


def _check_bytes(name: str, value: object, length: int) -> None:
    if not isinstance(value, bytes) or len(value) != length:
        raise ProtocolAbort(f"{name} must be {length} bytes, got {type(value).__name__}")


def _check_vector(name: str, value: object, dtype: type[np.generic]) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != 1:
        raise ProtocolAbort(
            f"{name} must be a one-dimensional {np.dtype(dtype).name} array, got "
            f"{getattr(value, 'dtype', type(value).__name__)} of shape "
            f"{getattr(value, 'shape', None)}"
        )


def _check_indices(name: str, value: object) -> None:
    _check_vector(name, value, np.int64)
    assert isinstance(value, np.ndarray)
    if value.size and (value[0] < 0 or value[-1] >= MAX_PHONES or (np.diff(value) <= 0).any()):
        raise ProtocolAbort(f"{name} must be strictly increasing phone indices")


def to_record(message: Message) -> RecordDict:
    """Puts a message into a Flower record.

    Raises:
      ProtocolAbort: if the object is not one of this module's messages.
    """
    if not isinstance(message, Message):
        raise ProtocolAbort(f"{type(message).__name__} is not a message of this protocol")
    config: dict[str, Any] = {"kind": message.kind, "version": PROTOCOL_VERSION}
    arrays: dict[str, Array] = {}
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, RoundKey):
            config.update({part.name: getattr(value, part.name) for part in fields(value)})
        elif isinstance(value, np.ndarray):
            arrays[field.name] = Array(value)
        else:
            config[field.name] = value
    return RecordDict({"message": ConfigRecord(config), "vectors": ArrayRecord(arrays)})


def from_record(record: RecordDict, expected: type[MessageT]) -> MessageT:
    """Reads a message and checks that it is of the expected kind, with exactly its fields.

    Raises:
      ProtocolAbort: naming what is missing, left over or of the wrong type.
    """
    if set(record) != {"message", "vectors"} or set(record.config_records) != {"message"}:
        raise ProtocolAbort(f"a message has the records message and vectors, got {sorted(record)}")
    values: dict[str, Any] = dict(record.config_records["message"])
    if values.pop("version", None) != PROTOCOL_VERSION:
        raise ProtocolAbort(f"the other side does not speak protocol version {PROTOCOL_VERSION}")
    if (kind := values.pop("kind", None)) != expected.kind:
        raise ProtocolAbort(f"expected a {expected.kind}, got {kind!r:.40}")
    for name, array in record.array_records["vectors"].items():
        values[name] = array.numpy()
    names = {field.name for field in fields(expected)}
    if "key" in names:
        parts = [field.name for field in fields(RoundKey)]
        if not set(parts) <= set(values):
            raise ProtocolAbort(f"a {kind} must carry {parts}, got {sorted(values)}")
        values["key"] = RoundKey(**{part: values.pop(part) for part in parts})
    if set(values) != names:
        raise ProtocolAbort(f"a {kind} must carry exactly {sorted(names)}, got {sorted(values)}")
    return expected(**values)

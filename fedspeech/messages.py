"""The typed messages of the protocol, and how they travel in Flower records: the one door.

What leaves a phone is one of three kinds, and nothing else has a way out:

* counts: `Counts`, how many phones a shard hosts. A property of the installation, never of data.
* protocol messages: the pseudonymous indices of the phones that take part (`Roster`), and the keys,
  nonces, sealed shares, signatures and shares of a masked session (`fedspeech.secagg`).
* protected updates: encoded, noised vectors mod 2^b, either each under its masks (`MaskedVectors`),
  or, where secure aggregation is simulated, as the sum over a shard (`ProtectedUpdate`).

Every field is checked on both sides: integers in range, integer arrays of the agreed type and
shape, 32-byte digests. There is no field for audio, text, embeddings, losses, norms or example
counts, no free-form dictionary, and no floating-point number from a phone.

`from_record` is the one place that reads what came from outside. Arrays travel as their bytes,
little-endian, beside the name of their type and their shape, and are read only if the bytes are
exactly as many as that shape needs: no claim of a sender makes the reader allocate. Whatever a
record holds, the reader raises `ProtocolAbort` and nothing else.

The file is longer than others on purpose: whoever asks what may leave a phone reads one file to its
end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedspeech.errors import ProtocolAbort
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES
from fedspeech.secagg.protocol import HASH_BYTES, MAX_SESSIONS, SEALED_BYTES
from fedspeech.secagg.refusals import KINDS
from fedspeech.secagg.shamir import LIMBS

PROTOCOL_VERSION = 5
MAX_PHONES = 1 << 31
MAX_REASON = 300  # characters of what the other side says, that reach a log, a row or a report

_BYTES = "little-endian bytes"  # Flower's field for how an array was serialized
_DTYPES = {
    kind: np.dtype(kind).newbyteorder("<") for kind in ("uint8", "uint32", "int64", "float32")
}


@dataclass(frozen=True, kw_only=True)
class RoundKey:
    """What names one attempt at one round; every message of it carries the same key.

    Attributes:
      round: index from 0; `number` is what a person reads.
      attempt: index from 0; a retried round has fresh noise and a fresh rid.
      round_id: 16 bytes, never used twice.
      context: SHA-256 over job, source code and round; phones refuse a context that they did not
        compute themselves.
    """

    round: int
    attempt: int
    round_id: bytes
    context: bytes

    def __post_init__(self) -> None:
        """Checks ranges and lengths."""
        _check_integer("round", self.round, 1 << 31)
        _check_integer("attempt", self.attempt, 1 << 16)
        _check_bytes("round_id", self.round_id, 16)
        _check_bytes("context", self.context, 32)

    @property
    def number(self) -> int:
        """Of the round as rows, reports and errors count, from 1."""
        return self.round + 1


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
    """Server to shard: contribute to the query under this model and send the protected sum.

    Attributes:
      model: of the query, for instance a global adapter, shape (any,), float32.
      clip_norm: L2 bound on the contribution in this round.
      roster: all phones of the round, sorted; each phone checks the floor itself.
    """

    kind: ClassVar[str] = "update-request"
    key: RoundKey
    model: NDArray[np.float32]
    clip_norm: float
    roster: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        _check_model(self.model)
        _check_positive("clip_norm", self.clip_norm)
        _check_indices("roster", self.roster)


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionMessage:
    """What every message of a masked session carries.

    Attributes:
      key: of the round.
      session: starts of the round before this one; nonces that stay away restart it.
    """

    key: RoundKey
    session: int

    def __post_init__(self) -> None:
        """Checks the range."""
        _check_integer("session", self.session, MAX_SESSIONS)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdvertiseRequest(SessionMessage):
    """Server to shard, masked: open a session of a round; phones that join make keys."""

    kind: ClassVar[str] = "advertise-request"


@dataclass(frozen=True, kw_only=True, eq=False)
class RosterNotice(SessionMessage):
    """Server to shard, masked: everybody's advertisement, and the model that is coming.

    Attributes:
      model_sha256: of the query's model and the clip norm.
      phones: all phones of the session, sorted, shape (n,).
      seal_keys: shape (n, 32).
      mask_keys: shape (n, 32).
      commitments: shape (n, 32).
      signatures: shape (n, 64).
    """

    kind: ClassVar[str] = "roster-notice"
    model_sha256: bytes
    phones: NDArray[np.int64]
    seal_keys: NDArray[np.uint8]
    mask_keys: NDArray[np.uint8]
    commitments: NDArray[np.uint8]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_bytes("model_sha256", self.model_sha256, HASH_BYTES)
        _check_indices("phones", self.phones)
        _check_advertisements(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShareRequest(SessionMessage):
    """Server to shard, masked: all nonces; draw the graph and share.

    Attributes:
      nonces: in the roster's order, shape (n, 32); none where everybody is everybody's neighbor.
    """

    kind: ClassVar[str] = "share-request"
    nonces: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_table("nonces", self.nonces, np.uint8, (None, KEY_BYTES))


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskRequest(SessionMessage):
    """Server to shard, masked: contribute under this model and send the masked vectors.

    Attributes:
      model: of the query, shape (any,), float32.
      clip_norm: L2 bound on the contribution in this round.
      sharers: all phones that shared, sorted, shape (m,).
      commitments: to their seeds, shape (m, 32).
      signatures: over them, shape (m, 64).
      sealed: for each phone of this shard in `sharers`, in order, what its neighbors sealed for
        it, shape (phones, k, 88).
    """

    kind: ClassVar[str] = "mask-request"
    model: NDArray[np.float32]
    clip_norm: float
    sharers: NDArray[np.int64]
    commitments: NDArray[np.uint8]
    signatures: NDArray[np.uint8]
    sealed: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_model(self.model)
        _check_positive("clip_norm", self.clip_norm)
        _check_indices("sharers", self.sharers)
        count = len(self.sharers)
        _check_table("commitments", self.commitments, np.uint8, (count, HASH_BYTES))
        _check_table("signatures", self.signatures, np.uint8, (count, SIGNATURE_BYTES))
        _check_table("sealed", self.sealed, np.uint8, (None, None, SEALED_BYTES))


@dataclass(frozen=True, kw_only=True, eq=False)
class AgreeRequest(SessionMessage):
    """Server to shard, masked: whose vectors arrived; sign if that can be.

    Attributes:
      survivors: sorted, shape (m,).
      signatures: theirs over the list of sharers, shape (m, 64).
    """

    kind: ClassVar[str] = "agree-request"
    survivors: NDArray[np.int64]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_indices("survivors", self.survivors)
        shape = (len(self.survivors), SIGNATURE_BYTES)
        _check_table("signatures", self.signatures, np.uint8, shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class UnmaskRequest(SessionMessage):
    """Server to shard, masked: a quorum of signatures over both lists; give the shares.

    Attributes:
      signers: sorted, shape (m,).
      signatures: theirs, shape (m, 64).
    """

    kind: ClassVar[str] = "unmask-request"
    signers: NDArray[np.int64]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_indices("signers", self.signers)
        shape = (len(self.signers), SIGNATURE_BYTES)
        _check_table("signatures", self.signatures, np.uint8, shape)


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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SessionAnswer(SessionMessage):
    """What every answer in a masked session carries.

    Attributes:
      phones: that answer, sorted, shape (m,).
      refused: how many others left the session for each of `refusals.KINDS`.
    """

    phones: NDArray[np.int64]
    refused: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_indices("phones", self.phones)
        _check_table("refused", self.refused, np.int64, (len(KINDS),))
        if (self.refused < 0).any():
            raise ProtocolAbort("refused must not be negative")

    def __repr__(self) -> str:
        """Shows counts only."""
        return f"{type(self).__name__}(phones={len(self.phones)}, refused={self.refused.sum()})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Advertisements(SessionAnswer):
    """Shard to server, masked: keys and commitments of the phones that join.

    Attributes:
      seal_keys: shape (m, 32).
      mask_keys: shape (m, 32).
      commitments: shape (m, 32).
      signatures: shape (m, 64).
    """

    kind: ClassVar[str] = "advertisements"
    seal_keys: NDArray[np.uint8]
    mask_keys: NDArray[np.uint8]
    commitments: NDArray[np.uint8]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_advertisements(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Nonces(SessionAnswer):
    """Shard to server, masked: what the phones had committed to.

    Attributes:
      nonces: shape (m, 32), or (m, 0) where everybody is everybody's neighbor.
    """

    kind: ClassVar[str] = "nonces"
    nonces: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_table("nonces", self.nonces, np.uint8, (len(self.phones), None))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SealedBatch(SessionAnswer):
    """Shard to server, masked: what each phone sealed for its neighbors.

    Attributes:
      sealed: shape (m, k, 88).
      commitments: to their seeds, shape (m, 32).
      signatures: over them, shape (m, 64).
    """

    kind: ClassVar[str] = "sealed-batch"
    sealed: NDArray[np.uint8]
    commitments: NDArray[np.uint8]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        count = len(self.phones)
        _check_table("sealed", self.sealed, np.uint8, (count, None, SEALED_BYTES))
        _check_table("commitments", self.commitments, np.uint8, (count, HASH_BYTES))
        _check_table("signatures", self.signatures, np.uint8, (count, SIGNATURE_BYTES))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaskedVectors(SessionAnswer):
    """Shard to server, masked: the phones' vectors under their masks.

    Attributes:
      packed: the words of each, `bits` of every word, shape (m, bytes).
      signatures: over the list of sharers, shape (m, 64).
    """

    kind: ClassVar[str] = "masked-vectors"
    packed: NDArray[np.uint8]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        _check_table("packed", self.packed, np.uint8, (len(self.phones), None))
        shape = (len(self.phones), SIGNATURE_BYTES)
        _check_table("signatures", self.signatures, np.uint8, shape)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Agreements(SessionAnswer):
    """Shard to server, masked: signatures over both lists.

    Attributes:
      signatures: shape (m, 64).
    """

    kind: ClassVar[str] = "agreements"
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        shape = (len(self.phones), SIGNATURE_BYTES)
        _check_table("signatures", self.signatures, np.uint8, shape)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UnmaskShares(SessionAnswer):
    """Shard to server, masked: one share of each neighbor, from each phone.

    Attributes:
      shares: shape (m, k, 9), uint32.
      signatures: over them and both lists, shape (m, 64).
    """

    kind: ClassVar[str] = "unmask-shares"
    shares: NDArray[np.uint32]
    signatures: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Checks types and lengths."""
        super().__post_init__()
        count = len(self.phones)
        _check_table("shares", self.shares, np.uint32, (count, None, LIMBS))
        _check_table("signatures", self.signatures, np.uint8, (count, SIGNATURE_BYTES))


MaskedAnswer = Advertisements | Nonces | SealedBatch | MaskedVectors | Agreements | UnmaskShares
MaskedRequest = (
    AdvertiseRequest | RosterNotice | ShareRequest | MaskRequest | AgreeRequest | UnmaskRequest
)
Message = (
    CountsRequest | RosterRequest | UpdateRequest | MaskedRequest
    | Counts | Roster | ProtectedUpdate | MaskedAnswer
)  # fmt: skip
MessageT = TypeVar("MessageT", bound=Message)


def _check_integer(name: str, value: object, stop: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < stop:
        raise ProtocolAbort(f"{name} must be an integer in [0, {stop}), got {value!r:.40}")


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise ProtocolAbort(f"{name} must be a positive number, got {value!r:.40}")


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


def _check_table(
    name: str, value: object, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> None:
    """Checks type and shape of an array; None stands for any length."""
    found = getattr(value, "shape", None)
    fits = (
        isinstance(value, np.ndarray)
        and value.dtype == dtype
        and value.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, value.shape, strict=True))
    )
    if not fits:
        raise ProtocolAbort(
            f"{name} must be a {np.dtype(dtype).name} array of shape {shape}, got "
            f"{getattr(value, 'dtype', type(value).__name__)} of shape {found}"
        )


def _check_model(value: NDArray[np.float32]) -> None:
    _check_vector("model", value, np.float32)
    if not np.isfinite(value).all():
        raise ProtocolAbort("model must be finite in every coordinate")


def _check_advertisements(message: RosterNotice | Advertisements) -> None:
    count = len(message.phones)
    _check_table("seal_keys", message.seal_keys, np.uint8, (count, KEY_BYTES))
    _check_table("mask_keys", message.mask_keys, np.uint8, (count, KEY_BYTES))
    _check_table("commitments", message.commitments, np.uint8, (count, HASH_BYTES))
    _check_table("signatures", message.signatures, np.uint8, (count, SIGNATURE_BYTES))


def _check_indices(name: str, value: object) -> None:
    _check_vector(name, value, np.int64)
    assert isinstance(value, np.ndarray)
    if value.size and (value[0] < 0 or value[-1] >= MAX_PHONES or (value[1:] <= value[:-1]).any()):
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
            arrays[field.name] = to_array(value)
        else:
            config[field.name] = value
    return RecordDict({"message": ConfigRecord(config), "vectors": ArrayRecord(arrays)})


def to_array(value: NDArray[Any]) -> Array:
    """Puts an array of one of the protocol's types into Flower's form."""
    data = value.astype(_DTYPES[value.dtype.name], order="C", copy=False).tobytes()
    return Array(dtype=value.dtype.name, shape=value.shape, stype=_BYTES, data=data)


def from_record(record: RecordDict, expected: type[MessageT]) -> MessageT:
    """Reads a message and checks that it is of the expected kind, with exactly its fields.

    Args:
      record: as it came; nothing in it is trusted.
      expected: which message it must be.

    Raises:
      ProtocolAbort: naming what is missing, left over, too large or of the wrong type; also for
        whatever else reading the record raises.
    """
    try:
        return _read(record, expected)
    except ProtocolAbort as error:
        raise ProtocolAbort(printable(str(error))) from None
    except Exception as error:  # no record that a stranger can build may end more than his part
        raise ProtocolAbort(
            printable(f"a {expected.kind} that cannot be read: {type(error).__name__}: {error}")
        ) from None


def printable(words: str) -> str:
    """What the other side says, cut and without control characters, fit for a log or a row."""
    cut = words if len(words) <= MAX_REASON else f"{words[:MAX_REASON]}..."
    return "".join(letter if letter.isprintable() else " " for letter in cut)


def _read(record: RecordDict, expected: type[MessageT]) -> MessageT:
    """Reads a message; a record that is not one may raise anything."""
    if set(record) != {"message", "vectors"} or set(record.config_records) != {"message"}:
        raise ProtocolAbort(f"a message has the records message and vectors, got {sorted(record)}")
    values: dict[str, Any] = dict(record.config_records["message"])
    if values.pop("version", None) != PROTOCOL_VERSION:
        raise ProtocolAbort(f"the other side does not speak protocol version {PROTOCOL_VERSION}")
    if (kind := values.pop("kind", None)) != expected.kind:
        raise ProtocolAbort(f"expected a {expected.kind}, got {kind!r:.40}")
    names = {field.name for field in fields(expected)}
    arrays = record.array_records["vectors"]
    parts = {field.name for field in fields(RoundKey)} if "key" in names else set()
    wanted, got = (names - {"key"}) | parts, {*values, *arrays}
    if wanted != got or set(values) & set(arrays):
        raise ProtocolAbort(f"a {kind} must carry exactly {sorted(wanted)}, got {sorted(got)}")
    values |= {name: from_array(name, array) for name, array in arrays.items()}
    if parts:
        values["key"] = RoundKey(**{part: values.pop(part) for part in parts})
    return expected(**values)


def from_array(name: str, array: Array) -> NDArray[Any]:
    """Inverts `to_array`; allocates no more than the bytes that came.

    Raises:
      ProtocolAbort: for a type that the protocol does not have, or a shape that is not that of the
        bytes.
    """
    dtype = _DTYPES.get(array.dtype)
    if dtype is None or array.stype != _BYTES:
        raise ProtocolAbort(
            f"{name} must be {_BYTES} of one of {sorted(_DTYPES)}, got {array.stype!r:.40} of "
            f"{array.dtype!r:.40}"
        )
    sides = array.shape
    if len(sides) > 3 or not all(0 <= side < MAX_PHONES for side in sides):
        raise ProtocolAbort(f"{name} must have at most 3 sides below {MAX_PHONES}, got {sides}")
    size = math.prod(sides) * dtype.itemsize
    if size != len(array.data):
        raise ProtocolAbort(
            f"{name} of shape {sides} must have {size} bytes, got {len(array.data)}"
        )
    return np.frombuffer(array.data, dtype).astype(array.dtype).reshape(sides)

"""The typed messages of the protocol, and how they travel in Flower records: the one door.

What leaves a phone is one of three kinds, and nothing else has a way out:

* counts: `Counts`, how many phones a shard hosts. A property of the installation, never of data.
* protocol messages: the pseudonymous indices of the phones that take part (`CohortList`), and
  the keys, nonces, sealed shares, signatures and shares of a masked session (`fedspeech.secagg`).
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
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedspeech.errors import ProtocolAbort, is_integer
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

Rule = dict[str, Callable[[Any, str], None]]
"""What a field must hold, as the metadata of a field: the rule gets the message and the name."""


def _integer(below: int | str) -> Rule:
    """An integer from 0, below a number or another field."""

    def check(message: Any, name: str) -> None:
        value = getattr(message, name)
        stop = getattr(message, below) if isinstance(below, str) else below
        if not (is_integer(value) and is_integer(stop) and 0 <= value < stop):
            raise ProtocolAbort(f"{name} must be an integer in [0, {stop}), got {value!r:.40}")

    return {"rule": check}


def _bytes(length: int) -> Rule:
    def check(message: Any, name: str) -> None:
        value = getattr(message, name)
        if not isinstance(value, bytes) or len(value) != length:
            raise ProtocolAbort(f"{name} must be {length} bytes, got {type(value).__name__}")

    return {"rule": check}


def _positive(message: Any, name: str) -> None:
    value = getattr(message, name)
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise ProtocolAbort(f"{name} must be a positive number, got {value!r:.40}")


def _array(
    dtype: type[np.generic],
    *shape: int | str | None,
    holds: Callable[[NDArray[Any]], bool] | None = None,
    values: str = "",
) -> Rule:
    """An array of this type; a side is a length, as long as another field, or any.

    What `holds` of its values is said in words.
    """

    def check(message: Any, name: str) -> None:
        value = getattr(message, name)
        sides = tuple(
            len(getattr(message, side)) if isinstance(side, str) else side for side in shape
        )
        fits = (
            isinstance(value, np.ndarray)
            and value.dtype == dtype
            and value.ndim == len(sides)
            and all(want in (None, have) for want, have in zip(sides, value.shape, strict=True))
        )
        if not fits:
            kind = np.dtype(dtype).name
            wanted = f"{kind} array of shape {sides}"
            if sides == (None,):
                wanted = f"one-dimensional {kind} array"
            raise ProtocolAbort(
                f"{name} must be a {wanted}, got {getattr(value, 'dtype', type(value).__name__)} "
                f"of shape {getattr(value, 'shape', None)}"
            )
        if holds is not None and not holds(value):
            raise ProtocolAbort(f"{name} must {values}")

    return {"rule": check}


def _rows(*shape: int | None, of: str = "phones") -> Rule:
    """A row of bytes for each of the phones in another field."""
    return _array(np.uint8, of, *shape)


def _increasing(phones: NDArray[np.int64]) -> bool:
    ordered = (phones[1:] > phones[:-1]).all()
    return bool(ordered and (not phones.size or (phones[0] >= 0 and phones[-1] < MAX_PHONES)))


_NORM: Rule = {"rule": _positive}
_MODEL = _array(
    np.float32, None, holds=lambda model: bool(np.isfinite(model).all()),
    values="be finite in every coordinate",
)  # fmt: skip
_PHONES = _array(np.int64, None, holds=_increasing, values="be strictly increasing phone indices")
_REFUSED = _array(
    np.int64, len(KINDS), holds=lambda counts: bool((counts >= 0).all()), values="not be negative"
)
_SIGNATURES = _rows(SIGNATURE_BYTES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Checked:
    """Fields that are checked, in the order of their declaration, wherever a message is made.

    Raises:
      ProtocolAbort: naming the first field that breaks its rule.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str = "") -> None:
        """Names a kind of message as it travels; "" for what never travels alone."""
        cls.kind = kind

    def __post_init__(self) -> None:
        """Checks every field."""
        for part in fields(self):
            if rule := part.metadata.get("rule"):
                rule(self, part.name)

    def __repr__(self) -> str:
        """Shows arrays by their shape, and no value in them."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        shown = [f"{name}={getattr(value, 'shape', value)!r}" for name, value in values.items()]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class RoundKey(_Checked):
    """What names one attempt at one round; every message of it carries the same key.

    Attributes:
      round: index from 0; `number` is what a person reads.
      attempt: index from 0; a retried round has fresh noise and a fresh rid.
      round_id: never used twice.
      context: SHA-256 over job, source code and round; phones refuse a context that they did not
        compute themselves.
    """

    round: int = field(metadata=_integer(1 << 31))
    attempt: int = field(metadata=_integer(1 << 16))
    round_id: bytes = field(metadata=_bytes(16))
    context: bytes = field(metadata=_bytes(32))

    @property
    def number(self) -> int:
        """Of the round as rows, reports and errors count, from 1."""
        return self.round + 1


@dataclass(frozen=True, kw_only=True)
class CountsRequest(_Checked, kind="counts-request"):
    """Server to shard: how many phones do you host?"""


@dataclass(frozen=True, kw_only=True)
class CohortListRequest(_Checked, kind="cohort-list-request"):
    """Server to shard: who takes part in this round? Phones toss their own coins."""

    key: RoundKey


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UpdateRequest(_Checked, kind="update-request"):
    """Server to shard: contribute to the query under this model and send the protected sum.

    Attributes:
      model: of the query, for instance a global adapter.
      clip_norm: L2 bound on the contribution in this round.
      cohort_list: all phones of the round; each phone checks the minimum itself.
    """

    key: RoundKey
    model: NDArray[np.float32] = field(metadata=_MODEL)
    clip_norm: float = field(metadata=_NORM)
    cohort_list: NDArray[np.int64] = field(metadata=_PHONES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SessionMessage(_Checked):
    """What every message of a masked session carries.

    Attributes:
      session: starts of the round before this one; nonces that stay away restart it.
    """

    key: RoundKey
    session: int = field(metadata=_integer(MAX_SESSIONS))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AdvertiseRequest(SessionMessage, kind="advertise-request"):
    """Server to shard, masked: open a session of a round; phones that join make keys."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CohortListNotice(SessionMessage, kind="cohort-list-notice"):
    """Server to shard, masked: everybody's advertisement, and the model that is coming.

    Attributes:
      model_sha256: of the query's model and the clip norm.
      phones: all phones of the session.
    """

    model_sha256: bytes = field(metadata=_bytes(HASH_BYTES))
    phones: NDArray[np.int64] = field(metadata=_PHONES)
    seal_keys: NDArray[np.uint8] = field(metadata=_rows(KEY_BYTES))
    mask_keys: NDArray[np.uint8] = field(metadata=_rows(KEY_BYTES))
    commitments: NDArray[np.uint8] = field(metadata=_rows(HASH_BYTES))
    signatures: NDArray[np.uint8] = field(metadata=_SIGNATURES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ShareRequest(SessionMessage, kind="share-request"):
    """Server to shard, masked: all nonces; draw the graph and share.

    Attributes:
      nonces: in the cohort list's order; none where everybody is everybody's neighbor.
    """

    nonces: NDArray[np.uint8] = field(metadata=_array(np.uint8, None, KEY_BYTES))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaskRequest(SessionMessage, kind="mask-request"):
    """Server to shard, masked: contribute under this model and send the masked vectors.

    Attributes:
      model: of the query.
      clip_norm: L2 bound on the contribution in this round.
      sharers: all phones that shared.
      commitments: to their seeds.
      signatures: over them.
      sealed: for each phone of this shard in `sharers`, in order, what its neighbors sealed for it.
    """

    model: NDArray[np.float32] = field(metadata=_MODEL)
    clip_norm: float = field(metadata=_NORM)
    sharers: NDArray[np.int64] = field(metadata=_PHONES)
    commitments: NDArray[np.uint8] = field(metadata=_rows(HASH_BYTES, of="sharers"))
    signatures: NDArray[np.uint8] = field(metadata=_rows(SIGNATURE_BYTES, of="sharers"))
    sealed: NDArray[np.uint8] = field(metadata=_array(np.uint8, None, None, SEALED_BYTES))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AgreeRequest(SessionMessage, kind="agree-request"):
    """Server to shard, masked: whose vectors arrived; sign if that can be.

    Attributes:
      signatures: of the reporting phones, over the list of sharers.
    """

    reporting: NDArray[np.int64] = field(metadata=_PHONES)
    signatures: NDArray[np.uint8] = field(metadata=_rows(SIGNATURE_BYTES, of="reporting"))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UnmaskRequest(SessionMessage, kind="unmask-request"):
    """Server to shard, masked: a quorum of signatures over both lists; give the shares."""

    signers: NDArray[np.int64] = field(metadata=_PHONES)
    signatures: NDArray[np.uint8] = field(metadata=_rows(SIGNATURE_BYTES, of="signers"))


@dataclass(frozen=True, kw_only=True)
class Counts(_Checked, kind="counts"):
    """Shard to server: place of the shard and how many phones it hosts."""

    shard: int = field(metadata=_integer("num_shards"))
    num_shards: int = field(metadata=_integer(1 << 20))
    num_phones: int = field(metadata=_integer(MAX_PHONES))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CohortList(_Checked, kind="cohort_list"):
    """Shard to server: the phones that joined, by pseudonymous index."""

    key: RoundKey
    phones: NDArray[np.int64] = field(metadata=_PHONES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ProtectedUpdate(_Checked, kind="protected-update"):
    """Shard to server: the sum mod 2^b of the reporting phones' encoded and noised vectors.

    Attributes:
      reporting: indices of the phones in the sum.
      total: shape (vector length,).
    """

    key: RoundKey
    reporting: NDArray[np.int64] = field(metadata=_PHONES)
    total: NDArray[np.uint32] = field(metadata=_array(np.uint32, None))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SessionAnswer(SessionMessage):
    """What every answer in a masked session carries.

    Attributes:
      phones: that answer.
      refused: how many others left the session for each of `refusals.KINDS`.
    """

    phones: NDArray[np.int64] = field(metadata=_PHONES)
    refused: NDArray[np.int64] = field(metadata=_REFUSED)

    def __repr__(self) -> str:
        """Shows counts only."""
        return f"{type(self).__name__}(phones={len(self.phones)}, refused={self.refused.sum()})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Advertisements(SessionAnswer, kind="advertisements"):
    """Shard to server, masked: keys and commitments of the phones that join."""

    seal_keys: NDArray[np.uint8] = field(metadata=_rows(KEY_BYTES))
    mask_keys: NDArray[np.uint8] = field(metadata=_rows(KEY_BYTES))
    commitments: NDArray[np.uint8] = field(metadata=_rows(HASH_BYTES))
    signatures: NDArray[np.uint8] = field(metadata=_SIGNATURES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Nonces(SessionAnswer, kind="nonces"):
    """Shard to server, masked: what the phones had committed to.

    Attributes:
      nonces: of `KEY_BYTES`, or of none where everybody is everybody's neighbor.
    """

    nonces: NDArray[np.uint8] = field(metadata=_rows(None))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SealedBatch(SessionAnswer, kind="sealed-batch"):
    """Shard to server, masked: what each phone sealed for its neighbors.

    Attributes:
      commitments: to their seeds.
      signatures: over them.
    """

    sealed: NDArray[np.uint8] = field(metadata=_rows(None, SEALED_BYTES))
    commitments: NDArray[np.uint8] = field(metadata=_rows(HASH_BYTES))
    signatures: NDArray[np.uint8] = field(metadata=_SIGNATURES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaskedVectors(SessionAnswer, kind="masked-vectors"):
    """Shard to server, masked: the phones' vectors under their masks.

    Attributes:
      packed: the words of each, `bits` of every word.
      signatures: over the list of sharers.
    """

    packed: NDArray[np.uint8] = field(metadata=_rows(None))
    signatures: NDArray[np.uint8] = field(metadata=_SIGNATURES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Agreements(SessionAnswer, kind="agreements"):
    """Shard to server, masked: signatures over both lists."""

    signatures: NDArray[np.uint8] = field(metadata=_SIGNATURES)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UnmaskShares(SessionAnswer, kind="unmask-shares"):
    """Shard to server, masked: one share of each neighbor, from each phone.

    Attributes:
      signatures: over the shares and both lists.
    """

    shares: NDArray[np.uint32] = field(metadata=_array(np.uint32, "phones", None, LIMBS))
    signatures: NDArray[np.uint8] = field(metadata=_SIGNATURES)


MaskedAnswer = Advertisements | Nonces | SealedBatch | MaskedVectors | Agreements | UnmaskShares
MaskedRequest = (
    AdvertiseRequest | CohortListNotice | ShareRequest | MaskRequest | AgreeRequest | UnmaskRequest
)
Message = (
    CountsRequest | CohortListRequest | UpdateRequest | MaskedRequest
    | Counts | CohortList | ProtectedUpdate | MaskedAnswer
)  # fmt: skip
MessageT = TypeVar("MessageT", bound=Message)


def to_record(message: Message) -> RecordDict:
    """Puts a message into a Flower record.

    Raises:
      ProtocolAbort: if the object is not one of this module's messages.
    """
    if not isinstance(message, Message):
        raise ProtocolAbort(f"{type(message).__name__} is not a message of this protocol")
    config: dict[str, Any] = {"kind": message.kind, "version": PROTOCOL_VERSION}
    arrays: dict[str, Array] = {}
    for name, value in vars(message).items():
        if isinstance(value, RoundKey):
            config.update(vars(value))
        elif isinstance(value, np.ndarray):
            arrays[name] = to_array(value)
        else:
            config[name] = value
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
    names = {part.name for part in fields(expected)}
    arrays = record.array_records["vectors"]
    parts = {part.name for part in fields(RoundKey)} if "key" in names else set()
    # What is left over is refused like what is missing: nothing travels that no rule has checked.
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
    # Of Python's integers: the product of the sides that a sender claims cannot wrap around.
    size = math.prod(sides) * dtype.itemsize
    if size != len(array.data):
        raise ProtocolAbort(
            f"{name} of shape {sides} must have {size} bytes, got {len(array.data)}"
        )
    return np.frombuffer(array.data, dtype).astype(array.dtype).reshape(sides)

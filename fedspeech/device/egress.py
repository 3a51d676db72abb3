"""The one door through which anything leaves a phone: three types of payload, and nothing else.

    door = Door(consents, area="wake_word", vector_length=800, bits=20, stages={"share": 4096})
    parcel = door.let_out(ProtectedUpdate(round_id=rid, words=masked), made_s=now)
    parcel.content                     # padded bytes
    parcel.release_s                   # when they may be sent: by an `Uploader`, which logs it
    opened(parcel.content)             # what the other side reads

Whatever has no serializer here has no way out: audio, transcripts, embeddings, voiceprints, losses
of one phone, records, plain bytes, strings, arrays of floats. Refusals name the type and never the
value.

Sizes are padded by Padme (Nikitin et al. 2019, "Reducing Metadata Leakage from Encrypted Files and
Communication with PURBs", PoPETs 2019(4):6, algorithm 1), at least to 1 KiB. A payload is released
at a random second of the window after the one in which it was made: the second tells that window,
and nothing finer.
"""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.consent import Consents, Purpose
from fedspeech.errors import EgressRefused
from fedspeech.hash_chain import Row

ROUND_ID_BYTES = 16
LEAST_BYTES = 1024
MOST_BYTES = 1 << 26
_MAGIC = b"fsp1"
_HEAD = struct.Struct(f"<4sB{ROUND_ID_BYTES}sI")  # magic, type, round id, bytes of the body


@dataclass(frozen=True, kw_only=True, eq=False)
class ProtectedUpdate:
    """An encoded vector of training with its noise and masks, as it enters the sum.

    Attributes:
      round_id: of the round, 16 bytes.
      words: shape (vector length,), uint32, below 2^bits.
    """

    round_id: bytes
    words: NDArray[np.uint32] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class AggregateCounts:
    """The same of a query that counts: what this phone adds to a noisy table.

    Attributes:
      round_id: of the round, 16 bytes.
      words: shape (vector length,), uint32, below 2^bits.
    """

    round_id: bytes
    words: NDArray[np.uint32] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ProtocolMessage:
    """Keys, commitments and shares of secure aggregation.

    Attributes:
      round_id: of the round, 16 bytes.
      purpose: of the round.
      stage: of the protocol.
      body: as the protocol encodes it.
    """

    round_id: bytes
    purpose: Purpose
    stage: str
    body: bytes = field(repr=False)


Payload = ProtectedUpdate | AggregateCounts | ProtocolMessage
_TYPES: tuple[type[Any], ...] = (ProtectedUpdate, AggregateCounts, ProtocolMessage)
_PURPOSES: tuple[Purpose, ...] = ("federated_training", "analytics")


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A payload on its way.

    Attributes:
      content: its bytes, padded.
      release_s: second from which it may be sent.
      row: what the log of the phone says of it: type, purpose, area, receipt, round, bytes and
        release; never content.
    """

    content: bytes = field(repr=False)
    release_s: float
    row: Row = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Door:
    """The door of one phone, for one plan.

    Attributes:
      consents: of the user.
      area: part of the product that the plan serves.
      vector_length: of the plan's vectors; no other length leaves.
      bits: of the plan's ring; no larger word leaves.
      stages: longest body of each stage of the protocol, bytes.
      window_s: seconds of a release window of vectors.
      protocol_window_s: likewise of messages that other phones wait for.
      draw: uniform in [0, 1), of the operating system.
    """

    consents: Consents
    area: str
    vector_length: int
    bits: int
    stages: Mapping[str, int]
    window_s: float = 900.0
    protocol_window_s: float = 2.0
    draw: Callable[[], float] = secrets.SystemRandom().random

    def let_out(self, payload: Payload, *, made_s: float) -> Parcel:
        """Checks, asks for consent, pads, and says when it may be sent.

        Raises:
          EgressRefused: for anything but a payload that fits the plan; nothing leaves.
          ConsentMissing: if the user has not agreed to its purpose, or no longer does.
        """
        content = padded(self._serialized(payload))
        purpose = _purpose(payload)
        receipt = self.consents.require(purpose, self.area)
        window_s = self.protocol_window_s if type(payload) is ProtocolMessage else self.window_s
        release_s = window_s * (math.floor(made_s / window_s) + 1 + self.draw())
        row: Row = {
            "payload": type(payload).__name__, "purpose": purpose, "area": self.area,
            "receipt": receipt.id, "round": payload.round_id.hex(), "bytes": len(content),
            "release_s": round(release_s),
        }  # fmt: skip
        return Parcel(content=content, release_s=release_s, row=row)

    def _serialized(self, payload: object) -> bytes:
        """Bytes of a payload; the types are compared and not their subclasses."""
        if type(payload) is ProtocolMessage:
            _check_stage(payload, self.stages)
            body = struct.pack("<BB", _PURPOSES.index(payload.purpose), len(payload.stage))
            return _framed(payload, body + payload.stage.encode() + payload.body)
        if type(payload) is ProtectedUpdate or type(payload) is AggregateCounts:
            _check_words(payload.words, self.vector_length, self.bits)
            return _framed(payload, payload.words.astype("<u4").tobytes())
        raise EgressRefused(f"a {type(payload).__name__} never leaves a phone: no way out is made")


def padded_length(length: int) -> int:
    """Bytes of the bucket of a length: Padme, at least `LEAST_BYTES`."""
    if length <= LEAST_BYTES:
        return LEAST_BYTES
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def padded(content: bytes) -> bytes:
    """A content with zeros up to its bucket."""
    return content.ljust(padded_length(len(content)), b"\0")


def opened(content: bytes) -> Payload:
    """Reads a parcel; every payload has one encoding.

    Raises:
      EgressRefused: for anything that `let_out` cannot have made.
    """
    if not _HEAD.size <= len(content) <= MOST_BYTES:
        raise EgressRefused(f"a parcel has at least {_HEAD.size} bytes, got {len(content)}")
    magic, kind, round_id, length = _HEAD.unpack_from(content)
    end = _HEAD.size + length
    if magic != _MAGIC or kind >= len(_TYPES):
        raise EgressRefused("a parcel begins with its version and one of three types")
    if len(content) != padded_length(end) or any(content[end:]):
        raise EgressRefused("a parcel is padded with zeros to the bucket of its length")
    body = content[_HEAD.size : end]
    if _TYPES[kind] is ProtocolMessage:
        return _message(round_id, body)
    if not body or len(body) % 4:
        raise EgressRefused(f"a vector is whole words, got {len(body)} bytes")
    words = np.frombuffer(body, dtype="<u4").astype(np.uint32)
    found: Payload = _TYPES[kind](round_id=round_id, words=words)
    return found


def _message(round_id: bytes, body: bytes) -> ProtocolMessage:
    try:
        purpose, length = struct.unpack_from("<BB", body)
        stage = body[2 : 2 + length].decode("ascii")
        known = _PURPOSES[purpose]
    except (struct.error, UnicodeDecodeError, IndexError):
        raise EgressRefused("a protocol message begins with its purpose and stage") from None
    if not 0 < length == len(stage):
        raise EgressRefused("a protocol message names its stage")
    return ProtocolMessage(round_id=round_id, purpose=known, stage=stage, body=body[2 + length :])


def _framed(payload: Payload, body: bytes) -> bytes:
    if type(payload.round_id) is not bytes or len(payload.round_id) != ROUND_ID_BYTES:
        raise EgressRefused(f"round_id must be {ROUND_ID_BYTES} bytes")
    return _HEAD.pack(_MAGIC, _TYPES.index(type(payload)), payload.round_id, len(body)) + body


def _purpose(payload: Payload) -> Purpose:
    if isinstance(payload, ProtocolMessage):
        return payload.purpose
    return "federated_training" if isinstance(payload, ProtectedUpdate) else "analytics"


def _check_words(words: object, length: int, bits: int) -> None:
    right = type(words) is np.ndarray and words.dtype == np.uint32 and words.shape == (length,)
    if not right or int(np.max(words)) >> bits:  # type: ignore[call-overload]
        raise EgressRefused(
            f"a vector is {length} words of uint32 below 2^{bits}, as the plan says"
        )


def _check_stage(payload: ProtocolMessage, stages: Mapping[str, int]) -> None:
    if type(payload.stage) is not str or payload.stage not in stages:
        raise EgressRefused(f"stage must be one of {', '.join(stages)}")
    if payload.purpose not in _PURPOSES:
        raise EgressRefused(f"purpose of a round must be one of {', '.join(_PURPOSES)}")
    most = stages[payload.stage]
    if type(payload.body) is not bytes or len(payload.body) > most:
        raise EgressRefused(f"a message of stage {payload.stage} has at most {most} bytes")

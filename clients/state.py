"""What the phones of a shard remember, and how it is kept: for ever, and within one session.

`ShardState` stands in the phones' durable state and decides: rounds entered, inputs sent, the stage
of the round that was answered last. `SessionState` holds the secrets of one masked session and
travels in the context that Flower keeps for the node. That context is not believed: it may be older
than what the phones have done, a copy, or of another run, so the durable state holds the digest of
the one that counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedspeech.errors import ProtocolAbort
from fedspeech.messages import RoundKey
from fedspeech.secagg.exchange import History
from fedspeech.secagg.protocol import COHORT_LIST_COLUMNS, CohortList, Members, Stage, rows, table

_NOBODY: NDArray[np.int64] = np.empty(0, dtype=np.int64)
_PHONES = ("senders", "inputs_sent", "last_sent", "joined")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ShardState:
    """What a shard must remember from message to message, whatever becomes of its node.

    Attributes:
      senders: phones of the shard that have sent an input, sorted; a population of millions costs
        nothing until it is called.
      inputs_sent: how many each of them has sent in this window, same shape, int64.
      last_sent: index of the round in which each of them sent its last, same shape, int64.
      key: of the round that phones entered last; None before the first.
      joined: phones that joined it, sorted.
      history: number, session and answered stage of that round.
      session_sha256: digest of the session that belongs to that stage, 32 bytes; empty where none
        does.
    """

    senders: NDArray[np.int64] = field(default_factory=_NOBODY.copy)
    inputs_sent: NDArray[np.int64] = field(default_factory=_NOBODY.copy)
    last_sent: NDArray[np.int64] = field(default_factory=_NOBODY.copy)
    key: RoundKey | None = None
    joined: NDArray[np.int64] = field(default_factory=_NOBODY.copy)
    history: History = field(default_factory=History)
    session_sha256: bytes = b""

    def sent_by(self, phones: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many inputs each of some phones has sent in this window, same shape."""
        return self._of(phones, self.inputs_sent, 0)

    def last_sent_by(self, phones: NDArray[np.int64]) -> NDArray[np.int64]:
        """Round in which each of some phones sent its last input, same shape; -1: in none."""
        return self._of(phones, self.last_sent, -1)

    def _of(
        self, phones: NDArray[np.int64], values: NDArray[np.int64], otherwise: int
    ) -> NDArray[np.int64]:
        if not len(self.senders):
            return np.full(len(phones), otherwise, dtype=np.int64)
        place = np.searchsorted(self.senders, phones).clip(max=len(self.senders) - 1)
        return np.where(self.senders[place] == phones, values[place], otherwise)

    def counting(self, phones: NDArray[np.int64], round_number: int) -> ShardState:
        """The state after each of some different phones has sent one more input in a round."""
        senders = np.union1d(self.senders, phones)
        sent = np.isin(senders, phones)
        return replace(
            self,
            senders=senders,
            inputs_sent=self.sent_by(senders) + sent,
            last_sent=np.where(sent, round_number, self.last_sent_by(senders)),
        )

    def counting_anew(self) -> ShardState:
        """The state in the next window of the participation limit; when a phone sent last stays."""
        return replace(self, inputs_sent=np.zeros_like(self.inputs_sent))

    def answered(self, stage: Stage, session: bytes) -> ShardState:
        """The state after a stage was answered, bound to the session that goes with it."""
        return replace(
            self,
            history=replace(self.history, stage=stage),
            session_sha256=hashlib.sha256(session).digest() if session else b"",
        )

    def to_bytes(self, job: str) -> bytes:
        """Returns what the durable state keeps."""
        assert self.key is not None, "nothing is kept before a round was entered"
        history, key = self.history, self.key
        arrays: Arrays = {
            "job": _bytes(bytes.fromhex(job)),
            "round": np.array([history.round, history.session, history.stage, key.attempt]),
            "rid": _bytes(key.round_id),
            "context": _bytes(key.context),
            "session_sha256": _bytes(self.session_sha256),
        }
        return bytes(save(arrays | {name: getattr(self, name) for name in _PHONES}))

    @classmethod
    def from_bytes(cls, kept: bytes, job: str) -> ShardState:
        """Reads what `to_bytes` gave.

        Raises:
          ProtocolAbort: if it was written for another job, by another version, or is damaged.
        """
        try:
            arrays: Arrays = load(kept)
            owner = arrays["job"].tobytes().hex()
            number, session, stage, attempt = (int(value) for value in arrays["round"])
            key = RoundKey(
                round=number,
                attempt=attempt,
                round_id=arrays["rid"].tobytes(),
                context=arrays["context"].tobytes(),
            )
            state = cls(
                key=key,
                history=History(round=number, session=session, stage=Stage(stage)),
                session_sha256=arrays["session_sha256"].tobytes(),
                **{name: arrays[name] for name in _PHONES},
            )
        except (SafetensorError, KeyError, ValueError):
            raise ProtocolAbort(
                "what these phones remember is damaged, or was written by another version of "
                "fedspeech: they take no part in this run any more"
            ) from None
        if owner != job:
            raise ProtocolAbort(
                f"what these phones remember belongs to job {owner[:12]}, not to {job[:12]}: each "
                "job has a durable_state folder of its own"
            )
        return state


@dataclass(frozen=True, eq=False)
class SessionState:
    """Secrets and public lists of one masked session. Printing it shows nothing of them.

    Attributes:
      model_sha256: of the model that the session is for, 32 bytes; empty before the cohort list.
      cohort_list: accepted; None before.
      nonces: of all phones, in the cohort list's order.
      sharers: list that phones masked under.
      reporting: list that phones agreed to.
      secrets: what each phone that is still there keeps, by number.
    """

    model_sha256: bytes = b""
    cohort_list: CohortList | None = None
    nonces: tuple[bytes, ...] = ()
    sharers: Members | None = None
    reporting: Members | None = None
    secrets: Mapping[int, bytes] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"SessionState({len(self.secrets)} phones)"

    def to_bytes(self) -> bytes:
        """Returns the session as Flower keeps it for the node; secret."""
        secrets = [bytes(secret) for secret in self.secrets.values()]
        arrays: Arrays = {
            "model_sha256": _bytes(self.model_sha256),
            "phones": np.array(list(self.secrets), dtype=np.int64),
            "lengths": np.array([len(secret) for secret in secrets], dtype=np.int64),
            "secrets": _bytes(b"".join(secrets)),
        }
        if self.cohort_list is not None:
            arrays["members"] = self.cohort_list.members.ids
            arrays |= self.cohort_list.columns
        if self.nonces:
            arrays["nonces"] = table(self.nonces, len(self.nonces[0]))
        for name, members in (("sharers", self.sharers), ("reporting", self.reporting)):
            if members is not None:
                arrays[name] = members.ids
        return bytes(save({n: np.ascontiguousarray(array) for n, array in arrays.items()}))

    @classmethod
    def from_bytes(cls, kept: bytes, sha256: bytes) -> SessionState:
        """Reads what `to_bytes` gave.

        Args:
          kept: from a context that may be anybody's.
          sha256: from the phones' durable state.

        Raises:
          ProtocolAbort: if it is not the session that the phones are in.
        """
        # Flower keeps a context only after the answer has left: on an older one phones would agree
        # and unmask a second time.
        if hashlib.sha256(kept).digest() != sha256:
            raise ProtocolAbort(
                "the context of this node is not the one that its phones answered last: they have "
                "left the session"
            )
        arrays: Arrays = load(kept)

        def members(name: str) -> Members | None:
            return Members(arrays[name]) if name in arrays else None

        cohort_list = None
        if (phones := members("members")) is not None:
            cohort_list = CohortList(
                members=phones, **{name: arrays[name] for name in COHORT_LIST_COLUMNS}
            )
        secrets, ends = arrays["secrets"].tobytes(), np.cumsum(arrays["lengths"]).tolist()
        places = zip(arrays["phones"].tolist(), [0, *ends], ends, strict=False)
        return cls(
            model_sha256=arrays["model_sha256"].tobytes(),
            cohort_list=cohort_list,
            nonces=tuple(rows(arrays["nonces"])) if "nonces" in arrays else (),
            sharers=members("sharers"),
            reporting=members("reporting"),
            secrets={phone: secrets[start:end] for phone, start, end in places},
        )


def _bytes(value: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(value, dtype=np.uint8)

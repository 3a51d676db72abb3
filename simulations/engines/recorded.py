"""A run on the wire, recorded: every message that crosses, and the sums that the server opens.

    with InProcessGrid(CLIENT_APP, job.num_shards, {"job": str(path)}) as grid:
        wire = RecordedNodes(grid)
        run_rounds(wire, job, ledger, state, on_round)

What is kept of a message is what it is to whoever carries it, who it is from and to, when, and how
large, and in the server's hands which phones an input is of. Bytes are counted before encryption;
TLS adds a constant to each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from fedspeech import messages
from fedspeech.audits.transcript import SeenMessage
from fedspeech.errors import ProtocolAbort
from server.grids import Nodes

SERVER = "server"
_INPUTS: dict[str, type[messages.ProtectedUpdate | messages.MaskedVectors]] = {
    "train": messages.ProtectedUpdate,
    "train.masked": messages.MaskedVectors,
}


class RecordedNodes:
    """The nodes of a grid, and what crossed between them and the server.

    Attributes:
      crossed: every message, requests and answers, in order.
    """

    def __init__(self, nodes: Nodes) -> None:
        """Nothing has crossed yet."""
        self._nodes, self._began = nodes, time.monotonic()
        self._senders: dict[int, list[NDArray[np.int64]]] = {}
        self.crossed: list[SeenMessage] = []

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return self._nodes.get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages and waits for the replies; keeps a note of each."""
        sent = list(messages)
        for message in sent:
            self._note(message, SERVER, str(message.metadata.dst_node_id))
        heard = list(self._nodes.send_and_receive(sent, timeout=timeout))
        kinds = {message.metadata.message_id: message.metadata.message_type for message in sent}
        for reply in heard:
            kind = kinds.get(reply.metadata.reply_to_message_id, reply.metadata.message_type)
            self._note(reply, str(reply.metadata.src_node_id), SERVER, kind)
            self._senders_in(reply, kind)
        return heard

    def senders(self, round_number: int) -> NDArray[np.int64]:
        """Phones whose inputs of a round the server has, sorted, shape (n,)."""
        found = self._senders.get(round_number, [])
        return np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def _note(self, message: Message, sender: str, receiver: str, kind: str = "") -> None:
        content = message.content if message.has_content() else None
        self.crossed.append(
            SeenMessage(
                time_s=time.monotonic() - self._began,
                sender=sender,
                receiver=receiver,
                kind=kind or message.metadata.message_type,
                size_bytes=0 if content is None else _size(content),
            )
        )

    def _senders_in(self, reply: Message, kind: str) -> None:
        """Keeps whose inputs an answer brings, if it is one that can be read."""
        if kind not in _INPUTS or not reply.has_content():
            return
        try:
            answer = messages.from_record(reply.content, _INPUTS[kind])
        except ProtocolAbort:
            return
        phones = answer.phones if isinstance(answer, messages.MaskedVectors) else answer.reporting
        self._senders.setdefault(answer.key.round, []).append(phones)


def _size(content: RecordDict) -> int:
    """Bytes of the records in a message."""
    records = (content.array_records, content.config_records, content.metric_records)
    return sum(record.count_bytes() for found in records for record in found.values())

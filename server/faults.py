"""Faults of nodes and of the network, by a seeded schedule: what a server must survive.

`FaultyGrid` stands between the server's side of the app and any grid, so a schedule plays the same
in every engine. What single phones do (vanish at a stage) is the schedule of
`fedspeech.secagg.dropouts`. Under every fault the rules of `server.shards` hold: a shard that does
not answer one request with one answer that checks fails its round; the round comes to nothing, what
was charged stays charged, and the run goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message

from fedspeech.job import Job
from fedspeech.messages import from_array, to_array
from fedspeech.seeds import stream
from server.grids import Nodes

APP_RAISED = 2  # flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class FaultyGrid:
    """A grid on which nodes misbehave."""

    def __init__(self, grid: Nodes, job: Job) -> None:
        self._grid, self._job = grid, job
        self._shard_of: dict[int, int] = {}  # as nodes say when they are asked for their counts
        self._late: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return self._grid.get_node_ids()

    def fault(self, kind: str, round_number: int, shard: int) -> str:
        """What goes wrong with one request to one node, by name; "" for nothing."""
        draw = stream(self._job.seed, "fault", kind, round_number, shard).random()
        for name, share in asdict(self._job.faults).items():
            if draw < share:
                return name
            draw -= share
        return ""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages, and does to requests and answers what the schedule says."""
        sent = list(messages)
        faults = {message.metadata.dst_node_id: self._fault_of(message) for message in sent}
        heard, self._late = self._late, []
        for reply in self._grid.send_and_receive(sent, timeout=timeout):
            node = reply.metadata.src_node_id
            if reply.has_content() and "shard" in (said := _config(reply)):
                self._shard_of[node] = int(str(said["shard"]))
            match faults.get(node, ""):
                case "late":
                    self._late.append(reply)
                case "silent":
                    continue
                case "twice":
                    heard += [reply, reply]
                case fault:
                    heard.append(_changed(reply, fault))
        return heard

    def _fault_of(self, request: Message) -> str:
        """The fault that a request meets; what changes the request itself is done to it."""
        if "round" not in (said := _config(request)):
            return ""
        shard = self._shard_of[request.metadata.dst_node_id]
        fault = self.fault(request.metadata.message_type, int(str(said["round"])), shard)
        if fault == "stale_source":
            said["context"] = bytes(32)  # what other code would compute
        return fault


def _config(message: Message) -> ConfigRecord:
    """The plain fields of a message."""
    return message.content.config_records["message"]


def _changed(reply: Message, fault: str) -> Message:
    """An answer as a faulty node gives it."""
    if reply.has_error():
        return reply
    record = reply.content
    if fault == "fails":
        changed = Message(Error(APP_RAISED, "the node is on fire"), reply_to=reply)
        changed.metadata.__dict__.update(reply.metadata.__dict__)
        return changed
    if fault == "wrong_round":
        _config(reply)["round"] = int(str(_config(reply)["round"])) + 1
    elif fault in ("wrong_shapes", "nan"):
        arrays = {n: from_array(n, array) for n, array in record.array_records["vectors"].items()}
        record["vectors"] = ArrayRecord(
            {
                name: to_array(
                    array[..., np.newaxis]
                    if fault == "wrong_shapes"
                    else np.full(array.shape, np.nan, np.float32)
                )
                for name, array in arrays.items()
            }
        )
    return reply

"""A server that lies, between two honest stages: real Flower messages to the phones' real app."""

import contextlib
import copy
import dataclasses
import functools
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict

from fedspeech import messages
from fedspeech.job import Job
from fedspeech.messages import MaskedAnswer, MaskedRequest, from_record, to_record
from fedspeech.round import ServerState
from fedspeech.secagg.refusals import KINDS
from simulations.engines.in_process import InProcessGrid

# Of every request: where the app takes it, and what answers it.
ROUTES = {
    messages.CountsRequest: ("query.counts", messages.Counts),
    messages.CohortListRequest: ("query.cohort_list", messages.CohortList),
    messages.UpdateRequest: ("train", messages.ProtectedUpdate),
    messages.AdvertiseRequest: ("query.advertise", messages.Advertisements),
    messages.CohortListNotice: ("query.accept", messages.Nonces),
    messages.ShareRequest: ("query.share", messages.SealedBatch),
    messages.MaskRequest: ("train.masked", messages.MaskedVectors),
    messages.AgreeRequest: ("query.agree", messages.Agreements),
    messages.UnmaskRequest: ("query.unmask", messages.UnmaskShares),
}
REQUESTS = {route: request for request, (route, _) in ROUTES.items()}
EVERY_TYPE = (
    messages.CountsRequest, messages.CohortListRequest, messages.UpdateRequest,
    *MaskedRequest.__args__, messages.Counts, messages.CohortList, messages.ProtectedUpdate,
    *MaskedAnswer.__args__,
)  # fmt: skip


class Refused(Exception):
    """What phones said instead of an answer."""


class MaliciousGrid(InProcessGrid):
    """Honest phones behind a server that may ask them more than the honest one does.

    Args:
      path: of the job.
      lie: called as `lie(grid, request)` before every honest request, with the first shard's, and
        by a test at the end with None.
    """

    def __init__(self, path, lie=lambda grid, request: None):
        """Starts a node for each shard."""
        self.job, self.lie = Job.load(path), lie
        super().__init__("clients.app:app", self.job.num_shards, {"job": str(path)})

    def send_and_receive(self, messages, *, timeout=None):
        """Lies, then sends."""
        messages = list(messages)
        route = messages[0].metadata.message_type
        self.lie(self, from_record(messages[0].content, REQUESTS[route]))
        return super().send_and_receive(messages, timeout=timeout)

    @property
    def contexts(self):
        """What Flower keeps for the node of each shard."""
        return [node._context for node in self._nodes.values()]

    def context_of_another_run(self, shard=0, run_id=2):
        """What Flower hands to a node at the beginning of a further run."""
        return Context(
            run_id=run_id,
            node_id=self._node_ids[shard],
            node_config=dict(self.contexts[shard].node_config),
            state=RecordDict(),
            run_config=dict(self.contexts[shard].run_config),
        )

    def ask(self, request, shard=0, *, route=None, context=None):
        """Sends any message of the protocol to one shard; returns its answer or raises Refused.

        Args:
          request: the message.
          shard: whom to ask.
          route: where to; None: where the app takes this type.
          context: that Flower hands to the node; None: the node's own.
        """
        default, answer = ROUTES.get(type(request), ("query.counts", messages.Counts))
        node = copy.copy(self._nodes[self._node_ids[shard]])
        node._context = context or node._context
        sent = Message(to_record(request), self._node_ids[shard], route or default)
        sent.metadata.__dict__["_message_id"] = "lie"
        reply = node.handle(sent)
        if reply.has_error():
            raise Refused(reply.error.reason)
        return from_record(reply.content, answer)

    @property
    def remembered(self):
        """The files of the phones' memories, with their content."""
        folder = Path(self.job.durable_state or self._memory.name)
        return {file: file.read_bytes() for file in folder.glob("shard-*-round-*")}

    @contextlib.contextmanager
    def forked(self):
        """Undoes whatever phones and their contexts do meanwhile: for tests, not for servers."""
        files, states = self.remembered, [copy.deepcopy(one.state) for one in self.contexts]
        yield
        for file in self.remembered:
            file.unlink()
        for file, content in files.items():
            file.write_bytes(content)
        for context, state in zip(self.contexts, states, strict=True):
            context.state = state


@functools.lru_cache(maxsize=4)
def first_model(job):
    """Adapter and clip norm as an honest server sends them in the first round."""
    state = ServerState.initial(job, job.load_arrays())
    return {"model": state.model, "clip_norm": state.clip_norm}


def made_up(kind, job, key, session=0):
    """A message of any type that is well formed, for a round and session, and means nothing."""
    phones = np.arange(job.plan.population)
    count = len(phones)

    def bytes_of(*shape):
        return np.zeros((count, *shape), np.uint8)

    values = {
        "key": key, "session": session, "shard": 0, "num_shards": 1, "num_phones": count,
        "phones": phones, "cohort_list": phones, "reporting": phones, "sharers": phones,
        "signers": phones, "model_sha256": bytes(32), "seal_keys": bytes_of(32),
        "mask_keys": bytes_of(32), "commitments": bytes_of(32), "signatures": bytes_of(64),
        "nonces": bytes_of(32), "sealed": bytes_of(3, 88), "packed": bytes_of(9),
        "shares": np.zeros((count, 3, 9), np.uint32), "refused": np.zeros(len(KINDS), np.int64),
        "total": np.zeros(job.plan.vector_length, np.uint32), **first_model(job),
    }  # fmt: skip
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})

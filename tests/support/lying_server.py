"""A server that lies, between two honest stages: real Flower messages to the phones' real app."""

import copy

from flwr.app import Message

from fedspeech import messages
from fedspeech.job import Job
from fedspeech.messages import from_record, to_record
from fedspeech.round import ServerState
from simulations.grid import InProcessGrid

# Of every request: where the app takes it, and what answers it.
ROUTES = {
    messages.CountsRequest: ("query.counts", messages.Counts),
    messages.RosterRequest: ("query.roster", messages.Roster),
    messages.UpdateRequest: ("train", messages.ProtectedUpdate),
    messages.AdvertiseRequest: ("query.advertise", messages.Advertisements),
    messages.RosterNotice: ("query.accept", messages.Nonces),
    messages.ShareRequest: ("query.share", messages.SealedBatch),
    messages.MaskRequest: ("train.masked", messages.MaskedVectors),
    messages.AgreeRequest: ("query.agree", messages.Agreements),
    messages.UnmaskRequest: ("query.unmask", messages.UnmaskShares),
}
REQUESTS = {route: request for request, (route, _) in ROUTES.items()}


class Refused(Exception):
    """What phones said instead of an answer."""


class LyingGrid(InProcessGrid):
    """Honest phones behind a server that may ask them more than the honest one does.

    Args:
      path: of the job.
      lie: called as `lie(grid, request)` before every honest request, and once at the end with
        None.
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

    def ask(self, request, shard=0, *, route=None, context=None):
        """Sends any message of the protocol to one shard; returns its answer or raises Refused.

        Args:
          request: the message.
          shard: whom to ask.
          route: where to; None: where the app takes this type.
          context: that Flower hands to the node; None: the node's own.
        """
        default, answer = ROUTES.get(type(request), ("query.counts", None))
        node = self._nodes[self._node_ids[shard]]
        if context is not None:
            node = copy.copy(node)
            node._context = context
        sent = Message(to_record(request), self._node_ids[shard], route or default)
        sent.metadata.__dict__["_message_id"] = "lie"
        reply = node.handle(sent)
        if reply.has_error():
            raise Refused(reply.error.reason)
        return from_record(reply.content, answer or messages.Counts)


def sent_model(job):
    """Adapter and clip norm as an honest server sends them in the first round."""
    state = ServerState.initial(job, job.load_arrays())
    return state.adapter, state.clip_norm


def update_request(job, key, roster):
    """Asks for a simulated sum."""
    adapter, clip_norm = sent_model(job)
    return messages.UpdateRequest(key=key, adapter=adapter, clip_norm=clip_norm, roster=roster)

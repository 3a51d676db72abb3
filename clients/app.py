"""Flower ClientApp: open the message, ask the shard, close the message."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.client_shard import ClientShard
from clients.durable_state import DurableState
from clients.masked import MaskedShard
from clients.permissions import Permission, RoundRequest, require_permission, require_turn
from clients.state import SessionState, ShardState
from fedspeech import messages
from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.job import Job
from fedspeech.messages import from_record, to_record

app = ClientApp()
_LOG = logging.getLogger(__name__)
Request = (
    messages.CountsRequest
    | messages.CohortListRequest
    | messages.UpdateRequest
    | messages.MaskedRequest
)


def _answer(message: Message, context: Context, kind: type[Request]) -> Message:
    """Answers one request, if the phones' plan and durable state permit it."""
    with _nothing_told():
        request, client_shard = from_record(message.content, kind), _client_shard(context)
        permission = require_permission(request, client_shard.job.plan)
        if isinstance(request, messages.CountsRequest):
            return Message(to_record(client_shard.counts()), reply_to=message)
        with _durable_state(context, client_shard).held() as durable:
            reply = _remembered(client_shard, request, permission, durable, context)
        return Message(to_record(reply), reply_to=message)


def _remembered(
    client_shard: ClientShard,
    request: RoundRequest,
    permission: Permission,
    durable: DurableState,
    context: Context,
) -> messages.Message:
    """Computes an answer that the durable state permits; writes the stage down before it returns.

    From then on the stage is answered, whether or not the answer arrives: no other one is given.
    """
    job, kept = client_shard.job, durable.read()
    state = ShardState() if kept is None else ShardState.from_bytes(kept, job.fingerprint)
    require_turn(request, permission, job, state)
    reply: messages.Message
    session = b""  # secrets; simulated sums have none
    if isinstance(request, messages.CohortListRequest):
        reply, state = client_shard.join(request, state)
    elif isinstance(request, messages.UpdateRequest):
        reply, state = client_shard.update(request, state)
    else:
        opens = isinstance(request, messages.AdvertiseRequest)
        before = SessionState() if opens else _read_session(context, state)
        reply, state, after = _open_masked(client_shard).answer(
            request, permission.stage, state, before
        )
        session = after.to_bytes()
    # On disk before anybody sees the answer: a kill in between costs the answer, not the rule.
    state = state.answered(permission.stage, session)
    durable.write(state.history.round, state.to_bytes(job.fingerprint))
    context.state["session"] = ConfigRecord({"bytes": session})
    return reply


def _read_session(context: Context, state: ShardState) -> SessionState:
    """The session that the phones are in, if that is what Flower has kept."""
    records = context.state.config_records
    kept = records["session"]["bytes"] if "session" in records else b""
    return SessionState.from_bytes(kept if isinstance(kept, bytes) else b"", state.session_sha256)


def _durable_state(context: Context, client_shard: ClientShard) -> DurableState:
    """What the phones remember: by their job, or with the process that plays them."""
    if client_shard.job.durable_state:
        return DurableState(Path(client_shard.job.durable_state), client_shard.shard)
    if folder := context.node_config.get("durable_state"):
        return DurableState(Path(str(folder)), client_shard.shard, lasting=False)
    raise ProtocolAbort("phones without durable state answer nothing: the job must name its folder")


@contextlib.contextmanager
def _nothing_told() -> Iterator[None]:
    """Keeps the text of an unforeseen error, which may hold values, from reaching the server."""
    try:
        yield
    except FedspeechError:
        raise
    except Exception as error:
        _LOG.debug("this shard failed", exc_info=True)
        raise ProtocolAbort(
            f"a {type(error).__name__} in this shard; its text stays here"
        ) from None


def _client_shard(context: Context) -> ClientShard:
    """The shard of this node, opened once per process.

    A node that was told its job when it was started takes it from nobody else.
    """
    shard, num_shards = (context.node_config[k] for k in ("partition-id", "num-partitions"))
    job_path = str(context.node_config.get("job") or context.run_config.get("job", ""))
    client_shard = _open_shard(Job.load(Path(job_path)), int(shard))
    if int(num_shards) != (expected := client_shard.job.num_shards):
        raise ProtocolAbort(
            f"the job splits its phones into {expected} shards, but this run has {num_shards} nodes"
        )
    return client_shard


_open_shard = functools.lru_cache(maxsize=64)(ClientShard)
_open_masked = functools.lru_cache(maxsize=64)(MaskedShard)

# Where Flower delivers each request.
for _kind, _route in (
    (messages.CountsRequest, app.query("counts")),
    (messages.CohortListRequest, app.query("cohort_list")),
    (messages.UpdateRequest, app.train()),
    (messages.AdvertiseRequest, app.query("advertise")),
    (messages.CohortListNotice, app.query("accept")),
    (messages.ShareRequest, app.query("share")),
    (messages.MaskRequest, app.train("masked")),
    (messages.AgreeRequest, app.query("agree")),
    (messages.UnmaskRequest, app.query("unmask")),
):
    _route(functools.partial(_answer, kind=_kind))

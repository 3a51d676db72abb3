"""Flower ClientApp: open the message, call the fleet, close the message."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto

from clients.fleet import Fleet, FleetState
from clients.masked import MaskedFleet, SessionState
from clients.memory import Memory
from clients.permissions import require_permission
from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.job import Job
from fedspeech.messages import (
    AdvertiseRequest,
    AgreeRequest,
    CountsRequest,
    MaskedRequest,
    MaskRequest,
    MessageT,
    RosterNotice,
    RosterRequest,
    SessionAnswer,
    ShareRequest,
    UnmaskRequest,
    UpdateRequest,
    from_record,
    to_record,
)
from fedspeech.secagg.exchange import History
from fedspeech.secagg.protocol import Members, Roster, Stage, rows, table

app = ClientApp()
_LOG = logging.getLogger(__name__)


@app.query("counts")
def counts(message: Message, context: Context) -> Message:
    """Says which shard this is."""
    _, fleet = _permitted(message, context, CountsRequest)
    return Message(to_record(fleet.counts()), reply_to=message)


@app.query("roster")
def roster(message: Message, context: Context) -> Message:
    """Says which phones join the round; where sums are simulated."""
    request, fleet = _permitted(message, context, RosterRequest)
    with _nothing_told():
        reply, state = fleet.join(request, _read_state(context, fleet))
        _keep_state(context, fleet, state)
    return Message(to_record(reply), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains the phones that joined and sends their sum; where sums are simulated."""
    request, fleet = _permitted(message, context, UpdateRequest)
    with _nothing_told():
        reply, state = fleet.update(request, _read_state(context, fleet))
        _keep_state(context, fleet, state)
    return Message(to_record(reply), reply_to=message)


@app.query("advertise")
def advertise(message: Message, context: Context) -> Message:
    """Opens a masked session: the phones that join make keys."""
    return _in_session(message, context, AdvertiseRequest)


@app.query("accept")
def accept(message: Message, context: Context) -> Message:
    """Shows phones the roster; they reveal their nonces."""
    return _in_session(message, context, RosterNotice)


@app.query("share")
def share(message: Message, context: Context) -> Message:
    """Has phones share their secrets among their neighbours."""
    return _in_session(message, context, ShareRequest)


@app.train("masked")
def masked(message: Message, context: Context) -> Message:
    """Trains the phones and sends their masked vectors."""
    return _in_session(message, context, MaskRequest)


@app.query("agree")
def agree(message: Message, context: Context) -> Message:
    """Has phones sign who shared and who survived."""
    return _in_session(message, context, AgreeRequest)


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Asks phones for the shares that open the sum."""
    return _in_session(message, context, UnmaskRequest)


def _permitted(message: Message, context: Context, kind: type[MessageT]) -> tuple[MessageT, Fleet]:
    """Reads a request of one kind, for phones that answer it under their own plan.

    Raises:
      ProtocolAbort: if it is another kind, or they do not answer it.
    """
    request, fleet = from_record(message.content, kind), _fleet(context)
    require_permission(request, fleet.job.plan)
    return request, fleet


def _in_session(message: Message, context: Context, kind: type[MaskedRequest]) -> Message:
    """Answers one stage of a masked session."""
    request, fleet = _permitted(message, context, kind)
    with _nothing_told():
        before, session = _read_state(context, fleet), _read_session(context)
        state = before
        phones = _open_masked(fleet)
        reply: SessionAnswer
        match request:
            case AdvertiseRequest():
                reply, (state, session) = phones.advertise(request, state)
            case RosterNotice():
                reply, (state, session) = phones.accept(request, state, session)
            case ShareRequest():
                reply, (state, session) = phones.share(request, state, session)
            case MaskRequest():
                reply, (state, session) = phones.mask(request, state, session)
            case AgreeRequest():
                reply, (state, session) = phones.agree(request, state, session)
            case UnmaskRequest():
                reply, (state, session) = phones.unmask(request, state, session)
        if state is not before:
            _keep_state(context, fleet, state)
    _keep_session(context, session)
    return Message(to_record(reply), reply_to=message)


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


def _fleet(context: Context) -> Fleet:
    """The shard of this node, opened once per process.

    A node that was told its job when it was started takes it from nobody else.
    """
    shard, num_shards = (context.node_config[k] for k in ("partition-id", "num-partitions"))
    job_path = str(context.node_config.get("job") or context.run_config.get("job", ""))
    fleet = _open_fleet(Job.load(Path(job_path)), int(shard))
    if int(num_shards) != fleet.counts().num_shards:
        raise ProtocolAbort(
            f"the job splits its phones into {fleet.counts().num_shards} shards, "
            f"but this run has {num_shards} nodes"
        )
    return fleet


@functools.lru_cache(maxsize=64)
def _open_fleet(job: Job, shard: int) -> Fleet:
    return Fleet(job, shard)


@functools.lru_cache(maxsize=64)
def _open_masked(fleet: Fleet) -> MaskedFleet:
    return MaskedFleet(fleet)


# What a node remembers, as records of its context. Flower keeps them before it sends a reply; what
# phones must not forget even if the node ends goes to their memory as well.


def _read_state(context: Context, fleet: Fleet) -> FleetState:
    """What this node remembers of earlier rounds."""
    if "fleet" not in context.state and fleet.job.memory:
        kept = Memory(Path(fleet.job.memory), fleet.shard).read()
        if kept is not None:
            context.state.update(recorddict_from_proto(RecordDictProto.FromString(kept)))
    if "fleet" not in context.state:
        return FleetState()
    config: dict[str, Any] = dict(context.state.config_records["fleet"])
    arrays = {name: array.numpy() for name, array in context.state.array_records["phones"].items()}
    try:
        history = {name: config[name] for name in ("round", "session", "masked")}
        return FleetState(rid=config["rid"], history=History(**history), **arrays)
    except (KeyError, TypeError):
        raise ProtocolAbort(
            "what these phones remember was written by another version of fedspeech: they take no "
            "part in this run any more"
        ) from None


def _keep_state(context: Context, fleet: Fleet, state: FleetState) -> None:
    """Hands the state to Flower, and to the phones' memory."""
    history = state.history
    kept = RecordDict(
        {
            "fleet": ConfigRecord(
                {
                    "rid": state.rid,
                    "round": history.round,
                    "session": history.session,
                    "masked": history.masked,
                }
            ),
            "phones": _arrays(
                senders=state.senders, inputs_sent=state.inputs_sent, joined=state.joined
            ),
        }
    )
    if fleet.job.memory:
        content = recorddict_to_proto(kept).SerializeToString()
        Memory(Path(fleet.job.memory), fleet.shard).write(history.round, content)
    context.state.update(kept)


def _read_session(context: Context) -> SessionState:
    """What this node's phones keep within a masked session."""
    if "session" not in context.state:
        return SessionState(session=0, stage=Stage.NONE)
    config: dict[str, Any] = dict(context.state.config_records["session"])
    lists = {n: a.numpy() for n, a in context.state.array_records["session lists"].items()}
    secrets: dict[str, Any] = dict(context.state.config_records["session secrets"])
    roster = None
    if "members" in lists:
        columns = {n: lists[n] for n in _ROSTER_COLUMNS}
        roster = Roster(members=Members(lists["members"]), **columns)
    return SessionState(
        session=config["session"],
        stage=Stage(config["stage"]),
        model_sha256=config["model_sha256"],
        roster=roster,
        nonces=tuple(rows(lists["nonces"])) if "nonces" in lists else (),
        sharers=Members(lists["sharers"]) if "sharers" in lists else None,
        survivors=Members(lists["survivors"]) if "survivors" in lists else None,
        secrets={int(number): secret for number, secret in secrets.items()},
    )


def _keep_session(context: Context, session: SessionState) -> None:
    """Hands the session to Flower; secrets of older stages are overwritten."""
    context.state["session"] = ConfigRecord(
        {
            "session": session.session,
            "stage": int(session.stage),
            "model_sha256": session.model_sha256,
        }
    )
    lists: dict[str, np.ndarray[Any, Any]] = {}
    if session.roster is not None:
        lists["members"] = session.roster.members.ids
        lists |= {name: getattr(session.roster, name) for name in _ROSTER_COLUMNS}
    if session.nonces:
        lists["nonces"] = table(session.nonces, len(session.nonces[0]))
    for name, members in (("sharers", session.sharers), ("survivors", session.survivors)):
        if members is not None:
            lists[name] = members.ids
    context.state["session lists"] = _arrays(**lists)
    context.state["session secrets"] = ConfigRecord(
        {str(number): secret for number, secret in session.secrets.items()}
    )


_ROSTER_COLUMNS = ("seal_keys", "mask_keys", "commitments", "signatures")


def _arrays(**arrays: np.ndarray[Any, Any]) -> ArrayRecord:
    return ArrayRecord({n: Array(np.ascontiguousarray(a)) for n, a in arrays.items()})

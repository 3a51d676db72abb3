"""Flower ClientApp: open the message, call the fleet, close the message."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.fleet import Fleet, FleetState
from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.job import Job
from fedspeech.messages import (
    CountsRequest,
    RosterRequest,
    UpdateRequest,
    from_record,
    to_record,
)

app = ClientApp()
_LOG = logging.getLogger(__name__)


@app.query("counts")
def counts(message: Message, context: Context) -> Message:
    """Says which shard this is."""
    from_record(message.content, CountsRequest)
    return Message(to_record(_fleet(context).counts()), reply_to=message)


@app.query("roster")
def roster(message: Message, context: Context) -> Message:
    """Says which phones join the round."""
    request = from_record(message.content, RosterRequest)
    fleet = _fleet(context)
    with _nothing_told():
        reply, state = fleet.join(request, _read_state(context, fleet))
    _keep_state(context, state)
    return Message(to_record(reply), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains the phones that joined and sends their protected sum."""
    request = from_record(message.content, UpdateRequest)
    fleet = _fleet(context)
    with _nothing_told():
        reply, state = fleet.update(request, _read_state(context, fleet))
    _keep_state(context, state)
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
    """The shard of this node, opened once per process."""
    shard, num_shards = (context.node_config[k] for k in ("partition-id", "num-partitions"))
    job_path = str(context.run_config.get("job", ""))
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


def _read_state(context: Context, fleet: Fleet) -> FleetState:
    """What this node remembers of earlier messages."""
    if "fleet" not in context.state:
        return FleetState.fresh(fleet.num_phones)
    config: dict[str, Any] = dict(context.state.config_records["fleet"])
    arrays = context.state.array_records["phones"]
    return FleetState(
        inputs_sent=arrays["inputs_sent"].numpy(),
        joined=arrays["joined"].numpy(),
        rid=config["rid"],
        answered=config["answered"],
        last=(config["round"], config["attempt"]),
    )


def _keep_state(context: Context, state: FleetState) -> None:
    """Hands the state to Flower, which keeps it before it sends the reply."""
    context.state["fleet"] = ConfigRecord(
        {
            "rid": state.rid,
            "answered": state.answered,
            "round": state.last[0],
            "attempt": state.last[1],
        }
    )
    context.state["phones"] = ArrayRecord(
        {
            "inputs_sent": Array(np.ascontiguousarray(state.inputs_sent)),
            "joined": Array(np.ascontiguousarray(state.joined)),
        }
    )

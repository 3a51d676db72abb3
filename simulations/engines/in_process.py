"""Flower's Grid inside one process or a few workers: no daemon, no polling, starts at once.

A `ServerApp` cannot tell it from Flower's own grids: the same messages, the same `Context` per
node, exceptions of a `ClientApp` as `Message(Error(...))`. With more than one worker, nodes live in
worker processes, each node always in the same one, since its context stays there. What a node
remembers for itself goes to the folder `durable_state` of its config, which ends with the grid.
"""

from __future__ import annotations

import os
import pkgutil
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict, UserConfig, UserConfigValue
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedspeech.errors import FedspeechError
from fedspeech.job import Job
from fedspeech.training.workers import WorkerPool, worker_deaths_said
from server.app import serve
from server.rounds import OnRound
from server.rows import Follower

CLIENT_APP = "clients.app:app"
RUN_ID = SERVER_NODE_ID = 1
STAYS_CHARGED = "the round it was in stays charged"
CLIENT_APP_RAISED = 2  # flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class _Node:
    """A node and its context; handles one message at a time."""

    def __init__(
        self, app: ClientApp, node_id: int, config: UserConfig, run_config: UserConfig
    ) -> None:
        self._app = app
        self._context = Context(
            run_id=RUN_ID, node_id=node_id, node_config=config, state=RecordDict(),
            run_config=dict(run_config),
        )  # fmt: skip

    def handle(self, message: Message) -> Message:
        """Calls the app as Flower would; an exception becomes an error reply."""
        # Flower takes the sender of a message from this global, which server and nodes share here.
        server_identity = TaskIdentity.node_id
        TaskIdentity.node_id = self._context.node_id
        try:
            reply = self._app(message, self._context)
        except Exception as error:  # what an app raises is the app's; the server must hear of it
            reason = f"{type(error).__name__}: {error}"
            if not isinstance(error, FedspeechError):
                reason += "\n" + traceback.format_exc(limit=-3)
            reply = Message(Error(code=CLIENT_APP_RAISED, reason=reason), reply_to=message)
        finally:
            TaskIdentity.node_id = server_identity
        # Written past the interface, as Flower's own engines do: metadata has no setter for it.
        reply.metadata.__dict__["_message_id"] = uuid4().hex
        return reply


def _nodes(
    app: ClientApp, configs: Mapping[int, UserConfig], run_config: UserConfig
) -> dict[int, _Node]:
    return {node_id: _Node(app, node_id, config, run_config) for node_id, config in configs.items()}


# The nodes of this worker process; a module variable because a process pool has no other place.
_WORKER_NODES: dict[int, _Node] = {}


def _identify() -> None:
    """Says to Flower, in this process, whose messages it makes."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_NODE_ID, 1


def _start_worker(app_path: str, configs: Mapping[int, UserConfig], run_config: UserConfig) -> None:
    _identify()
    _WORKER_NODES.update(_nodes(load_app(app_path), configs, run_config))


def _handle_in_worker(message: Message) -> Message:
    return _WORKER_NODES[message.metadata.dst_node_id].handle(message)


def load_app(path: str) -> ClientApp:
    """Imports `module:attribute`."""
    app = pkgutil.resolve_name(path)
    if not isinstance(app, ClientApp):
        raise ValueError(f"{path} must be a flwr ClientApp, got {type(app).__name__}")
    return app


class InProcess:
    """The engine of one process: the server here, phones here or in workers."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(
        self, job: Path, on_round: OnRound, say: Callable[[str], None], *, resume: str, known: int
    ) -> None:
        """Runs a job to its end and hands on every round as it is over; see `SuperLink.run`."""
        follow = Follower(job.parent, known, on_round)
        follow()  # rounds that were over when the run was killed, and nobody had shown
        num_shards = Job.load(job).num_shards
        with InProcessGrid(CLIENT_APP, num_shards, {"job": str(job)}, self._workers) as grid:
            serve(grid, job, resume, follow)


class InProcessGrid(Grid):
    """Nodes 1, 2, ... of one Flower run, called directly; a context manager.

    TaskIdentity is global to a process, so a process has at most one open grid.

    Args:
      app: a ClientApp, or its `module:attribute` path (needed with more than one worker).
      num_nodes: nodes; node i has partition-id i, num-partitions num_nodes and a folder
        durable_state in its config.

    Raises:
      RuntimeError: if another grid is open in this process.
      ValueError: for fewer than one node or worker.
    """

    _open: InProcessGrid | None = None

    def __init__(
        self,
        app: ClientApp | str,
        num_nodes: int,
        run_config: Mapping[str, UserConfigValue] | None = None,
        workers: int = 1,
    ) -> None:
        if num_nodes < 1 or workers < 1:
            raise ValueError(f"expected at least one node and worker, got {num_nodes}, {workers}")
        if InProcessGrid._open is not None:
            raise RuntimeError("one InProcessGrid at a time: close the open one first")
        self._run = Run.create_empty(run_id=RUN_ID)
        self._replies: dict[str, Future[Message]] = {}
        self._nodes: dict[int, _Node] = {}
        self._pools: list[WorkerPool] = []
        self._node_ids = [SERVER_NODE_ID + 1 + index for index in range(num_nodes)]
        _identify()
        # Phones without a durable state answer nothing, even those that end with the grid.
        self._memory = tempfile.TemporaryDirectory(
            prefix="fedspeech-nodes-", ignore_cleanup_errors=True
        )
        everywhere: UserConfig = {"num-partitions": num_nodes, "durable_state": self._memory.name}
        configs: dict[int, UserConfig] = {
            node_id: {"partition-id": index, **everywhere}
            for index, node_id in enumerate(self._node_ids)
        }
        run_config = dict(run_config or {})
        if workers == 1:
            app = load_app(app) if isinstance(app, str) else app
            self._nodes = _nodes(app, configs, run_config)
        else:
            if not isinstance(app, str):
                raise ValueError("with more than one worker, give the app as module:attribute")
            # Workers inherit it: it is read when they import torch, before a call could set it.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            for worker in range(min(workers, num_nodes)):
                own = {n: configs[n] for n in self._node_ids[worker :: min(workers, num_nodes)]}
                self._pools.append(WorkerPool(1, _start_worker, app, own, run_config))
        InProcessGrid._open = self

    def __enter__(self) -> InProcessGrid:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error nobody reads what workers compute, and a shutdown would wait for it.
        if kind is not None:
            for pool in self._pools:
                pool.kill()
        self.close()

    def close(self) -> None:
        """Ends the workers; replies not yet pulled are lost."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools, self._nodes, self._replies = [], {}, {}
        self._memory.cleanup()
        if InProcessGrid._open is self:
            InProcessGrid._open = None

    def set_run(self, run: Run) -> None:
        """Takes the run's description as Flower's engine gives it."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Builds a message; new code calls `Message` itself."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return list(self._node_ids)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hands each message to its node; with workers, returns before they are done.

        Raises:
          FedspeechError: if a node's worker process died.
          ValueError: for a node that is not in this grid.
        """
        ids = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            if node_id not in self._node_ids:
                raise ValueError(f"there is no node {node_id} in this grid")
            message_id = uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            self._replies[message_id] = self._asked(node_id, message)
            ids.append(message_id)
        return ids

    def _asked(self, node_id: int, message: Message) -> Future[Message]:
        """The reply of a node: at once, or from its worker, which may have died meanwhile."""
        if self._pools:
            # As in `__init__`: a node's context is in one worker and nowhere else.
            pool = self._pools[self._node_ids.index(node_id) % len(self._pools)]
            with worker_deaths_said(STAYS_CHARGED):
                return pool.submit(_handle_in_worker, message)
        reply = Future[Message]()
        reply.set_result(self._nodes[node_id].handle(message))
        return reply

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns the replies that are there; each is returned once."""
        ready = []
        for message_id in message_ids:
            if message_id in self._replies and self._replies[message_id].done():
                with worker_deaths_said(STAYS_CHARGED):
                    ready.append(self._replies.pop(message_id).result())
        return ready

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages and waits for all replies, or until the timeout (s) for those there."""
        ids = list(self.push_messages(messages))
        wait([self._replies[message_id] for message_id in ids], timeout=timeout)
        return self.pull_messages(ids)

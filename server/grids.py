"""A Flower Grid with something in between: the answers that cannot even be put together."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from httpx import HTTPError

UNREADABLE = 2  # flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION: the fault is the node's
PAUSE_S = 0.2


class GridAround(Grid):
    """A grid that stands for another one, and does what it does.

    Args:
      grid: the other one.
    """

    def __init__(self, grid: Grid) -> None:
        """Takes the grid."""
        self._grid = grid

    def set_run(self, run: Run) -> None:
        """Takes the run's description."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Builds a message."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages as they are."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns replies as they are."""
        return self._grid.pull_messages(message_ids)


class OneByOneGrid(GridAround):
    """Pulls each answer by itself, so that one that cannot be put together fails its sender alone.

    Flower carries a message as a tree of objects that the node itself has encoded, and checks of
    them no more than their hashes before the server decodes them: all answers at once are lost to
    an exception that names no node.
    """

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages and waits for all replies, or until the timeout (s) for those there.

        Raises:
          HTTPError: if the SuperLink itself does not answer.
        """
        sent = list(messages)
        pushed = zip(self.push_messages(sent), sent, strict=False)  # what was not has no id
        waiting = {message_id: message for message_id, message in pushed if message_id}
        deadline = None if timeout is None else time.monotonic() + timeout
        heard: list[Message] = []
        while waiting and (deadline is None or time.monotonic() < deadline):
            for message_id, message in list(waiting.items()):
                if replies := self._pull(message_id, message):
                    heard += replies
                    del waiting[message_id]
            if waiting:
                time.sleep(PAUSE_S)
        return heard

    def _pull(self, message_id: str, message: Message) -> list[Message]:
        """The answer to one message, if it is there; an error in the node's name, if it is none."""
        try:
            return list(self.pull_messages([message_id]))
        except HTTPError:
            raise
        except Exception as error:  # whatever a stranger's objects set off
            reason = f"an answer that cannot be put together: {type(error).__name__}: {error}"
            return [Message(Error(UNREADABLE, reason), reply_to=message)]

"""What rounds ask of a Flower Grid, and the answers that cannot even be put together."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from flwr.app import Error, Message
from flwr.serverapp import Grid
from httpx import HTTPError

UNREADABLE = 2  # flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION: the fault is the node's
PAUSE_S = 0.2
TELL_EVERY_S = 60.0

_LOG = logging.getLogger(__name__)


class Nodes(Protocol):
    """What rounds ask of a Flower Grid."""

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        ...

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages and waits for all replies, or until the timeout (s) for those there."""
        ...


class OneByOneGrid:
    """Pulls each answer by itself, so that one that cannot be put together fails its sender alone.

    Flower carries a message as a tree of objects that the node itself has encoded, and checks of
    them no more than their hashes before the server decodes them: all answers at once are lost to
    an exception that names no node.

    Whoever waits is told every minute for whom: in the log, and in a file for other processes.

    Args:
      waiting: the file, there while somebody is waited for beyond a minute.
    """

    def __init__(self, grid: Grid, waiting: Path) -> None:
        self._grid, self._waiting = grid, waiting

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return self._grid.get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages and waits for all replies, or until the timeout (s) for those there.

        Raises:
          HTTPError: if the SuperLink itself does not answer.
        """
        sent = list(messages)
        pushed = zip(self._grid.push_messages(sent), sent, strict=False)  # what was not has no id
        waiting = {message_id: message for message_id, message in pushed if message_id}
        began = told = time.monotonic()
        deadline = None if timeout is None else began + timeout
        heard: list[Message] = []
        while waiting and (deadline is None or time.monotonic() < deadline):
            for message_id, message in list(waiting.items()):
                if replies := self._pull(message_id, message):
                    heard += replies
                    del waiting[message_id]
            if waiting:
                if time.monotonic() - told > TELL_EVERY_S:
                    told = time.monotonic()
                    self._tell(waiting.values(), told - began, timeout)
                time.sleep(PAUSE_S)
        with contextlib.suppress(OSError):
            self._waiting.unlink(missing_ok=True)
        return heard

    def _tell(self, unanswered: Collection[Message], seconds: float, timeout: float | None) -> None:
        """Says who has not answered what."""
        first = next(iter(unanswered)).metadata
        nodes = ", ".join(str(message.metadata.dst_node_id) for message in unanswered)
        group = first.group_id
        when = f"round {int(group) + 1}" if group.isdigit() else "before the first round"
        until = "for ever: simulation.deadline_s = 0" if timeout is None else f"{timeout:g} s"
        words = (
            f"{when}: no answer to {first.message_type} for {seconds:.0f} s from node {nodes} "
            f"(waits {until})"
        )
        _LOG.warning(words)
        with contextlib.suppress(OSError):  # a full disk is told of elsewhere
            self._waiting.write_text(words)

    def _pull(self, message_id: str, message: Message) -> list[Message]:
        """The answer to one message, if it is there; an error in the node's name, if it is none."""
        try:
            return list(self._grid.pull_messages([message_id]))
        except HTTPError:
            raise
        except Exception as error:  # whatever a stranger's objects set off
            reason = f"an answer that cannot be put together: {type(error).__name__}: {error}"
            return [Message(Error(UNREADABLE, reason), reply_to=message)]

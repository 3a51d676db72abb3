"""Worker processes that leave Ctrl-C to their parent and never outlive it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import ParamSpec, TypeVar

from fedspeech.errors import FedspeechError

P = ParamSpec("P")
T = TypeVar("T")


class WorkerPool(ProcessPoolExecutor):
    """Spawned processes, each prepared once by a picklable call; a context manager.

    Ctrl-C in a terminal reaches every process of its group; here only the parent hears it. What
    leaves the `with` block by an exception kills the workers in the middle of their work instead of
    waiting for it. If the parent itself is killed, the workers notice and go.
    """

    def __init__(
        self, workers: int, prepare: Callable[P, None], *arguments: P.args, **named: P.kwargs
    ) -> None:
        """Starts nothing yet."""
        super().__init__(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(prepare, arguments, named),
        )

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Hands a call to a worker."""
        with _interrupts_held_back():  # processes start here and hold back what their parent does
            return super().submit(fn, *args, **kwargs)

    def kill(self) -> None:
        """Ends all workers at once; what they were doing is lost."""
        for process in list((self._processes or {}).values()):
            process.kill()  # from Python 3.14 on, kill_workers() does this

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Waits for the workers, or kills them if something went wrong."""
        if kind is not None:
            self.kill()
        return super().__exit__(kind, error, trace)


@contextlib.contextmanager
def worker_deaths_said(consequence: str) -> Iterator[None]:
    """Says plainly that a worker died, and the consequence for whoever counted on it.

    Raises:
      FedspeechError: instead of the pool's own exception.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise FedspeechError(
            f"a worker process died (killed, or out of memory); {consequence}"
        ) from error


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Delays SIGINT for this thread; a process started meanwhile delays it for ever."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(
    prepare: Callable[..., None], arguments: tuple[object, ...], named: dict[str, object]
) -> None:
    """Runs once in every worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments, **named)


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # `sys.exit` would end this thread alone.
        os._exit(1)

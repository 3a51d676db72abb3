"""Children that die in the middle of their work, as by SIGKILL."""

import os
import signal
import threading
from pathlib import Path


def in_child(work, *arguments, kill_at=None, after_s=None):
    """Forks, runs `work` and returns its exit status; -9 if it was killed.

    Args:
      work: what the child does.
      arguments: of `work`.
      kill_at: number, from 0, of the step on disk (a flush or a rename) before which the child is
        killed; None: never.
      after_s: seconds after which it is killed from outside; None: never.
    """
    child = os.fork()
    if child == 0:
        status = 70
        try:
            if kill_at is not None:
                _arm(kill_at)
            work(*arguments)
            status = 0
        finally:
            os._exit(status)
    killer = threading.Timer(after_s or 0, os.kill, (child, signal.SIGKILL))
    if after_s is not None:
        killer.start()
    # WNOWAIT: the number of a child that ended by itself stays taken until the timer is off.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    killer.cancel()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _arm(kill_at):
    steps = iter(range(1_000_000))

    def armed(real):
        def call(*arguments, **named):
            if next(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    os.fsync = armed(os.fsync)
    Path.replace = armed(Path.replace)

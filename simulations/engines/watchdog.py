"""Ends what an engine started once the process that started it is gone, however that came about.

A process of its own, told by its standard input coming to an end, which no kill can prevent.
Nothing of ours is imported, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

import psutil

GRACE_S = 10.0


def marked(mark: str) -> list[int]:
    """Numbers of the other processes that were started with `mark`, NAME=VALUE, set.

    Processes that have ended meanwhile, and those of other users, are passed over.
    """
    name, _, value = mark.partition("=")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process.pid)
    return found


def end_all(mark: str, grace_s: float = GRACE_S) -> None:
    """Ends them: asks first, and after the grace does not ask any more."""
    deadline, asked = time.monotonic() + grace_s, set[int]()
    while left := marked(mark):
        late = time.monotonic() > deadline
        for process in left:
            if late or process not in asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL if late else signal.SIGTERM)
        asked.update(left)
        time.sleep(0.1)


def main() -> None:
    """Waits for the end of standard input, then clears up: `watchdog.py MARK FOLDER`."""
    mark, folder = sys.argv[1:]
    sys.stdin.read()
    end_all(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Workers leave Ctrl-C to their parent and never outlive it."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fedspeech.errors import FedspeechError
from fedspeech.training.workers import WorkerPool, worker_deaths_said

ROOT = Path(__file__).parents[3]
posix = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX signals")

SCRIPT = """
import os, signal, sys, time
from fedspeech.training.workers import WorkerPool

def prepare(word):
    print("worker", os.getpid(), word, signal.SIGINT in signal.pthread_sigmask(0, ()), flush=True)

def nap():
    time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    with WorkerPool(1, prepare, "ready") as pool:
        future = pool.submit(nap)
        assert signal.SIGINT not in signal.pthread_sigmask(0, ())
        future.result()
"""


@pytest.fixture
def busy(tmp_path):
    """A parent whose worker naps for ten minutes, in a session of its own."""
    script = tmp_path / "busy.py"
    script.write_text(textwrap.dedent(SCRIPT))
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _, pid, word, deaf = parent.stdout.readline().split()
    assert (word, deaf) == ("ready", "True")
    yield parent, int(pid)
    for process in (parent.pid, int(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    parent.communicate()


def gone_within(pid, seconds):
    """Whether a process ends in time; one that nobody has waited for counts as ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@posix
def test_an_interrupt_of_the_whole_group_ends_busy_workers_at_once_and_silently(busy):
    parent, worker = busy
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert errors.count("Traceback") <= 2  # the parent's own, which this script does not catch
    assert "_process_worker" not in errors
    assert gone_within(worker, 60)


@posix
def test_workers_go_when_their_parent_is_killed(busy):
    parent, worker = busy
    parent.kill()
    assert gone_within(worker, 60)


def test_the_death_of_a_worker_is_said_with_what_it_means():
    with (
        pytest.raises(FedspeechError, match=r"a worker process died .*; nothing is lost"),
        worker_deaths_said("nothing is lost"),
        WorkerPool(1, print) as pool,
    ):
        pool.submit(os._exit, 9).result()

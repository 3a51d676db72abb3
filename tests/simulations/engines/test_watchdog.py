"""What was marked ends, even if it does not want to; what was not is left alone."""

import os
import subprocess
import sys
import time

import pytest

from simulations.engines import watchdog

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux")


def start(mark=None):
    """A process that ignores SIGTERM."""
    name, value = (mark or "NO=1").split("=")
    child = subprocess.Popen(
        [sys.executable, "-c", STUBBORN + "; time.sleep(60)"], stdout=subprocess.PIPE,
        env={**os.environ, name: value},
    )  # fmt: skip
    child.stdout.readline()
    return child


def test_marked_processes_end_with_the_one_that_started_the_watchdog(tmp_path):
    mark, folder = f"FEDSPEECH_TEST=watchdog-{os.getpid()}", tmp_path / "folder"
    folder.mkdir()
    ours, others = start(mark), start()
    script = watchdog.__file__
    dog = subprocess.Popen(
        [sys.executable, "-I", "-c",
         f"import runpy, sys; sys.argv[1:] = {[mark, str(folder)]!r}\n"
         f"m = runpy.run_path({script!r}); m['end_all'].__defaults__ = (0.3,); m['main']()"],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(0.3)
    assert ours.poll() is None
    dog.stdin.close()
    dog.wait(timeout=20)
    assert ours.wait(timeout=5) == -9
    assert others.poll() is None
    others.kill()
    others.wait()
    assert not folder.exists()

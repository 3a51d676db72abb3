"""Flower's own engines, started, followed and ended: the same app behind a SuperLink.

Nothing of it outlives the run: a SuperLink of its own with folder, port and environment of its own,
a token in that environment by which every process that it started is found again, Ray's too, and a
watchdog that ends them if this process is killed.

The server's side of the app then runs in a process of Flower's and leaves a row and a checkpoint
per round beside the job; `SuperLink.run` hands them on as they come.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import tomli_w

from fedspeech.errors import FedspeechError
from fedspeech.extras import require
from fedspeech.source import source_files
from server.app import FAILED, WAITING
from server.rounds import OnRound
from server.rows import Follower
from simulations.engines import watchdog

TOKEN = "FEDSPEECH_ENGINE_TOKEN"
START_WAIT_S = 90.0
FAILED_WAIT_S = 20.0  # for an engine whose app has said why it failed
END_WAIT_S = 10.0
ASK_EVERY_S = 4.0  # a call of Flower's command line takes a second of CPU
# A socket's path has at most so many bytes: what the system's address of one holds, less its end.
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
# In its longest form: no process of Linux has a number above 4194304.
RAY_SOCKET = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.9"
QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


class SuperLink:
    """A SuperLink on the loopback interface that ends with this process; a context manager.

    Args:
      folder: for configuration, keys and logs while it runs; what a killed one left is removed.
      options: of `flower-superlink`, address and port excepted.
      connection: how Flower's command line connects to it, address excepted.
      federation: Flower's `--federation-config`: nodes and cores of a simulation.

    Raises:
      FedspeechError: if Flower's commands are missing, or it does not come up.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = ("--simulation", "--insecure"),
        connection: Mapping[str, Any] | None = None,
        federation: str = "",
    ) -> None:
        deadline = time.monotonic() + 2 * watchdog.GRACE_S
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.1)  # the watchdog of a killed run is clearing up
        shutil.rmtree(folder, ignore_errors=True)
        # For this user alone: a deployment keeps its private keys below.
        folder.mkdir(mode=0o700)
        self.folder = folder.resolve()
        self.app = self.folder / "app"
        token = uuid4().hex
        self.mark = f"{TOKEN}={token}"
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {
            # Else Ray looks for whatever cluster was last started here, which may be long dead.
            "RAY_ADDRESS": "local",
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            **QUIET,
            "RAY_TMPDIR": ray_folder(os.environ),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self.folder / "home"),
            TOKEN: token,
        }
        self._federation = federation
        self._options, self._connection = list(options), dict(connection or {"insecure": True})
        self._started: list[subprocess.Popen[bytes]] = []
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SuperLink:
        settings = {"address": self.address, **self._connection}
        (self.folder / "home").mkdir()
        (self.folder / "home" / "config.toml").write_text(
            tomli_w.dumps({"superlink": {"default": "own", "own": settings}})
        )
        self._watchdog = subprocess.Popen(
            # In a process group of its own, so that Ctrl-C does not end it as well; isolated
            # (`-I`), so that nothing in the current folder is imported in its place.
            [sys.executable, "-I", watchdog.__file__, self.mark, str(self.folder)],
            stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        host, port = self.address.split(":")
        arguments = [*self._options, "--host", host, "--port", port]
        try:
            app_folder(self.app)
            self._wait_for(self.start("superlink", executable("flower-superlink"), *arguments))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Starts a process that ends with this one; its output goes to `log(name)`."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.app, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )  # fmt: skip
        self._started.append(process)
        return process

    def log(self, name: str) -> Path:
        """File with the output of one process."""
        return self.folder / f"{name}.log"

    def flwr(self, *arguments: str) -> dict[str, Any]:
        """Runs Flower's command line and returns what it says as JSON."""
        done = subprocess.run(
            [executable("flwr"), *arguments, "--format", "json"],
            cwd=self.app, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:
            said: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            said = {}
        if done.returncode or not said.get("success"):
            why = said.get("error-message") or (done.stderr or done.stdout).strip()[-500:]
            raise FedspeechError(f"flwr {' '.join(arguments[:2])} failed: {why}")
        return said

    def run(
        self,
        job: Path,
        on_round: OnRound,
        say: Callable[[str], None],
        *,
        resume: str,
        known: int,
        app: Path | None = None,
    ) -> None:
        """Runs a job to its end and hands on every round as it is over, but the first `known`.

        `resume` says how the server's side begins, as in `server.app`; `say` is told for whom it
        waits. `app` is the folder of the bundle for the nodes, by default of this process's code.

        Raises:
          FedspeechError: if the run failed, with the reason.
        """
        follow = Follower(job.parent, known, on_round)
        failed, failed_at = job.with_name(FAILED), math.inf
        waiting, said = job.with_name(WAITING), ""
        failed.unlink(missing_ok=True)
        waiting.unlink(missing_ok=True)
        # Quoted, as `-c` reads TOML: a path may hold spaces.
        config = f"job={json.dumps(str(job))} resume={json.dumps(resume)}"
        more = ["--federation-config", self._federation] if self._federation else []
        number = self.flwr("run", str(app or self.app), "own", "-c", config, *more)["run-id"]
        asked, status = time.monotonic(), ""
        while not status.startswith("finished"):
            time.sleep(0.1)
            if failed.exists():  # and Flower's engine may then wait for ever
                failed_at = min(failed_at, time.monotonic())
                if time.monotonic() - failed_at > FAILED_WAIT_S:
                    break
            if time.monotonic() - asked > ASK_EVERY_S:
                (found,) = self.flwr("ls", "own", "--run-id", number)["runs"]
                status, asked = found["status"], time.monotonic()
            if (words := _text(waiting)) and words != said:
                say(said := words)
            # A round that ended shows that the run is alive, and spares a question.
            if follow():
                asked = time.monotonic()
        if status != "finished:completed":
            if failed.exists():
                why = failed.read_text()
            else:
                why = f"{found.get('status-details', '')}\n{self._said(12)}"
            raise FedspeechError(f"Flower's engine stopped ({status or 'failed'}): {why}")

    def _wait_for(self, link: subprocess.Popen[bytes]) -> None:
        """Waits until the SuperLink answers."""
        deadline = time.monotonic() + START_WAIT_S
        while not answers(self.address):
            if link.poll() is not None or time.monotonic() > deadline:
                raise FedspeechError(f"superlink of Flower does not come up:\n{self._said(6)}")
            time.sleep(0.1)

    def _said(self, lines: int) -> str:
        """The last lines of the SuperLink's log."""
        log = self.log("superlink").read_text(errors="replace").strip().splitlines()
        return "\n".join(log[-lines:])

    def close(self) -> None:
        """Ends every process, then removes the folder."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()  # who it started is ended by it, in order
        deadline = time.monotonic() + END_WAIT_S
        while time.monotonic() < deadline and (
            [p for p in self._started if p.poll() is None] or watchdog.marked(self.mark)
        ):
            time.sleep(0.1)
        # Not all are children of this process: the mark in the environment finds those of Ray.
        watchdog.end_all(self.mark, grace_s=0)
        for process in self._started:
            process.kill()
            process.wait()
        if self._watchdog is not None:
            # This ends the watchdog's input: it finds nobody left and ends.
            self._watchdog.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


def _text(path: Path) -> str:
    """What a file holds that another process writes and removes; nothing where it is not there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def app_folder(folder: Path) -> None:
    """Writes the Flower app, as it is imported here, into a folder of its own.

    Both sides then run the very code of this process, from a checkout or an installation alike.
    """
    for name, content in source_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    described = {
        "project": {
            "name": "fedspeech", "version": "0", "description": "", "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {"flwr": {"app": {
            "publisher": "fedspeech",
            "components": {"serverapp": "server.app:app", "clientapp": "clients.app:app"},
            "config": {"job": "", "resume": ""},
        }}},
    }  # fmt: skip
    (folder / "pyproject.toml").write_text(tomli_w.dumps(described))


def require_engine(simulation: bool) -> None:
    """Refuses, before a run is prepared, what would keep Flower's engines from starting.

    Args:
      simulation: Flower's simulation engine is meant, which runs on Ray; a deployment does not.

    Raises:
      FedspeechError: if a package or a command of Flower's is missing, or no folder is short
        enough.
    """
    if simulation:
        require("ray")
    executable("flower-superlink")
    ray_folder(os.environ)


def executable(name: str) -> str:
    """Path of a command of Flower's, beside this Python or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FedspeechError(f"{name} is missing: it comes with flwr, beside fedspeech")
    return found


def ray_folder(environment: Mapping[str, str]) -> str:
    """Where Ray may make its folder: the first place where the paths of its sockets fit.

    Args:
      environment: in which Ray would look for RAY_TMPDIR, then TMPDIR, then take /tmp.

    Raises:
      FedspeechError: if RAY_TMPDIR is too long, or TMPDIR is and /tmp cannot be written to.
    """
    longest = SOCKET_BYTES - len(f"/{RAY_SOCKET}")
    if own := environment.get("RAY_TMPDIR"):
        places = {"RAY_TMPDIR": own}
    else:
        places = {"TMPDIR": environment.get("TMPDIR") or "/tmp", "the default": "/tmp"}
    for place in places.values():
        if len(os.fsencode(place)) <= longest and os.access(place, os.W_OK):
            return place
    name, place = next(iter(places.items()))
    raise FedspeechError(
        "the folder for the sockets of Flower's simulation engine must be writable, with a path of "
        f"at most {longest} bytes: {name}={place} has {len(os.fsencode(place))}. "
        "Set RAY_TMPDIR to another"
    )


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(address: str) -> bool:
    """Whether somebody listens there."""
    host, port = address.split(":")
    with socket.socket() as caller:
        caller.settimeout(0.5)
        return caller.connect_ex((host, int(port))) == 0

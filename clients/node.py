"""The program of a node: Flower's SuperNode, whose phones run the code that is installed here.

Flower ships the phones' code with every run, and its own node installs and runs whatever the server
sends: such a phone has no secrets before its server. This node runs nothing of a bundle. It answers
every message with the `clients.app` that stands beside this file, and refuses a run whose bundle
holds other code, so that a server of another version hears why.

    python -m clients.node --superlink HOST:PORT ...    # the options of flower-supernode

Three processes, as in Flower: the SuperNode, which exchanges messages; `start`, which begins a
process for each of them; and `answer`, that process.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import socket
import subprocess
import sys
import zipfile
from typing import Any

from flwr.common.config import parse_config_args
from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, SubprocessExecutor
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

from fedspeech.device.log_filter import filtered
from fedspeech.errors import ProtocolAbort
from fedspeech.source import SOURCE_PACKAGES, SOURCE_SUFFIXES, source_files

OWN = (sys.executable, "-m", "clients.node")
NOT_INSTALLED = "the server's bundle is not the code that is installed on this node; it was not run"


def main(arguments: list[str]) -> None:
    """Runs the node, or one of the two processes that it begins."""
    match arguments:
        case ["start", *options]:
            _call(flower_superexec, options, {"flwr.supercore.superexec.run_superexec": _STARTING})
        case ["answer", *options]:
            # What this process logs lies on the phone's disk, and may be sent as a crash report.
            with filtered():
                _call(flwr_clientapp, options, {"flwr.supernode.runtime.run_clientapp": _ANSWERING})
        case options:
            _host(options)


def check_bundle(bundle: bytes) -> None:
    """Refuses a bundle unless its code is, file for file, what is installed here.

    Args:
      bundle: the zip archive that came from the server; nothing in it is run or kept, and no more
        of it is unpacked than the installed code is long.
    """
    installed = source_files()
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            infos = {
                info.filename: info
                for info in archive.infolist()
                if info.filename.split("/")[0] in SOURCE_PACKAGES
                and info.filename.endswith(SOURCE_SUFFIXES)
            }
            same = infos.keys() == installed.keys() and all(
                infos[name].file_size == len(content) and archive.read(infos[name]) == content
                for name, content in installed.items()
            )
    except Exception as error:  # whatever a stranger's archive sets off
        raise ProtocolAbort(f"{NOT_INSTALLED} ({type(error).__name__})") from None
    if not same:
        raise ProtocolAbort(NOT_INSTALLED)


class OwnCode(SubprocessExecutor):
    """Begins a process of this program for each message, and nothing for any other task."""

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], **_: Any
    ) -> tuple[set[TaskType], set[str]]:
        """Asks for messages to phones only: Flower's nodes can also be told to run agents."""
        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Begins the process that answers one message."""
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed(f"a node of phones runs no {spec.task_type}")
        subprocess.Popen(
            [*OWN, "answer", "--insecure", "--runtime-api-address", spec.runtime_api_address,
             "--token", spec.token, "--parent-pid", str(spec.parent_pid)]
        )  # fmt: skip
        return LaunchResult.accepted()


def _installed_app(**_: Any) -> Any:
    """What Flower asks how to load an app: the installed one, whatever the bundle names."""
    from clients.app import app

    return lambda fab_id, fab_version, fab_hash: app


# Names in Flower's modules, and what stands there on this node.
_STARTING = {"get_executor": lambda *_, **__: OwnCode()}
_ANSWERING = {
    "install_from_fab": lambda bundle, **_: check_bundle(bundle),
    "get_load_client_app_fn": _installed_app,
}


def _call(program: Any, options: list[str], replaced: dict[str, dict[str, Any]]) -> None:
    """Runs one of Flower's programs with our code in its place for some names."""
    for place, names in replaced.items():
        module = importlib.import_module(place)
        for name, ours in names.items():
            # Set on a name that Flower no longer reads, our code would stand idle and Flower's
            # would run.
            if not hasattr(module, name):
                raise ProtocolAbort(f"this node does not know this flwr: {place} has no {name}")
            setattr(module, name, ours)
    sys.argv[1:] = options
    program()


def _host(options: list[str]) -> None:
    """Runs the SuperNode, with `start` beside it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9094)
    parser.add_argument("--isolation")
    parser.add_argument("--node-config", default="")
    own, others = parser.parse_known_args(options)
    if own.isolation is not None:
        parser.error("--isolation is this node's own: processes, of the installed code")
    if not parse_config_args([own.node_config]).get("job"):
        parser.error(
            '--node-config must name this node\'s own job="PATH": else the server would choose the '
            "plan that its phones follow"
        )
    address = f"{own.host}:{own.port}"
    if _taken(own.host, own.port):
        # Else `start` would ask the node that is there for its messages.
        parser.error(f"{address} is in use: give each node of a machine a --port of its own")
    start = subprocess.Popen(
        [*OWN, "start", "--insecure", "--runtime-api-address", address,
         "--parent-pid", str(os.getpid())]
    )  # fmt: skip
    sys.argv[1:] = [
        *others, "--host", own.host, "--port", str(own.port), "--isolation", "process",
        "--node-config", own.node_config,
    ]  # fmt: skip
    try:
        flower_supernode()
    finally:
        start.terminate()


def _taken(host: str, port: int) -> bool:
    """Whether another process listens there."""
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((host, port)) == 0


if __name__ == "__main__":
    main(sys.argv[1:])

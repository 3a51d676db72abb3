"""A deployment on one machine: a SuperLink and SuperNodes over TLS, each node with its own key.

What is deployed is what several machines would run: a node that is not registered is turned away,
and so is a server whose certificate the authority did not sign, or whose bundle is other code than
the nodes' own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fedspeech.errors import FedspeechError
from fedspeech.job import Job
from simulations.engines.certificates import Authority
from simulations.engines.flower import START_WAIT_S, SuperLink, free_port


class Deployment(SuperLink):
    """A SuperLink over TLS and one authenticated SuperNode per shard; a context manager.

    Args:
      job_path: `job.json`, which nodes take from their own configuration, never from the server.
    """

    def __init__(self, folder: Path, job_path: Path) -> None:
        super().__init__(folder)
        self._job_path, self._shards = job_path, Job.load(job_path).num_shards
        self.authority = Authority(self.folder / "keys")
        certificate, key = self.authority.server()
        self._options = [
            "--ssl-ca-certfile", str(self.authority.certificate),
            "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key),
            "--enable-supernode-auth", "--database", str(self.folder / "superlink.db"),
        ]  # fmt: skip
        self._connection = {"root-certificates": str(self.authority.certificate)}

    def __enter__(self) -> Deployment:
        super().__enter__()
        try:
            for shard in range(self._shards):
                # Registered before its node starts: SuperLink turns away whoever it does not know.
                private, public = self.authority.node(f"node-{shard}")
                self.register(public)
                self.start_node(str(shard), shard, private)
        except BaseException:
            # A `with` statement whose `__enter__` raises, by Ctrl-C too, calls no `__exit__`.
            self.close()
            raise
        return self

    def register(self, public_key: Path) -> None:
        """Has the SuperLink admit whoever holds the private key."""
        self.flwr("supernode", "register", str(public_key), "own")

    def start_node(
        self, name: str, shard: int, private_key: Path, root_certificate: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a SuperNode."""
        job = json.dumps(str(self._job_path))
        config = f"partition-id={shard} num-partitions={self._shards} job={job}"
        # Not `flower-supernode`: its phones run what their server ships (docs/deployment.md).
        return self.start(
            f"supernode-{name}", sys.executable, "-m", "clients.node",
            "--superlink", self.address,
            "--root-certificates", str(root_certificate or self.authority.certificate),
            "--auth-supernode-private-key", str(private_key),
            "--host", "127.0.0.1", "--port", str(free_port()),
            "--node-config", config,
        )  # fmt: skip

    def nodes_online(self) -> int:
        """Nodes that are there now."""
        nodes = self.flwr("supernode", "list", "own")["nodes"]
        return sum(node["status"] == "online" for node in nodes)

    def run(self, *arguments: Any, **named: Any) -> None:
        """Runs a job once all nodes are there; see `SuperLink.run`."""
        # A run that finds fewer nodes than shards ends at once.
        deadline = time.monotonic() + START_WAIT_S
        while (online := self.nodes_online()) < self._shards:
            if time.monotonic() > deadline:
                raise FedspeechError(f"{online} of {self._shards} nodes came up")
        super().run(*arguments, **named)

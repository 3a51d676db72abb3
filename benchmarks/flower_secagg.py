"""What Flower's own SecAgg+ costs beside fedspeech's masked sum: CPU seconds, nobody dropping out.

    python -m benchmarks.flower_secagg [--phones 16 32 64 100] [--dimension 10000] [--limit 300]

Run by hand, never in CI: it takes minutes, and compares one version of each on one machine.

Flower's side is one round of `SecAggPlusWorkflow` and `secaggplus_mod` as flwr ships them, in one
process without Ray: the workflow sends its four stages to legacy ClientApps over an InProcessGrid,
and a phone's fit returns a vector of ones. Phones' seconds are those inside the ClientApps, all
phones together; the server's are the rest of the workflow. No network is in them: messages are
copied instead, and the copying is not counted. Ours is one session of `fedspeech secagg bench`,
server and phones together: "shared" computes once what both ends of an edge, or all phones, need;
"not shared" computes it where it is asked for, but for tables of public values. Flower shares
nothing. Imports, enrolment and the checks of the results are in no figure.

Chosen alike: the modulus 2^32, the threshold and the graph. A phone of ours has k neighbors who
hold its shares; Flower's `num_shares` counts the phone itself, so it is k + 1. The rest are
Flower's defaults.

Not comparable, as read in flwr 1.41:

* Masks come from numpy's RandomState (MT19937), its seed a key folded by xor to 32 bits; a pairwise
  key is base64 text, whose bytes lack the top bit, so at most 28 are left. Ours are AES-256-CTR.
* Nothing is signed, and no stage lets phones check that they were told the same. Ours has such a
  stage, and phones sign in all stages but the last.
* Keys are on P-384 and stored as PEM, parsed at each use; the private key's PEM is what is shared,
  20 blocks of 16 bytes, with PyCryptodome's Shamir in pure Python, and all shares that arrive are
  joined, not a threshold of them. Ours are X25519, shared as 32-byte secrets.
* Phones clip, weigh and quantize floats to 64-bit integers, the server scales back and calls
  FedAvg.aggregate_fit: all counted. Our vectors are elements of the ring already, 32-bit words.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.server import LegacyContext
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key

from simulations.engines.in_process import InProcessGrid

COLUMNS = (
    "phones", "dimension", "threshold", "Flower's shares", "our neighbors",
    "Flower's server CPU s", "Flower's phones CPU s", "Flower's both", "ours, shared: CPU s",
    "ours, not shared: CPU s",
)  # fmt: skip


class Ones(NumPyClient):
    """A phone whose update is all ones."""

    def __init__(self, dimension: int) -> None:
        self._update = np.ones(dimension)

    def fit(self, parameters: Any, config: Any) -> tuple[list[Any], int, dict[str, Any]]:
        """Returns the ones as of one example."""
        return [self._update], 1, {}


class MeteredGrid(InProcessGrid):
    """Times the phones, and copies each message, for Flower's phones change what they are sent."""

    phones_seconds = copying_seconds = 0.0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hands copies of the messages to their nodes."""
        started = time.process_time()
        copies = [copy.deepcopy(message) for message in messages]
        copied = time.process_time()
        ids = super().push_messages(copies)
        self.copying_seconds += copied - started
        self.phones_seconds += time.process_time() - copied
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns the replies; a phone that failed ends the benchmark."""
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            if reply.has_error():
                raise RuntimeError(reply.error.reason)
        return replies


def flower(phones: int, dimension: int, shares: int, threshold: int) -> tuple[float, float]:
    """Runs one round of SecAgg+ and returns the CPU seconds of the server and of all phones."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    app = ClientApp(lambda context: Ones(dimension).to_client(), mods=[secaggplus_mod])
    workflow = SecAggPlusWorkflow(shares, threshold)
    grid = MeteredGrid(app, phones)
    with grid:
        manager = SimpleClientManager()
        for node_id in grid.get_node_ids():
            manager.register(GridClientProxy(node_id, grid, grid.run.run_id))
        context = LegacyContext(
            Context(grid.run.run_id, 1, {}, RecordDict(), {}),
            strategy=FedAvg(min_fit_clients=phones, min_available_clients=phones),
            client_manager=manager,
        )
        context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
        context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
        started = time.process_time()
        workflow(grid, context)
        seconds = time.process_time() - started - grid.copying_seconds
        (mean,) = context.state.array_records[MAIN_PARAMS_RECORD].to_numpy_ndarrays()
        if mean.shape != (dimension,) or not np.allclose(mean, 1, atol=0.01):
            raise AssertionError("Flower's mean is wrong")
        return seconds - grid.phones_seconds, grid.phones_seconds


def ours(phones: int, dimension: int) -> dict[str, Any]:
    """Runs `fedspeech secagg bench` in a process of its own and returns what it printed."""
    command = [
        str(Path(sys.executable).with_name("fedspeech")), "secagg", "bench", "--json", "--unshared",
        "--phones", str(phones), "--dimension", str(dimension), "--bits", "32", "--dropout", "0",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def line(phones: int, dimension: int, limit: float) -> str:
    """Measures both and writes a row of the table; Flower is stopped after `limit` seconds."""
    cost = ours(phones, dimension)
    shares, threshold = cost["neighbors"] + 1, cost["threshold"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        run = pool.apply_async(flower, (phones, dimension, shares, threshold))
        try:
            server, clients = run.get(timeout=limit)
            measured = [f"{server:.2f}", f"{clients:.2f}", f"{server + clients:.2f}"]
        except multiprocessing.TimeoutError:
            measured = ["", "", f"stopped after {limit:g} s"]
    own = [f"{cost['cpu_seconds']:.2f}", f"{cost['cpu_seconds_unshared']:.2f}"]
    counts = [f"{count:,}" for count in (phones, dimension, threshold, shares, cost["neighbors"])]
    return "| " + " | ".join([*counts, *measured, *own]) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, nargs="+", default=[16, 32, 64, 100])
    parser.add_argument("--dimension", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=300, help="wall seconds of Flower per row")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    for phones in options.phones:
        print(line(phones, options.dimension, options.limit), flush=True)


if __name__ == "__main__":
    main()

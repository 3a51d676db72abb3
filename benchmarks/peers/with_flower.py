"""The task on Flower's simulation engine as its examples use it: a node per phone, Ray below.

    python -m benchmarks.peers.with_flower FOLDER PHONES ROUNDS

Every node trains a head with a plain torch loop; FedAvg of Flower's own sums. CPU seconds are of
all processes: server, Ray, actors, known by a token in their environment. Starting them is not
counted.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers import task

client = ClientApp()


@functools.cache
def clips_of_all(folder: Path):
    """Maps the phones' clips once per actor."""
    return task.read(folder)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Trains one phone's head."""
    torch.set_num_threads(1)
    folder = Path(str(message.content["config"]["folder"]))
    clips, labels = (
        torch.from_numpy(np.array(part[int(context.node_config["partition-id"])]))
        for part in clips_of_all(folder)
    )
    head = torch.nn.Linear(task.FEATURES, task.LABELS)
    head.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(head.parameters(), lr=task.LEARNING_RATE)
    for _ in range(task.STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(clips), labels).backward()
        optimizer.step()
    content = RecordDict(
        {
            "arrays": ArrayRecord(head.state_dict()),
            "metrics": MetricRecord({"num-examples": task.CLIPS}),
        }
    )
    return Message(content=content, reply_to=message)


def serve(folder: str, phones: int, rounds: int, grid: Grid) -> None:
    """Runs the rounds with FedAvg and hands over what they took."""
    torch.set_num_threads(1)
    arrays = ArrayRecord(torch.nn.Linear(task.FEATURES, task.LABELS).state_dict())
    config = ConfigRecord({"folder": folder})

    def play(_: int) -> int:
        nonlocal arrays
        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=phones)
        arrays = strategy.start(
            grid=grid, initial_arrays=arrays, num_rounds=1, train_config=config
        ).arrays
        return phones

    result = task.timed(rounds, play, lambda: task.cpu_of_all(os.environ[task.TOKEN]))
    task.done({"version": version("flwr"), **result})


def main() -> None:
    """Starts the engine."""
    folder, phones, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    server = ServerApp()
    server.main()(lambda grid, context: serve(folder, phones, rounds, grid))
    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=phones,
        backend_config={"client_resources": {"num_cpus": 1}},
    )


if __name__ == "__main__":
    from benchmarks.peers import with_flower  # actors look the app up by this name

    with_flower.main()

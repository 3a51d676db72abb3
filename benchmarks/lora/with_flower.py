"""The task on Flower's simulation engine: a node per phone, Ray below, FedAvg of its own sums.

    python -m benchmarks.lora.with_flower FOLDER PHONES ROUNDS

CPU seconds are of all processes, known by a token in their environment; starting is not counted.
"""

from __future__ import annotations

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

from benchmarks.lora import task
from benchmarks.peers.task import TOKEN, cpu_of_all, done, timed

client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Trains one phone's factors and head."""
    torch.set_num_threads(1)
    folder, phone = Path(str(message.content["config"]["folder"])), context.node_config
    features, labels = (
        torch.from_numpy(np.array(task.read(folder, name)[int(phone["partition-id"])]))
        for name in ("features", "labels")
    )
    network = task.module()
    network.load_state_dict(message.content["arrays"].to_torch_state_dict(), strict=False)
    task.train(network, features, labels)
    content = RecordDict(
        {
            "arrays": ArrayRecord({n: v.detach() for n, v in task.trained(network).items()}),
            "metrics": MetricRecord({"num-examples": task.CLIPS}),
        }
    )
    return Message(content=content, reply_to=message)


def serve(folder: str, phones: int, rounds: int, grid: Grid) -> None:
    """Runs the rounds with FedAvg and hands over what they took."""
    torch.set_num_threads(1)
    start = {n: v.detach() for n, v in task.trained(task.module()).items()}
    arrays, config = ArrayRecord(start), ConfigRecord({"folder": folder})

    def play(_: int) -> int:
        nonlocal arrays
        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=phones)
        arrays = strategy.start(
            grid=grid, initial_arrays=arrays, num_rounds=1, train_config=config
        ).arrays
        return phones

    result = timed(rounds, play, lambda: cpu_of_all(os.environ[TOKEN]))
    done({"version": version("flwr"), **result})


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
    from benchmarks.lora import with_flower  # actors look the app up by this name

    with_flower.main()

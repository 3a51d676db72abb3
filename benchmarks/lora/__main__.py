"""Phones per CPU second with factors inside the encoder, against two loops and Flower's engine.

    python -m benchmarks.lora [--phones 64] [--loop 8] [--flower 24] [--json]

Contenders run one after the other in one run, so ratios tell more than figures. The roof is what
the arithmetic allows: the operations of a phone, at the rate of a large matrix product on the same
core in the same minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch

from benchmarks.lora import task
from benchmarks.peers.task import TOKEN
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining

TRAINING = LocalTraining(
    learning_rate=task.LEARNING_RATE, momentum=0.0, batch_size=task.CLIPS,
    local_epochs=task.STEPS, max_examples=task.CLIPS,
)  # fmt: skip
REPEATS = 5


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, default=64, help="side by side")
    parser.add_argument("--loop", type=int, default=8, help="in the loops")
    parser.add_argument("--flower", type=int, default=24, help="nodes of Flower; 0: left out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        task.write(folder, max(arguments.phones, arguments.loop, arguments.flower))
        found = measured(folder, arguments.phones, arguments.loop)
        if arguments.flower:
            found["Flower, a node per phone"] = on_flower(folder, arguments.flower)
    rate, operations = matrix_rate(), operations_of_a_phone()
    ours = found["fedspeech"]
    if arguments.json:
        print(json.dumps({"rates": found, "matrix_rate": rate, "operations": operations}, indent=1))
        return
    print(
        f"{task.SHAPE.spec.size:,} parameters, {task.CLIPS} clips, {task.STEPS} steps; phones/CPU s"
    )
    for name, value in found.items():
        print(f"{name:<44}{value:>9.2f}{ours / value:>8.1f} x")
    print(
        f"{operations / 1e9:.2f} billion operations a phone; a product of 2048 x 2048 runs at "
        f"{rate / 1e9:.0f} billion a second: at most {rate / operations:.0f} phones a CPU second, "
        f"of which {ours * operations / rate:.0%} are reached"
    )


def measured(folder: Path, phones: int, loop: int) -> dict[str, float]:
    """Phones per CPU second of three contenders in this process, the best of a few runs."""
    labels = np.array(task.read(folder, "labels"))
    frames = task.read(folder, "frames")
    datasets = [LocalDataset(np.array(frames[p]), labels[p]) for p in range(phones)]
    adapter = task.SHAPE.build(task.SHAPE.frozen(task.BASE))
    start = adapter.initial(task.BASE.head_weight, task.BASE.head_bias)
    streams = [np.random.default_rng(phone) for phone in range(phones)]
    features = torch.from_numpy(np.array(task.read(folder, "features")[:loop]))
    wanted, network = torch.from_numpy(labels), task.module()
    # The same task by two programs: what one phone learns must be the same.
    delta = train_cohort(adapter, start, datasets[:1], TRAINING, streams[:1])[0]
    one = task.fresh(network)
    task.train(one, features[0], wanted[0])
    head = one.head.weight.detach().numpy() - task.BASE.head_weight
    ours = adapter.spec.unflatten(delta.vector)["head_weight"]
    np.testing.assert_allclose(ours, head, atol=1e-3 * np.abs(head).max())

    def alone() -> None:
        for phone in range(loop):
            train_adapter(adapter, start, datasets[phone], TRAINING, streams[phone])

    def whole() -> None:
        for phone in range(loop):
            task.train(task.fresh(network), features[phone], wanted[phone])

    return {
        "fedspeech": best(
            phones, lambda: train_cohort(adapter, start, datasets, TRAINING, streams)
        ),
        "torch loop, behind the same cached frames": best(loop, alone),
        "torch loop, the whole encoder": best(loop, whole),
    }


def best(phones: int, run: Callable[[], object]) -> float:
    """Phones per CPU second."""
    run()
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return phones / min(seconds)


def matrix_rate() -> float:
    """Operations a second of a large matrix product on one core."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 * best(1, lambda: a @ b)


def operations_of_a_phone() -> float:
    """Products and sums that five steps over 40 clips need, in the way that needs fewest.

    Frozen layers forward and backward by their input in every step; those that depend on no factor
    forward once; thin products forward, and backward by both of their operands.
    """
    lora = task.SHAPE.lora
    assert lora is not None
    graph = task.SHAPE.build(task.SHAPE.frozen(task.BASE)).graph
    values = graph.run({"x": torch.zeros(1, *lora.frames)})
    once = thin = 0
    for step in graph.steps:
        if step.operator == "conv1d.default" and step.result not in graph.moving:
            once += values[step.result].numel() * graph.arrays[step.arguments[1].name][0].size
        if step.operator == "adapt":
            outputs, inner = values[step.result].shape[1:], dict(lora.layers)[step.layer][1:]
            thin += lora.rank * outputs[1] * (outputs[0] + int(np.prod(inner)))
    each = 2 * lora.multiplications + 3 * thin
    return 2.0 * task.CLIPS * (task.STEPS * each + once)


def on_flower(folder: Path, phones: int) -> float:
    """Phones per CPU second on Flower's engine, in processes of its own."""
    quiet = {
        "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_ADDRESS": "local",
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.lora.with_flower", str(folder), str(phones), "2"]
    done = subprocess.run(
        command, env={**os.environ, **quiet, TOKEN: uuid4().hex}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    # A node that fails is only logged, and a round without it is over too soon.
    failed = "An exception was raised" in done.stdout + done.stderr
    if failed or not lines:
        raise SystemExit(f"Flower failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    result = json.loads(lines[-1].removeprefix("RESULT "))
    return float(result["phones"] / result["cpu_seconds"])


if __name__ == "__main__":
    main()

"""Phones per CPU-second of local training: the batched cohort beside the plain loop.

    python benchmarks/local_training.py [--json] [--phones 1280] [--adapter head]

Both train the same phones in the same process, so their ratio tells more than either figure on
a machine that others use too. The setting is 40 clips per phone and 5 steps, as one full batch a
step or as five batches of 8; the head of 256 features and 20 labels has 5,140 parameters.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from fedspeech.models.adapters import Adapter, make_adapter
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta

EXAMPLES = 40
ADAPTERS = {
    "head": make_adapter("head", 1, 256, 20),
    "affine": make_adapter("affine", 13, 64, 12),
    "bottleneck": make_adapter("bottleneck", 13, 64, 12),
}
STEPS = {
    "5 full batches": {"batch_size": EXAMPLES, "local_epochs": 5},
    "5 batches of 8": {"batch_size": 8, "local_epochs": 1},
}
REPEATS = 3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--phones", type=int, default=1_280)
    parser.add_argument("--adapter", choices=ADAPTERS, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(name, steps, optimizer, arguments.phones)
        for name in arguments.adapter or ADAPTERS
        for steps in STEPS
        for optimizer in ("sgd", "adam")
    ]
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2))
        return
    print("phones per CPU-second, 40 clips a phone, one thread, best of", REPEATS)
    print("adapter    parameters  steps               cohort    loop  ratio")
    for row in rows:
        print(
            f"{row['adapter']:<11}{row['parameters']:>10}  {row['steps']:<15}{row['optimizer']:<5}"
            f"{row['cohort_phones_per_cpu_s']:>8.0f}{row['loop_phones_per_cpu_s']:>8.0f}"
            f"{row['ratio']:>7.1f}"
        )


def measure(name: str, steps: str, optimizer: str, num_phones: int) -> dict[str, object]:
    """Times one setting; the loop runs on every twentieth phone."""
    adapter = ADAPTERS[name]
    training = LocalTraining(
        optimizer=optimizer, learning_rate=0.01, max_examples=EXAMPLES, **STEPS[steps]
    )
    parameters, datasets = make_phones(adapter, num_phones)

    def cohort(phones: Sequence[int], rngs: Sequence[np.random.Generator]) -> list[Delta]:
        return train_cohort(adapter, parameters, [datasets[i] for i in phones], training, rngs)

    def loop(phones: Sequence[int], rngs: Sequence[np.random.Generator]) -> list[Delta]:
        return [
            train_adapter(adapter, parameters, datasets[i], training, rng)
            for i, rng in zip(phones, rngs, strict=True)
        ]

    fast, deltas = rate(cohort, range(num_phones))
    slow, reference = rate(loop, range(0, num_phones, 20))
    differences = [
        np.abs(deltas[20 * i].vector - delta.vector).max() for i, delta in enumerate(reference)
    ]
    return {
        "adapter": name,
        "parameters": adapter.spec.size,
        "steps": steps,
        "optimizer": optimizer,
        "cohort_phones_per_cpu_s": fast,
        "loop_phones_per_cpu_s": slow,
        "ratio": fast / slow,
        "max_abs_difference": float(max(differences)),
    }


def make_phones(
    adapter: Adapter, num_phones: int
) -> tuple[dict[str, np.ndarray], list[LocalDataset]]:
    """Draws a global adapter and the phones' clips."""
    shapes, rng = dict(adapter.spec.shapes), stream(1, "benchmark")
    num_labels = shapes["head_bias"][0]
    weight = 0.1 * rng.standard_normal(shapes["head_weight"])
    parameters = adapter.initial(weight.astype(np.float32), np.zeros(num_labels, np.float32))
    shape = (EXAMPLES, *adapter.embedding_shape)
    datasets = [
        LocalDataset(
            rng.standard_normal(shape, dtype=np.float32), rng.integers(0, num_labels, EXAMPLES)
        )
        for _ in range(num_phones)
    ]
    return parameters, datasets


def rate(
    train: Callable[[Sequence[int], Sequence[np.random.Generator]], list[Delta]],
    phones: Sequence[int],
) -> tuple[float, list[Delta]]:
    """Returns phones per CPU-second, the best of a few runs, and the deltas."""
    best, deltas = 0.0, []
    for _ in range(REPEATS):
        rngs = [stream(1, "batches", 0, phone) for phone in phones]
        began = time.process_time()
        deltas = train(phones, rngs)
        best = max(best, len(phones) / (time.process_time() - began))
    return best, deltas


if __name__ == "__main__":
    main()

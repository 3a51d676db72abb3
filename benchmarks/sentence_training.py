"""What training an adapter of sentences costs beside the CTC kernel alone, and beside the loop.

    python benchmarks/sentence_training.py [--json] [--phones 200]

Everything runs in one process on one thread. The kernel is `torch.nn.functional.ctc_loss` with its
derivative, in double precision as training uses it, over the same sentences and as many passes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import present_windows
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining

WINDOWS, FEATURES, LABELS, SENTENCES, CHARACTERS = 86, 96, 29, 6, 80
TRAINING = LocalTraining(learning_rate=0.05, batch_size=64, max_examples=SENTENCES, local_epochs=4)
REPEATS = 3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--phones", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, arguments.phones) for name in ("frame_affine", "frame_bottleneck")]
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2))
        return
    print(
        f"CPU ms per phone of {SENTENCES} sentences and {TRAINING.local_epochs} passes, best of 3"
    )
    print("adapter            cohort    loop  kernel  cohort/kernel  loop/cohort")
    for row in rows:
        print(
            f"{row['adapter']:<17}{row['cohort_ms']:>8.2f}{row['loop_ms']:>8.2f}"
            f"{row['kernel_ms']:>8.2f}{row['over_kernel']:>15.2f}{row['over_loop']:>13.2f}"
        )


def measure(name: str, phones: int) -> dict[str, object]:
    """Times cohort, loop and kernel; the loop runs on every tenth phone."""
    rng = stream(1, "benchmark")
    adapter = make_adapter(name, WINDOWS, FEATURES, LABELS)
    weight = 0.3 * rng.standard_normal((LABELS, FEATURES))
    parameters = adapter.initial(weight.astype(np.float32), np.zeros(LABELS, np.float32))
    datasets = [phone(rng) for _ in range(phones)]

    def streams(count: int) -> list[np.random.Generator]:
        return [stream(1, "batches", 0, index) for index in range(count)]

    some = datasets[::10]
    cohort = seconds(lambda: train_cohort(adapter, parameters, datasets, TRAINING, streams(phones)))
    loop = seconds(
        lambda: [
            train_adapter(adapter, parameters, clips, TRAINING, rng)
            for clips, rng in zip(some, streams(len(some)), strict=True)
        ]
    )
    per_phone = {
        "cohort_ms": 1e3 * cohort / phones,
        "loop_ms": 1e3 * loop / len(some),
        "kernel_ms": 1e3 * seconds(lambda: kernel(datasets)) / phones,
    }
    return {
        "adapter": name,
        **per_phone,
        "over_kernel": per_phone["cohort_ms"] / per_phone["kernel_ms"],
        "over_loop": per_phone["loop_ms"] / per_phone["cohort_ms"],
    }


def phone(rng: np.random.Generator) -> LocalDataset:
    """Sentences of 25 to 74 windows, a character in every third."""
    embeddings = rng.standard_normal((SENTENCES, WINDOWS, FEATURES), dtype=np.float32)
    windows = rng.integers(25, 75, (SENTENCES, 1))
    embeddings[np.arange(WINDOWS) >= windows] = 0
    labels = rng.integers(1, LABELS, (SENTENCES, CHARACTERS))
    labels[np.arange(CHARACTERS) >= windows // 3] = -1
    return LocalDataset(embeddings, labels)


def kernel(datasets: list[LocalDataset]) -> None:
    """The loss and its derivative by log-probabilities, once per pass."""
    labels = torch.from_numpy(np.concatenate([clips.labels for clips in datasets]))
    embeddings = torch.from_numpy(np.concatenate([clips.embeddings for clips in datasets]))
    logs = torch.log_softmax(torch.randn(WINDOWS, len(labels), LABELS, dtype=torch.float64), 2)
    logs.requires_grad_()
    for _ in range(TRAINING.local_epochs):
        loss = torch.nn.functional.ctc_loss(
            logs,
            labels.clamp(min=0),
            present_windows(embeddings),
            (labels >= 0).sum(dim=1),
            reduction="sum",
            zero_infinity=True,
        )
        torch.autograd.grad(loss, logs)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds, the best of a few runs."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


if __name__ == "__main__":
    main()

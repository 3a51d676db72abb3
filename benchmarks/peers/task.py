"""The task that every contender gets, with numpy alone: pfl's environment has no fedspeech.

A head of 256 features and 20 labels, 5,140 parameters; 40 clips a phone; 5 steps of SGD, each over
all clips. Private rounds clip to 0.1 and add noise of multiplier 1 to the sum.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLIPS, FEATURES, LABELS = 40, 256, 20
STEPS, LEARNING_RATE = 5, 0.01
CLIP_NORM, NOISE_MULTIPLIER = 0.1, 1.0
TOKEN = "FEDSPEECH_PEER_TOKEN"  # by which all processes of a contender are known
PARAMETERS = (FEATURES + 1) * LABELS


def write(folder: Path, phones: int) -> None:
    """Draws the phones' clips."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "clips.npy", rng.standard_normal((phones, CLIPS, FEATURES), np.float32))
    np.save(folder / "labels.npy", rng.integers(0, LABELS, (phones, CLIPS)))


def read(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Maps clips, shape (phones, 40, 256), and labels, shape (phones, 40)."""
    return (
        np.load(folder / "clips.npy", mmap_mode="r"),
        np.load(folder / "labels.npy", mmap_mode="r"),
    )


def timed(
    rounds: int, play: Callable[[int], int], cpu: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Times rounds after one that warms up.

    Args:
      rounds: counted ones.
      play: plays a round and returns its phones.
      cpu: CPU seconds so far, of all processes that belong to it.
    """
    play(0)
    began, cpu_began = time.perf_counter(), cpu()
    phones = sum(play(number) for number in range(1, rounds + 1))
    seconds, cpu_seconds = time.perf_counter() - began, cpu() - cpu_began
    return {"phones": phones, "seconds": seconds, "cpu_seconds": cpu_seconds, "rounds": rounds}


def cpu_of_all(token: str) -> float:
    """CPU seconds of every process whose environment holds a token, ended children included."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() not in (process / "environ").read_bytes():
                continue
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile, or another user's
            continue
        ticks += sum(map(int, fields[11:15]))  # user, system; the same of children waited for
    return ticks / os.sysconf("SC_CLK_TCK")


def done(result: dict[str, Any]) -> None:
    """Hands a result to who started this process."""
    print("RESULT " + json.dumps(result), flush=True)

"""The server's checkpoint: what the next round starts from, complete or not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fedspeech.aggregation.optimizers import OptimizerState
from fedspeech.errors import FedspeechError
from fedspeech.round import ServerState


def save_checkpoint(path: Path, state: ServerState) -> None:
    """Writes the state; a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        more = {
            "completed": np.array([state.completed], dtype=np.int64),
            "clip_norm": np.array([state.clip_norm], dtype=np.float64),
        }
        file.write(save({**state.optimizer.to_arrays(), **more}))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> ServerState:
    """Reads what `save_checkpoint` wrote.

    Raises:
      FedspeechError: if there is none, or it is damaged.
    """
    try:
        arrays = load_file(path)
        completed = int(arrays.pop("completed")[0])
        clip_norm = float(arrays.pop("clip_norm")[0])
        return ServerState(OptimizerState.from_arrays(arrays), clip_norm, completed)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FedspeechError(f"no usable checkpoint at {path}: {error}") from error

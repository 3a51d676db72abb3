"""The server's checkpoint: what the next round starts from, complete or not there.

A round is over once its checkpoint is on disk. What stands in the ledger, in the phones' memory or
among the rows of a round that has no checkpoint was interrupted: `server.resuming` says what
becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fedspeech.errors import FedspeechError
from fedspeech.files import write_whole
from fedspeech.round import ServerState
from fedspeech.vectors import GlobalState


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Where a run stands between two rounds.

    Attributes:
      next_round: index of the first round that is not over, from 0.
      opened: number of the ledger's row that opened this run.
    """

    state: ServerState
    next_round: int
    opened: int

    def to_bytes(self) -> bytes:
        """Returns the checkpoint as a safetensors file."""
        state = self.state
        own: dict[str, NDArray[Any]] = {
            "completed": np.array([state.completed], dtype=np.int64),
            "next_round": np.array([self.next_round], dtype=np.int64),
            "opened": np.array([self.opened], dtype=np.int64),
            "clip_norm": np.array([state.clip_norm]),
            "summed_means": state.summed_means,
            "noise_power": np.array([state.noise_power]),
        }
        if state.earlier:
            own["earlier"] = np.stack(state.earlier)
        if state.public_losses:
            own["public_losses"] = np.array(state.public_losses)
        if state.noise_weights.size:  # never the noise: beside the models it gives away the sums
            own["noise_weights"] = state.noise_weights
        return bytes(save({**state.query.to_arrays(), **own}))


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint; a reader sees the old file or the new one, never a part."""
    write_whole(path, checkpoint.to_bytes())


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote.

    Raises:
      FedspeechError: if there is none, or it is damaged.
    """
    try:
        arrays = load_file(path)
        completed, next_round, opened = (
            int(arrays.pop(name)[0]) for name in ("completed", "next_round", "opened")
        )
        clip_norm, noise_power = (
            float(arrays.pop(name)[0]) for name in ("clip_norm", "noise_power")
        )
        summed_means = arrays.pop("summed_means")
        earlier = tuple(arrays.pop("earlier", ()))
        public_losses = tuple(map(float, arrays.pop("public_losses", ())))
        noise_weights = arrays.pop("noise_weights", np.empty(0))
        state = ServerState(
            query=GlobalState.from_arrays(arrays),
            clip_norm=clip_norm,
            completed=completed,
            summed_means=summed_means,
            noise_power=noise_power,
            public_losses=public_losses,
            earlier=earlier,
            noise_weights=noise_weights,
        )
        return Checkpoint(state=state, next_round=next_round, opened=opened)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FedspeechError(f"no usable checkpoint at {path}: {error}") from error

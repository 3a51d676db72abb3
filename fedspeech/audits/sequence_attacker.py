"""Whose is a sequence, or what is said in it: a recurrent network that reads frames or tokens.

    attacker = train_attacker(one_hot(codes, 64), speakers, classes=48, rng=rng)
    attacker(one_hot(others, 64))                    # scores (n, 48)

An evaluation attacker: a gated recurrent unit over time, and no convolution, so that it is of
another architecture than the classifier that `fedspeech.training.codec` trains against. It is
trained from scratch on what it attacks: the semi-informed attacker knows the method and has speech
that went through it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.errors import require
from fedspeech.training.one_thread import one_thread

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

HIDDEN, EPOCHS, BATCH = 64, 12, 64


class SequenceReader(nn.Module):
    """A linear layer, a gated recurrent unit in both directions, mean and maximum over time."""

    def __init__(self, features: int, classes: int) -> None:
        """Makes the layers; the initial values come from torch's generator."""
        super().__init__()
        self.enter = nn.Linear(features, HIDDEN)
        self.read = nn.GRU(HIDDEN, HIDDEN, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.3)
        self.leave = nn.Linear(4 * HIDDEN, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Scores of classes (n, classes) from frames (n, t, features)."""
        hidden = self.read(self.enter(frames).relu())[0]
        pooled = torch.cat([hidden.mean(dim=1), hidden.amax(dim=1)], dim=1)
        found: Tensor = self.leave(self.drop(pooled))
        return found


def one_hot(codes: IntArray, entries: int) -> FloatArray:
    """Codes (n, t, codebooks) as frames, (n, t, codebooks * entries)."""
    rows = np.eye(entries, dtype=np.float32)[codes]
    return rows.reshape(*codes.shape[:2], -1)


def train_attacker(
    frames: FloatArray,
    labels: IntArray,
    *,
    classes: int,
    rng: np.random.Generator,
    epochs: int = EPOCHS,
) -> Callable[[FloatArray], FloatArray]:
    """Trains an attacker from scratch.

    Args:
      frames: shape (n, t, features).
      labels: of each sequence, in [0, classes).
      classes: how many there are.
      rng: of weights and order.
      epochs: passes over the sequences.

    Returns:
      A function of frames (m, t, features) that gives scores (m, classes).

    Raises:
      ValueError: if shapes do not fit, a value is not finite or a label is out of range.
    """
    fits = frames.ndim == 3 and labels.shape == frames.shape[:1] and len(frames) > 0
    require(fits, "expected frames (n, t, features) and a label of each", frames=frames.shape,
            labels=labels.shape)  # fmt: skip
    require(bool(np.isfinite(frames).all()), "frames must be finite", shape=frames.shape)
    require(bool(labels.min() >= 0 and labels.max() < classes), "labels must be in [0, classes)",
            classes=classes)  # fmt: skip
    mean, std = frames.mean(axis=(0, 1)), frames.std(axis=(0, 1)) + 1e-2
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        reader = SequenceReader(frames.shape[2], classes)
        _fit(reader, torch.from_numpy((frames - mean) / std), torch.from_numpy(labels), epochs)
    reader.eval()

    def scores(others: FloatArray) -> FloatArray:
        with one_thread(), torch.inference_mode():
            given = torch.from_numpy(((others - mean) / std).astype(np.float32))
            found: FloatArray = torch.cat(
                [reader(part) for part in torch.split(given, 256)]
            ).numpy()
        return found

    return scores


def _fit(reader: SequenceReader, frames: Tensor, labels: Tensor, epochs: int) -> None:
    steps = epochs * -(-len(frames) // BATCH)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(frames)), BATCH):
            loss = nn.functional.cross_entropy(reader(frames[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizer.step()
            schedule.step()

"""What a phone trains on, in which order, and many phones as one padded block."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LocalDataset:
    """What one phone holds: its clips, as cached embeddings, and its telemetry.

    Printing it shows the shape of its clips only.

    Attributes:
      embeddings: shape (n, *embedding_shape), float32; n may be 0. Windows of a sentence that were
        never recorded are zeros.
      labels: one per clip, shape (n,), int64, from 0; or the characters of each sentence, shape
        (n, characters), from 1, with -1 after the last.
      weights: how much each clip counts, shape (n,), float32, from 0 to 1; empty: all count 1. A
        mean over clips is still divided by their number, so a clip of weight 0.2 pulls a fifth.
      events: one row per event of the telemetry, shape (events, columns), int16; codes and columns
        are those of `fedspeech.device.telemetry`. Empty where the phone keeps none.
      attributes: what the phone says of itself, such as its device class, as codes; shape
        (attributes,), int16. Empty where it says nothing.

    Raises:
      ValueError: if lengths or types do not fit, or a label or a weight is out of its range.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    events: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0), np.int16))
    attributes: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    weights: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        """Checks lengths and types; values are checked where a delta leaves the phone."""
        if self.embeddings.dtype != np.float32 or self.labels.dtype != np.int64:
            raise ValueError(
                "expected float32 embeddings and int64 labels, got "
                f"{self.embeddings.dtype} and {self.labels.dtype}"
            )
        if self.labels.ndim not in (1, 2) or len(self.embeddings) != len(self.labels):
            raise ValueError(
                "expected one label per embedding, got shapes "
                f"{self.embeddings.shape} and {self.labels.shape}"
            )
        lowest = lowest_label(self.labels)
        if self.labels.size and lowest == 0 and self.labels.min() < 0:
            raise ValueError(f"labels must not be negative, got {self.labels.min()}")
        if lowest < 0 and not _ends_once(self.labels):
            raise ValueError("characters must be positive, with -1 after the last of a sentence")
        weights = self.weights
        if weights.dtype != np.float32 or weights.shape not in ((0,), (len(self.labels),)):
            raise ValueError(
                "expected float32 weights, one per clip or none, got "
                f"{weights.dtype} of shape {weights.shape}"
            )
        if not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError("weights must be from 0 to 1")
        for name, array, ndim in (("events", self.events, 2), ("attributes", self.attributes, 1)):
            if array.dtype != np.int16 or array.ndim != ndim:
                raise ValueError(
                    f"{name} must be int16 with {ndim} axes, got {array.dtype} of shape "
                    f"{array.shape}"
                )

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.labels)

    @property
    def clip_weights(self) -> NDArray[np.float32]:
        """Of each clip, shape (n,)."""
        return self.weights if len(self.weights) else np.ones(len(self), np.float32)

    @property
    def holds_sentences(self) -> bool:
        """Whether clips are labeled by their characters."""
        return self.labels.ndim == 2

    def __repr__(self) -> str:
        """Shows the shape only."""
        return f"LocalDataset(shape={self.embeddings.shape})"

    def take(self, indices: NDArray[np.int64]) -> LocalDataset:
        """Returns the clips at `indices`, in that order."""
        return replace(
            self,
            embeddings=self.embeddings[indices],
            labels=self.labels[indices],
            weights=self.weights[indices] if len(self.weights) else self.weights,
        )

    def first(self, count: int | None) -> LocalDataset:
        """Returns the first clips, at most so many; None: all of them."""
        return replace(
            self,
            embeddings=self.embeddings[:count],
            labels=self.labels[:count],
            weights=self.weights[:count],
        )

    def joined(self, other: LocalDataset) -> LocalDataset:
        """Returns these clips followed by the other's, for instance the public negatives.

        Events and attributes stay those of this phone.
        """
        if not len(other):
            return self
        weighted = len(self.weights) or len(other.weights)
        both = (self.clip_weights, other.clip_weights) if weighted else (self.weights,)
        return replace(
            self,
            embeddings=np.concatenate([self.embeddings, other.embeddings]),
            labels=np.concatenate([self.labels, other.labels]),
            weights=np.concatenate(both),
        )


def refuse_weights(datasets: Sequence[LocalDataset], what: str) -> None:
    """Refuses clips that do not all count 1, where something would count them so.

    Raises:
      ValueError: naming what cannot weigh them.
    """
    if any(len(dataset.weights) for dataset in datasets):
        raise ValueError(f"{what} counts every clip alike, and some have weights")


def lowest_label(labels: NDArray[np.int64]) -> int:
    """0 where a clip has one label; -1, which ends a row, where it has a sequence of them."""
    return 0 if labels.ndim == 1 else -1


def _ends_once(labels: NDArray[np.int64]) -> bool:
    """Whether each row is characters from 1, then nothing but -1."""
    ended = labels == -1
    return bool(((labels > 0) | ended).all() and (ended[:, :-1] <= ended[:, 1:]).all())


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which clips a phone trains on in one round, and in which batches.

    Attributes:
      examples: indices into the dataset, shape (m,), m <= max_examples.
      batches: positions in `examples`, shape (steps, batch_size); -1 fills a short batch.
    """

    examples: NDArray[np.int64]
    batches: NDArray[np.int64]


@functools.lru_cache(maxsize=1024)
def in_order(num_examples: int, size: int, local_epochs: int, max_steps: int | None) -> Schedule:
    """The schedule of a phone whose clips fit into one batch, read-only: many phones share it."""
    examples = np.arange(num_examples)
    batches = np.full((local_epochs if num_examples else 0, size), -1, dtype=np.int64)[:max_steps]
    batches[:, :num_examples] = examples
    for array in (examples, batches):
        array.setflags(write=False)
    return Schedule(examples, batches)


@dataclass(frozen=True, eq=False)
class Block:
    """Up to `num_phones` phones, padded with zeros to one shape. Printing it shows that only.

    Shapes: embeddings (num_phones, max_examples, *embedding_shape); labels (num_phones,
    max_examples), or with characters as a third axis; weights (num_phones, max_examples); batches
    (num_phones, steps, batch_size), -1 where there is no clip.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    batches: NDArray[np.int64]

    def __repr__(self) -> str:
        """Shows the shape only."""
        return f"Block(shape={self.embeddings.shape})"


def pad_block(
    datasets: Sequence[LocalDataset],
    schedules: Sequence[Schedule],
    embeddings: NDArray[np.float32],
) -> Block:
    """Copies the scheduled clips of some phones into one padded block.

    The block's embeddings, shape (num_phones, max_examples, *embedding_shape), are overwritten: for
    block after block, fresh memory costs more than what is copied into it.

    Raises:
      ValueError: if there are more phones than places or an embedding has another shape.
    """
    num_phones, max_examples = embeddings.shape[:2]
    if len(datasets) > num_phones:
        raise ValueError(f"a block holds {num_phones} phones, got {len(datasets)}")
    num_steps = max((len(schedule.batches) for schedule in schedules), default=0)
    batch_size = schedules[0].batches.shape[1] if schedules else 1
    # The room still holds clips of the phones of the block before.
    embeddings[len(datasets) :] = 0
    per_clip = datasets[0].labels.shape[1:] if datasets else ()
    # Padding has weight 0, yet its label is still used as an index; only a row of characters may be
    # -1.
    nothing = -1 if per_clip else 0
    labels = np.full((num_phones, max_examples, *per_clip), nothing, dtype=np.int64)
    weights = np.ones((num_phones, max_examples), dtype=np.float32)
    batches = np.full((num_phones, num_steps, batch_size), -1, dtype=np.int64)
    for phone, (dataset, schedule) in enumerate(zip(datasets, schedules, strict=True)):
        if dataset.embeddings.shape[1:] != embeddings.shape[2:]:
            raise ValueError(
                f"expected embeddings of shape {embeddings.shape[2:]}, "
                f"got {dataset.embeddings.shape[1:]}"
            )
        count = len(schedule.examples)
        if count == len(dataset):
            embeddings[phone, :count] = dataset.embeddings
            labels[phone, :count] = dataset.labels
        else:
            embeddings[phone, :count] = dataset.embeddings[schedule.examples]
            labels[phone, :count] = dataset.labels[schedule.examples]
        if len(dataset.weights):
            weights[phone, :count] = dataset.weights[schedule.examples]
        embeddings[phone, count:] = 0
        batches[phone, : len(schedule.batches)] = schedule.batches
    return Block(embeddings, labels, weights, batches)

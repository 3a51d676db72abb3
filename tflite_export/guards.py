"""What a graph that trains refuses by itself, whatever the app around it hands in.

The file is the last to see the values: a runtime resizes an input without a word, a label may be
none of the model's, one NaN would stay in the adapter for good. So ranges, sizes and finiteness are
part of the graph. The limits are far above what training reaches and low enough that no product of
values within them leaves float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tflite_export.arrays import ADAPTER_LIMIT, CHECKSUM_PRIME
from tflite_export.layers import Tensor


def holds(x: Tensor, low: float, high: float, size: int) -> Tensor:
    """Whether `x` has exactly so many values, and every one lies in [low, high].

    Counted, because a runtime that resized the input to fewer values would otherwise have them
    broadcast: one value of noise for all coordinates. NaN lies in no range.
    """
    # Two comparisons, both of which NaN fails.
    inside = tf.logical_and(x >= low, x <= high)
    return tf.equal(tf.reduce_sum(tf.cast(inside, tf.float32)), float(size))


def counts_to(flags: Tensor, size: int) -> Tensor:
    """Whether there are exactly so many flags, true and false ones together."""
    true, false = (
        tf.reduce_sum(tf.cast(kind, tf.float32)) for kind in (flags, tf.logical_not(flags))
    )
    return tf.equal(true + false, float(size))


def all_hold(*conditions: Tensor) -> Tensor:
    """Whether every condition holds."""
    return tf.reduce_all(tf.stack(conditions))


def limited(x: Tensor, limit: float) -> Tensor:
    """Values moved into [-limit, limit]: after the noise, so no data decides what it costs."""
    return tf.clip_by_value(x, -limit, limit)


def checksum(adapter: Tensor, size: int) -> Tensor:
    """`arrays.checksum` of an adapter (size,), in the graph: shape (1,), int32."""
    bits = tf.cast(tf.bitcast(adapter, tf.int32), tf.int64)
    prime = np.int64(CHECKSUM_PRIME)
    parts = tf.math.floormod(bits * np.arange(1, size + 1, dtype=np.int64), prime)
    return tf.cast(tf.math.floormod(tf.reduce_sum(parts, keepdims=True), prime), tf.int32)


def acceptable(adapter: Tensor, base: Tensor, claimed: Tensor, own_base: Any, size: int) -> Tensor:
    """Whether an adapter is whole, of this base and within the limits.

    Args:
      adapter: shape (size,).
      base: hash of the base it belongs to, as `arrays.hash_words`.
      claimed: its checksum, shape (1,).
      own_base: hash of the base in the file.
      size: of the file's own adapter.
    """
    return all_hold(
        holds(adapter, -ADAPTER_LIMIT, ADAPTER_LIMIT, size),
        tf.reduce_all(tf.equal(base, own_base)),
        tf.reduce_all(tf.equal(claimed, checksum(adapter, size))),
    )


def said(condition: Tensor) -> Tensor:
    """A condition as an output: 1 or 0, int32, shape (1,)."""
    return tf.reshape(tf.cast(condition, tf.int32), [1])

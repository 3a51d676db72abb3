"""What a graph that trains refuses by itself, whatever the app around it hands in.

The file is the last to see the values: a runtime resizes an input without an error, a label may be
none of the model's, one NaN would stay in the adapter for good. So ranges, sizes and finiteness are
part of the graph. The limits are far above what training reaches and low enough that no product of
values within them leaves float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fedspeech.rollout.adapter_file import ADAPTER_LIMIT, CHECKSUM_PRIME
from tflite_export.arrays import SETTING_LIMIT, SMALLEST_CLIP_NORM, VALUE_LIMIT
from tflite_export.layers import Tensor


def holds(x: Tensor, low: float, high: float, size: int) -> Tensor:
    """Whether `x` has exactly `size` values, and every one lies in [low, high].

    Counted, because a runtime that resized the input to fewer values would otherwise have them
    broadcast: one value of noise for all coordinates.
    """
    # Two comparisons, both of which NaN fails.
    inside = tf.logical_and(x >= low, x <= high)
    return tf.equal(tf.reduce_sum(tf.cast(inside, tf.float32)), float(size))


def counts_to(flags: Tensor, size: int) -> Tensor:
    """Whether there are exactly `size` flags, true and false ones together."""
    true, false = (
        tf.reduce_sum(tf.cast(kind, tf.float32)) for kind in (flags, tf.logical_not(flags))
    )
    return tf.equal(true + false, float(size))


def all_hold(*conditions: Tensor) -> Tensor:
    """Whether every condition holds."""
    return tf.reduce_all(tf.stack(conditions))


def optimizer_holds(learning_rate: Tensor, momentum: Tensor, proximal_mu: Tensor) -> Tensor:
    """Whether the settings of SGD are single numbers in their ranges."""
    return all_hold(
        holds(learning_rate, 0, SETTING_LIMIT, 1),
        holds(momentum, 0, 1, 1),
        holds(proximal_mu, 0, SETTING_LIMIT, 1),
    )


def privacy_holds(clip_norm: Tensor, noise: Tensor, expected: Tensor, size: int) -> Tensor:
    """Whether the settings of DP-SGD are in their ranges, and there is noise for every value."""
    return all_hold(
        holds(clip_norm, SMALLEST_CLIP_NORM, SETTING_LIMIT, 1),
        holds(noise, -VALUE_LIMIT, VALUE_LIMIT, size),
        holds(expected, 1, SETTING_LIMIT, 1),
    )


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
    """Whether an adapter (size,) is of this base, within the limits and of its claimed checksum."""
    return all_hold(
        holds(adapter, -ADAPTER_LIMIT, ADAPTER_LIMIT, size),
        tf.reduce_all(tf.equal(base, own_base)),
        tf.reduce_all(tf.equal(claimed, checksum(adapter, size))),
    )


def said(condition: Tensor) -> Tensor:
    """A condition as an output: 1 or 0, int32, shape (1,)."""
    return tf.reshape(tf.cast(condition, tf.int32), [1])

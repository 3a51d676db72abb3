"""Torch weights in the layout TensorFlow wants, checked before anything is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.adapters import Adapter
from fedspeech.models.base import Base
from fedspeech.models.kws import FoldedConv, FoldedTrunk

Parameters = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Network:
    """Everything the exported graph computes with.

    Attributes:
      frontend: numbers of the front end.
      window: shape (window,), divided by its sum.
      filters: shape (window / 2 + 1, mels).
      feature_mean: shape (mels,).
      feature_std: shape (mels,).
      trunk: convolutions with BatchNorm folded in.
      adapter: which formula follows the trunk.
      parameters: the adapter's, by name.
    """

    frontend: FrontendSpec
    window: NDArray[np.float32]
    filters: NDArray[np.float32]
    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    trunk: FoldedTrunk
    adapter: Adapter
    parameters: Parameters


def network(base: Base, adapter: Adapter, parameters: Parameters) -> Network:
    """Gathers the arrays of base and adapter.

    Raises:
      ValueError: if names or shapes of the parameters differ from the adapter's spec, a weight is
        not finite, or the adapter has another number of labels than the base's vocabulary.
    """
    parameters = adapter.spec.unflatten(adapter.spec.flatten(parameters))
    for name, value in parameters.items():
        if not np.isfinite(value).all():
            raise ValueError(f"adapter parameters must be finite, got NaN or infinity in {name}")
    num_outputs = parameters["head_bias"].shape[0]
    if num_outputs != len(base.vocabulary.labels):
        raise ValueError(
            f"the adapter must have one output per label of the base, got {num_outputs} outputs "
            f"and {len(base.vocabulary.labels)} labels"
        )
    frontend = LogMel(base.frontend)
    return Network(
        frontend=base.frontend,
        window=frontend.window.numpy(),
        filters=frontend.filters.numpy(),
        feature_mean=base.feature_mean,
        feature_std=base.feature_std,
        trunk=base.trunk.folded(),
        adapter=adapter,
        parameters=parameters,
    )


def kernel(conv: FoldedConv) -> NDArray[np.float32]:
    """Turns torch's (outputs, inputs, taps) into TensorFlow's (taps, 1, inputs, outputs)."""
    return np.ascontiguousarray(conv.weight.transpose(2, 1, 0)[:, None])

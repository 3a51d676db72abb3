"""A trained model, and its weights as plain arrays, checked before anything is built from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import Adapter, HeadAdapter, name_of
from fedspeech.models.adapters.lora import LoraAdapter
from fedspeech.models.base import Base
from tflite_export.arrays import AdapterShape, Network, Parameters


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained model: a frozen base, an adapter and its values by name, float32."""

    base: Base
    adapter: Adapter
    parameters: Parameters

    @property
    def num_parameters(self) -> int:
        """Values that inference needs: those of the encoder and of the adapter."""
        merged = self.merged()
        return merged.base.built_in.network.num_parameters + merged.adapter.spec.size

    def merged(self) -> Trained:
        """The same function with low-rank factors in the encoder's weights; others stay."""
        if not isinstance(self.adapter, LoraAdapter):
            return self
        base = self.adapter.merged(self.base, self.parameters)
        sizes = self.adapter.num_features, self.adapter.num_labels
        head = HeadAdapter(*sizes, base.encoder.activation)
        return Trained(
            base=base, adapter=head, parameters=head.initial(base.head_weight, base.head_bias)
        )

    @property
    def is_the_base(self) -> bool:
        """Whether the adapter is the base's own, value by value: nothing was trained."""
        start = self.adapter.initial(self.base.head_weight, self.base.head_bias)
        return all(np.array_equal(self.parameters[name], start[name]) for name in start)


def network(trained: Trained) -> Network:
    """Gathers the arrays of a trained model.

    Raises:
      ExportRefused: if the adapter is of another package, whose arithmetic no graph holds.
      ValueError: if names or shapes of the parameters differ from the adapter's spec, a weight is
        not finite, or the adapter has another number of labels than the base's vocabulary.
    """
    if ":" in (name := name_of(trained.adapter)):
        raise ExportRefused(
            f"adapter {name}: files are made of the adapters of this package, whose graphs are "
            "written in tflite_export; train one of them to export"
        )
    trained = trained.merged()
    base, spec = trained.base, trained.adapter.spec
    # There and back: names and shapes are checked, and the arrays are this network's own.
    parameters = spec.unflatten(spec.flatten(trained.parameters))
    for name, value in parameters.items():
        if not np.isfinite(value).all():
            raise ValueError(f"adapter parameters must be finite, got NaN or infinity in {name}")
    num_outputs = parameters["head_bias"].shape[0]
    if num_outputs != len(base.vocabulary.labels):
        raise ValueError(
            f"the adapter must have one output per label of the base, got {num_outputs} outputs "
            f"and {len(base.vocabulary.labels)} labels"
        )
    frontend = LogMel(base.built_in.frontend)
    bins, weights = sparse_filters(frontend.filters.numpy())
    return Network(
        frontend=base.built_in.frontend,
        context_frames=base.built_in.context_frames,
        window=frontend.window.numpy(),
        mel_bins=bins,
        mel_weights=weights,
        offset=frontend.offset.numpy() if base.built_in.frontend.cepstra else None,
        cosines=frontend.cosines.numpy() if base.built_in.frontend.cepstra else None,
        feature_mean=base.built_in.feature_mean,
        feature_std=base.built_in.feature_std,
        encoder=base.built_in.network.folded(),
        adapter=AdapterShape(trained.adapter.name, spec, trained.adapter.embedding_shape),
        parameters=parameters,
    )


def sparse_filters(
    filters: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Keeps of each filter the bins it covers: a quarter of the bytes of the whole matrix.

    A gather and a sum also stay in float32 whatever happens to the weights around them; a matrix
    product over powers that span ten decades would not survive eight bits.

    Takes filters (bins, mels); returns bins and weights, each of shape (mels, widest filter).
    """
    # Narrow filters are filled up with bin 0 at weight 0, which changes no sum.
    widest = int((filters > 0).sum(axis=0).max())
    bins = np.zeros((filters.shape[1], widest), dtype=np.int32)
    weights = np.zeros((filters.shape[1], widest), dtype=np.float32)
    for mel, column in enumerate(filters.T):
        covered = np.flatnonzero(column)
        bins[mel, : len(covered)] = covered
        weights[mel, : len(covered)] = column[covered]
    return bins, weights

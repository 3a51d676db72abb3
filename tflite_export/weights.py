"""Torch weights in the layout TensorFlow wants, checked before anything is built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.adapters import Adapter, AffineAdapter, FrameAffineAdapter, HeadAdapter
from fedspeech.models.base import Base
from fedspeech.models.kws import FoldedConv, FoldedTrunk

Parameters = Mapping[str, NDArray[np.float32]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained model: what an exported file has to equal.

    Attributes:
      base: the frozen part.
      adapter: which formula follows the trunk.
      parameters: the adapter's values by name, float32.
    """

    base: Base
    adapter: Adapter
    parameters: Parameters

    @property
    def num_parameters(self) -> int:
        """Values that inference needs: those of the trunk and of the adapter."""
        return self.base.trunk.num_parameters + self.adapter.spec.size


@dataclass(frozen=True, eq=False)
class Network:
    """Everything the exported graph computes with.

    Attributes:
      frontend: numbers of the front end.
      window: shape (window,), divided by its sum.
      mel_bins: bins of the spectrum under each filter, shape (mels, widest), int32.
      mel_weights: their weights, shape (mels, widest); 0 where a filter is narrower.
      offset: added to log energies before the cosines, shape (mels,); None for log-mel.
      cosines: what turns them into cepstra, shape (mels, cepstra); None for log-mel.
      feature_mean: shape (m,), mels or cepstra.
      feature_std: shape (m,).
      trunk: convolutions with BatchNorm folded in.
      adapter: which formula follows the trunk.
      parameters: the adapter's, by name.
    """

    frontend: FrontendSpec
    window: NDArray[np.float32]
    mel_bins: NDArray[np.int32]
    mel_weights: NDArray[np.float32]
    offset: NDArray[np.float32] | None
    cosines: NDArray[np.float32] | None
    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    trunk: FoldedTrunk
    adapter: Adapter
    parameters: Parameters

    def merged(self) -> Network:
        """The same function with an affine adapter folded into the last convolution.

        What is left of the affine is a head; other adapters stay as they are.
        """
        if not isinstance(self.adapter, AffineAdapter | FrameAffineAdapter):
            return self
        scale, shift = self.parameters["scale"], self.parameters["shift"]
        last = self.trunk.output
        output = FoldedConv(
            last.weight * scale[:, None, None], last.bias * scale + shift, last.stride
        )
        return replace(
            self,
            trunk=FoldedTrunk(self.trunk.stem, self.trunk.blocks, output),
            adapter=HeadAdapter(self.adapter.num_features, self.adapter.num_labels),
            parameters={name: self.parameters[name] for name in ("head_weight", "head_bias")},
        )


def network(trained: Trained) -> Network:
    """Gathers the arrays of a trained model.

    Raises:
      ValueError: if names or shapes of the parameters differ from the adapter's spec, a weight is
        not finite, or the adapter has another number of labels than the base's vocabulary.
    """
    base, spec = trained.base, trained.adapter.spec
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
    frontend = LogMel(base.frontend)
    bins, weights = sparse_filters(frontend.filters.numpy())
    return Network(
        frontend=base.frontend,
        window=frontend.window.numpy(),
        mel_bins=bins,
        mel_weights=weights,
        offset=frontend.offset.numpy() if base.frontend.cepstra else None,
        cosines=frontend.cosines.numpy() if base.frontend.cepstra else None,
        feature_mean=base.feature_mean,
        feature_std=base.feature_std,
        trunk=base.trunk.folded(),
        adapter=trained.adapter,
        parameters=parameters,
    )


def sparse_filters(
    filters: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Keeps of each filter the bins it covers: a quarter of the bytes of the whole matrix.

    A gather and a sum also stay in float32 whatever happens to the weights around them; a matrix
    product over powers that span ten decades would not survive eight bits.

    Args:
      filters: shape (bins, mels).

    Returns:
      Bins and weights, each of shape (mels, widest filter).
    """
    widest = int((filters > 0).sum(axis=0).max())
    bins = np.zeros((filters.shape[1], widest), dtype=np.int32)
    weights = np.zeros((filters.shape[1], widest), dtype=np.float32)
    for mel, column in enumerate(filters.T):
        covered = np.flatnonzero(column)
        bins[mel, : len(covered)] = covered
        weights[mel, : len(covered)] = column[covered]
    return bins, weights


def kernel(conv: FoldedConv) -> NDArray[np.float32]:
    """Turns torch's (outputs, inputs, taps) into TensorFlow's (taps, 1, inputs, outputs)."""
    return np.ascontiguousarray(conv.weight.transpose(2, 1, 0)[:, None])


def run_trunk(
    trunk: FoldedTrunk,
    x: T,
    *,
    convolve: Callable[[str, FoldedConv, T], T],
    relu: Callable[[T], T],
    note: Callable[[str, T], T],
) -> T:
    """Runs the trunk in whatever library brings the convolution: one home of its order of layers.

    Args:
      trunk: its arrays.
      x: standardised log-mel.
      convolve: applies one causal convolution, given its name.
      relu: the activation.
      note: called with name and value after every layer; what it returns goes on.

    Returns:
      The last layer before its activation, not noted.
    """
    x = note("stem", relu(convolve("stem", trunk.stem, x)))
    for index, block in enumerate(trunk.blocks):
        name = f"block{index}"
        passed = x
        if block.shortcut is not None:
            shortcut = f"{name}.shortcut"
            passed = note(shortcut, convolve(shortcut, block.shortcut, x))
        y = note(f"{name}.first", relu(convolve(f"{name}.first", block.first, x)))
        y = note(f"{name}.second", convolve(f"{name}.second", block.second, y))
        x = note(name, relu(y + passed))  # type: ignore[operator]  # arrays of either library
    return convolve("output", trunk.output, x)


def convolution_steps(trunk: FoldedTrunk) -> Iterator[tuple[str, FoldedConv, int]]:
    """Yields name, convolution and the frames of the clip between two of its input frames."""
    yield "stem", trunk.stem, 1
    step = trunk.stem.stride
    for index, block in enumerate(trunk.blocks):
        if block.shortcut is not None:
            yield f"block{index}.shortcut", block.shortcut, step
        yield f"block{index}.first", block.first, step
        step *= block.first.stride
        yield f"block{index}.second", block.second, step
    yield "output", trunk.output, step


def hash_words(sha256: str) -> NDArray[np.int32]:
    """A hex SHA-256 as eight big-endian 32-bit integers, the form in which graphs compare it."""
    return np.frombuffer(bytes.fromhex(sha256), dtype=">i4").astype(np.int32)

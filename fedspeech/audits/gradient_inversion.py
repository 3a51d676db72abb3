"""What gradients give away of the clips behind them, as algebra and as a search.

* `ratios`: the gradient of a linear layer is an outer product, the error of each output times the
  layer's input, and the gradient of its bias is the error alone. Their quotient is the input (Phong
  et al. 2018, IACR 2017/715, Section 3; Geiping et al. 2020, arXiv:2003.14053, Proposition 3.1): of
  one clip exactly, whatever the number of local steps, since all of them have the same input; of
  several, a mean for each output, in which the clips with that label weigh most.
* `matched`: searches clips whose gradient points where the update points (Geiping et al. 2020, Eq.
  4), one clip a label, beside the public background set that is in it. (L-BFGS searches here, as in
  Zhu et al. 2019, arXiv:1906.08935.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from fedspeech.models.adapters.adapter import Adapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

WEIGHT, BIAS = "head_weight", "head_bias"
"""The last linear layer, which every adapter of this library ends with."""
_CLOSE = 1e-4
"""What a move by the spread of speech costs in a search, beside a cosine."""


def ratios(adapter: Adapter, updates: NDArray[np.floating]) -> NDArray[np.float64]:
    """Input of the last layer as each output's row of an update gives it, shape (m, labels, f).

    Args:
      adapter: names its parameters.
      updates: shape (m, d); their lengths do not matter.

    Raises:
      ValueError: if the adapter has no last linear layer of these names.
    """
    outputs(adapter)
    places = {name: (shape, place) for name, shape, place in adapter.spec.slices()}
    wide = np.asarray(updates, dtype=np.float64)
    shape, place = places[WEIGHT]
    weight, bias = wide[:, place].reshape(-1, *shape), wide[:, places[BIAS][1]]
    # An output without error says nothing: its row is zeros, and so is what is read from it.
    least = 1e-9 * np.abs(bias).max(axis=1, keepdims=True) + 1e-30
    safe = np.where(np.abs(bias) > least, bias, np.inf)
    return np.asarray(weight / safe[..., np.newaxis], dtype=np.float64)


def outputs(adapter: Adapter) -> int:
    """Outputs of the last layer.

    Raises:
      ValueError: if there is none of these names.
    """
    shapes = dict(adapter.spec.shapes)
    if WEIGHT not in shapes or BIAS not in shapes:
        raise ValueError(f"inversion reads {WEIGHT} and {BIAS}, got {sorted(shapes)}")
    return shapes[WEIGHT][0]


def inputs_of(adapter: Adapter, model: FloatVector, clips: LocalDataset) -> NDArray[np.float64]:
    """Input of the last layer for each clip, shape (n, f): what `ratios` looks for."""
    gradients = _gradients(
        adapter,
        _stacked(adapter, model, len(clips)),
        torch.tensor(clips.embeddings)[:, None],
        torch.tensor(clips.labels)[:, None],
        torch.ones(len(clips), 1),
    )
    flat = torch.cat([gradients[name].flatten(1) for name, _ in adapter.spec.shapes], dim=1)
    found = ratios(adapter, flat.detach().numpy())
    return found[np.arange(len(clips)), clips.labels]


def matched(
    adapter: Adapter,
    model: FloatVector,
    updates: NDArray[np.floating],
    start: NDArray[np.float32],
    background: LocalDataset,
    *,
    steps: int = 60,
) -> NDArray[np.float32]:
    """Clips, one of each label, whose gradient points where each update points.

    How many clips of a label there were is searched too, as a weight; the background set has the
    weight of one clip each.

    Args:
      adapter: the trained part.
      model: that was sent, shape (d,).
      updates: local minus global parameters, shape (m, d).
      start: embeddings to begin with, shape (labels, *embedding_shape).
      background: public clips that every phone holds.
      steps: of the search, at most.

    Returns:
      Embeddings, shape (m, labels, *embedding_shape).
    """
    count, num_labels = len(updates), len(start)
    wanted = functional.normalize(torch.tensor(np.asarray(updates), dtype=torch.float32), dim=1)
    scale = float(start.std()) + 1e-6
    public = torch.tensor(background.embeddings).expand(count, *background.embeddings.shape)
    labels = torch.cat([torch.arange(num_labels), torch.tensor(background.labels)])
    labels = labels.expand(count, -1)
    parameters = _stacked(adapter, model, count)
    shapes = ((count, *start.shape), (count, num_labels))
    sizes = [math.prod(shape) for shape in shapes]

    def clips(moved: Tensor) -> Tensor:
        return torch.tensor(start) + scale * moved

    def distance(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        flat = torch.tensor(point, dtype=torch.float32, requires_grad=True)
        moved, weights = flat[: sizes[0]].view(shapes[0]), flat[sizes[0] :].view(shapes[1])
        counted = torch.cat([weights.exp(), torch.ones(count, len(background))], dim=1)
        gradients = _gradients(
            adapter, parameters, torch.cat([clips(moved), public], dim=1), labels, counted
        )
        found = torch.cat([gradients[name].flatten(1) for name, _ in adapter.spec.shapes], dim=1)
        # Phones go down the gradient. The square keeps a search that noise leads near its start.
        away = 1 + (functional.normalize(found, dim=1) * wanted).sum(dim=1)
        value = away.sum() + _CLOSE * (moved.square().sum() + weights.square().sum()) / num_labels
        (slope,) = torch.autograd.grad(value, flat)
        return float(value.detach()), slope.numpy().astype(np.float64)

    found = minimize(
        distance, np.zeros(sum(sizes)), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    moved = torch.tensor(found.x[: sizes[0]], dtype=torch.float32).view(shapes[0])
    return clips(moved).numpy()


def _stacked(adapter: Adapter, model: FloatVector, count: int) -> dict[str, Tensor]:
    """A model on so many phones."""
    return {
        name: torch.tensor(value).expand(count, *value.shape).clone().requires_grad_()
        for name, value in adapter.spec.unflatten(model).items()
    }


def _gradients(
    adapter: Adapter,
    parameters: Mapping[str, Tensor],
    embeddings: Tensor,
    labels: Tensor,
    weights: Tensor,
) -> dict[str, Tensor]:
    """Gradients of weighted cross-entropy on every phone, which can be differentiated again."""
    losses = functional.cross_entropy(
        adapter.logits(parameters, embeddings).flatten(0, 1), labels.flatten(), reduction="none"
    )
    found = torch.autograd.grad(
        (losses * weights.flatten()).sum(), list(parameters.values()), create_graph=True
    )
    return dict(zip(parameters, found, strict=True))


def likeness(
    recovered: NDArray[np.floating], truth: NDArray[np.floating], center: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Cosine of what was recovered with the truth, over the last axis.

    Both about a center, here the public mean of the clip's label: that a word sounds like the word
    is no success.
    """
    left, right = recovered - center, truth - center
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.asarray((left * right).sum(axis=-1) / np.maximum(lengths, 1e-12), dtype=np.float64)


def label_means(
    features: NDArray[np.floating], labels: NDArray[np.int64], num_labels: int
) -> NDArray[np.float32]:
    """Mean of the features with each label, of all features where there are none; first axis."""
    means = np.empty((num_labels, *features.shape[1:]), dtype=np.float32)
    for label in range(num_labels):
        own = features[labels == label]
        means[label] = (own if len(own) else features).mean(axis=0)
    return means

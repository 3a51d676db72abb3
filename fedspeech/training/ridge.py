"""Adapting a head on a phone in closed form: ridge regression toward the global head.

A phone's head W minimizes

    sum_i w_i |y_i - W h_i|^2 + pull |W - G|_F^2

over its few clips and altered copies of them: G is the global head, h_i an embedding with a 1 after
it, y_i the scores of its label (`target_scores`). With rows H and residuals R = Y - H G', each
times sqrt(w), W = G + (H' (H H' + pull I)^-1 R)' (Hoerl and Kennard 1970, in its dual form): one
system as large as the number of clips, and no learning rate, step or draw. Where a phone has few
clips or they say nothing new, W stays at G by itself.

Each clip weighs 1, or what its dataset says: `own_share` of it the recording, the rest its altered
copies together.

Embeddings must be whitened (`fedspeech.training.heads`), so that the pull is as strong in every
direction, and the head must have been fit to the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedspeech.limits import Positive, Share, check_limits
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.personalize import Personalized
from fedspeech.vectors import Delta, FloatVector

SCORE = 3.0
"""Of the right label; the others have its negative. As logits of ten labels that is a probability
of 0.98 for the right one, so thresholds and losses that read logits keep their meaning."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """How far a phone's head may leave the global one.

    Attributes:
      pull: weight of the squared distance from the global head; a clip weighs 1.
      own_share: share of a clip's weight that its recording has; altered copies share the rest.

    Raises:
      ValueError: if a value is outside its range.
    """

    pull: Positive = 50.0
    own_share: Share = 0.5

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)


@runtime_checkable
class Recalibration(Protocol):
    """What a task has that knows answers for what is no target."""

    def recalibrated(
        self, adapter: Adapter, vector: FloatVector, negatives: LocalDataset
    ) -> FloatVector:
        """Shifts the answers for no target until the stated share of public negatives passes.

        Args:
          adapter: what the vector belongs to.
          vector: of one phone, shape (d,).
          negatives: public clips without a target that no adapter was trained on; without any,
            nothing changes.
        """
        ...


def target_scores(labels: NDArray[np.int64], num_labels: int) -> Matrix:
    """Scores to aim at: `SCORE` for a clip's label, its negative for others; (n,) to (n, c)."""
    scores = np.full((len(labels), num_labels), -SCORE)
    scores[np.arange(len(labels)), labels] = SCORE
    return scores


def ridge_head(start: Matrix, own: LocalDataset, copies: LocalDataset, settings: Ridge) -> Matrix:
    """Returns the head of a phone, (c, f + 1) with the bias last; the start without clips.

    Args:
      start: the global head, of the same shape.
      own: recorded clips, embeddings (n, f).
      copies: altered copies, as many of each clip; may be empty.
      settings: pull and weights.

    Raises:
      ValueError: if copies are not as many of each clip.
    """
    if not len(own):
        return start
    per_clip, rest = divmod(len(copies), len(own))
    if rest:
        raise ValueError(f"expected as many copies of each of {len(own)} clips, got {len(copies)}")
    recorded = settings.own_share if per_clip else 1.0
    weights = np.concatenate(
        [
            np.full(len(own), recorded),
            np.full(len(copies), (1 - recorded) / max(per_clip, 1)),
        ]
    )
    weights *= np.concatenate([own.clip_weights, np.repeat(own.clip_weights, per_clip)])
    clips = own.joined(copies)
    return start + ridge_change(start, clips, weights, settings.pull)


def ridge_change(
    start: Matrix, clips: LocalDataset, weights: NDArray[np.float64], pull: float
) -> Matrix:
    """What the minimizer differs from the start by, (c, f + 1); weights are of clips, (n,)."""
    rows = with_one(clips.embeddings)
    scale = np.sqrt(weights)[:, np.newaxis]
    residuals = scale * (target_scores(clips.labels, len(start)) - rows @ start.T)
    rows = scale * rows
    products = rows @ rows.T + pull * np.eye(len(rows))
    return (rows.T @ np.linalg.solve(products, residuals)).T


def with_one(embeddings: NDArray[np.float32]) -> Matrix:
    """Appends the bias's own feature: (n, f) to (n, f + 1), float64."""
    return np.concatenate([embeddings.astype(np.float64), np.ones((len(embeddings), 1))], axis=1)


def adapt_heads(
    adapter: Adapter,
    start: FloatVector,
    own: Sequence[LocalDataset],
    copies: Sequence[LocalDataset],
    negatives: LocalDataset,
    settings: Ridge,
    task: Recalibration,
) -> list[Personalized]:
    """Adapts the head of each phone to its own clips, then recalibrates it.

    A head that recognizes its phone's words better also accepts more of everything: so unknown and
    silence are shifted until as many public negatives pass as the task allows, phone by phone.

    Args:
      adapter: the head alone.
      start: the global head, (d,).
      own: each phone's own clips.
      copies: altered copies of them, as many of each.
      negatives: public unknown and silence clips that nothing was trained on.
      settings: pull and weights.
      task: recalibrates; its labels are the head's outputs.

    Raises:
      ValueError: if the adapter is not a head, or phones differ in number.
    """
    if not isinstance(adapter, HeadAdapter):
        raise ValueError(
            "adapting by ridge regression has a closed form for the head alone, got "
            f'adapter="{adapter.name}"; set adapter = "head", or rule = "sgd"'
        )
    head = _one_head(adapter, start)
    found = []
    for clips, altered in zip(own, copies, strict=True):
        adapted = ridge_head(head, clips, altered, settings).astype(np.float32)
        vector = adapter.spec.flatten({"head_weight": adapted[:, :-1], "head_bias": adapted[:, -1]})
        vector = task.recalibrated(adapter, vector, negatives)
        found.append(Personalized(Delta(vector - start), 1.0))
    return found


def _one_head(adapter: HeadAdapter, vector: FloatVector) -> Matrix:
    """Weight and bias of a head side by side, (c, f + 1), float64."""
    parameters = adapter.spec.unflatten(vector)
    bias = parameters["head_bias"][:, np.newaxis]
    return np.concatenate([parameters["head_weight"], bias], axis=1).astype(np.float64)

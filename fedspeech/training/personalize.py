"""Adapting on a phone that never trained: its own few clips, and a guard that may say no.

A phone starts from the global adapter and trains on its own clips of target words together with
a small public set of unknown words and silence that every phone holds. Nothing leaves the phone.

The guard. A handful of clips can hurt, and the phone cannot see by how much: it has no other clips.
Three things stand against it.

1. *Shrinking*. Only part of the delta is kept, `global + s * delta`: at most 3/4, at most 1/2 if
   there is no clip to hold back, times the cube of the share of target words of which the phone has
   a clip. Half-way between a model and its fine-tuned self is a good default wherever s cannot be
   tuned (Wortsman et al. 2022, arXiv:2109.01903). What is learnt from some words is forgotten of
   the others, and no clip tells how much: on two real corpora three clips in all cost 16 and 32
   points unshrunk, none and 2 shrunk by the share, none by its cube.
2. *Held-back clips*. The phone deals its own clips into folds, adapts without each fold in turn and
   lets `global + s * fold delta` answer the clips left out. A factor is refused if it answers fewer
   of them than the global adapter does. A word's only clip is never left out: an adapter without
   any clip of a word says nothing of one that has it. So with one clip of each word there is
   nothing to hold back.
3. *False accepts*. A factor is refused if the share of a public held-back set of unknown words and
   silence that is taken for a target word rises by more than `max_false_accept_rise`.

The largest factor that nothing speaks against is kept; 0, the global adapter, is always allowed.
The delta that is shrunk is the one trained on all clips.

What a mistake is, which clips can be held back, of how much of the task a phone has clips, and
what a false accept is: that says the task (`Adaptation`).

What the guard cannot see: that the clips are somebody else's. It judges by the clips it is given,
which is why the control (another phone's clips, guard included) is reported beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta, FloatVector


@dataclass(frozen=True, kw_only=True)
class Guard:
    """How a phone decides how much of its adaptation to keep.

    Attributes:
      interpolation_weights: factors tried, ascending from 0 (the global adapter) to at most 1 (all
        of it); each is multiplied by the cube of the share of target words with a clip.
      unchecked: the largest factor if no clip can be held back.
      folds: parts into which own clips are dealt; clips of one word go to different parts.
      max_false_accept_rise: how much the share of held-back unknown and silence clips that are
        taken for a target word may rise over the global adapter's.

    Raises:
      ValueError: if a value is outside its range.
    """

    interpolation_weights: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    unchecked: float = 0.5
    folds: int = 4
    max_false_accept_rise: float = 0.02

    def __post_init__(self) -> None:
        """Checks every value."""
        factors = self.interpolation_weights
        if not factors or factors[0] != 0 or factors[-1] > 1 or sorted(set(factors)) != [*factors]:
            raise ValueError(
                f"interpolation_weights must ascend from 0 to at most 1, got {factors}"
            )
        if not 0 <= self.unchecked <= 1:
            raise ValueError(f"unchecked must be in [0, 1], got {self.unchecked}")
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}")
        if not 0 <= self.max_false_accept_rise <= 1:
            raise ValueError(
                f"max_false_accept_rise must be in [0, 1], got {self.max_false_accept_rise}"
            )


class Adaptation(Protocol):
    """How a guard judges the answers and labels of a task."""

    def folds(self, labels: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
        """Deals the clips that can be held back into at most `count` parts, none empty."""
        ...

    def coverage(self, labels: NDArray[np.int64]) -> float:
        """Share of what there is to recognize of which there is a clip, in [0, 1]."""
        ...

    def mistakes(self, logits: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """What is counted on clips that were held back, shape (n,): less is better."""
        ...

    def false_accepts(self, logits: Tensor) -> float:
        """Share of guard negatives that are taken for a target."""
        ...


@dataclass(frozen=True, eq=False)
class Personalized:
    """What became of one phone.

    Attributes:
      delta: what adapting on all own clips changed; zero for a phone without clips.
      interpolation_weight: how much of it the guard keeps; 1 without a guard.
    """

    delta: Delta
    interpolation_weight: float

    def __repr__(self) -> str:
        """Shows the factor; the delta shows its shape only."""
        return f"Personalized({self.delta}, interpolation_weight={self.interpolation_weight})"

    def adapter(self, start: FloatVector, *, guarded: bool = True) -> FloatVector:
        """Returns the phone's own adapter (d,) from the global one; unguarded: the whole delta."""
        kept: FloatVector = _shrunk(
            start, self.delta, [self.interpolation_weight if guarded else 1.0]
        )[0]
        return kept


def personalize(
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    own: Sequence[LocalDataset],
    public: LocalDataset,
    held_back: LocalDataset,
    training: LocalTraining,
    guard: Guard | None,
    rngs: Sequence[np.random.Generator],
    judged: Adaptation,
) -> list[Personalized]:
    """Adapts each phone to its own clips, all phones and folds in one batched cohort.

    For the control, hand in the same phones with another phone's clips in `own`.

    Args:
      adapter: what is adapted.
      parameters: the global adapter, named as in `adapter.spec`.
      own: each phone's own clips of target words.
      public: unknown and silence that every phone trains on too.
      held_back: other unknown and silence clips, for the guard; disjoint from `public`.
      training: how a phone adapts; `max_examples` must hold own and public clips together.
      guard: None adapts in any case.
      rngs: one per phone, `stream(seed, "personalize", shots, phone)`.
      judged: how the guard judges answers and labels of the task.

    Raises:
      ValueError: if there is not one stream per phone or clips exceed `training.max_examples`.
    """
    if len(own) != len(rngs):
        raise ValueError(f"expected a stream per phone, got {len(rngs)} for {len(own)}")
    most = max((len(clips) for clips in own), default=0) + len(public)
    if most > training.max_examples:
        raise ValueError(
            f"max_examples must hold own and public clips, got {training.max_examples} for {most}"
        )
    folds = [judged.folds(clips.labels, guard.folds) if guard else [] for clips in own]
    datasets, streams = [], []
    for clips, parts, rng in zip(own, folds, rngs, strict=True):
        rest = [_without(clips, part) for part in parts]
        datasets += [_with_public(some, public) for some in (clips, *rest)]
        streams += [rng] * (1 + len(parts))
    deltas = iter(train_cohort(adapter, parameters, datasets, training, streams))
    start = adapter.spec.flatten(parameters)
    results = []
    for clips, parts in zip(own, folds, strict=True):
        delta = next(deltas)
        held_out = [(next(deltas), clips.take(part)) for part in parts]
        factor = 1.0
        if guard is not None:
            covered = judged.coverage(clips.labels)
            ceiling = 1.0 if held_out else guard.unchecked
            factors = [
                covered**3 * factor for factor in guard.interpolation_weights if factor <= ceiling
            ]
            limit = guard.max_false_accept_rise
            factor = _chosen_weight(
                adapter, judged, start, delta, held_out, held_back, factors, limit
            )
        results.append(Personalized(delta, factor))
    return results


def _chosen_weight(
    adapter: Adapter,
    judged: Adaptation,
    start: FloatVector,
    delta: Delta,
    held_out: Sequence[tuple[Delta, LocalDataset]],
    held_back: LocalDataset,
    factors: Sequence[float],
    max_false_accept_rise: float,
) -> float:
    """The guard's choice for one phone; see the module."""
    mistakes = np.zeros(len(factors))
    for fold_delta, clips in held_out:
        scored = score_clips(adapter, _shrunk(start, fold_delta, factors), clips.embeddings)
        embeddings, labels = torch.from_numpy(clips.embeddings), torch.from_numpy(clips.labels)
        mistakes += [
            float(judged.mistakes(logits, embeddings, labels).sum())
            for logits in torch.from_numpy(scored)
        ]
    accepts = np.zeros(len(factors))
    if len(held_back):
        scored = score_clips(adapter, _shrunk(start, delta, factors), held_back.embeddings)
        accepts[:] = [judged.false_accepts(logits) for logits in torch.from_numpy(scored)]
    allowed = mistakes <= mistakes[0]
    allowed &= accepts <= accepts[0] + max_false_accept_rise
    allowed &= [np.isfinite(vector).all() for vector in _shrunk(start, delta, factors)]
    return factors[int(np.flatnonzero(allowed)[-1])]


def _shrunk(start: FloatVector, delta: Delta, factors: Sequence[float]) -> NDArray[np.float32]:
    """`start + factor * delta` for each factor, (factors, d); 0 is `start` whatever the delta."""
    column = np.array(factors, dtype=np.float32)[:, np.newaxis]
    # Chosen and not multiplied: 0 times a delta that is not finite is NaN, and the global adapter
    # must stay allowed.
    return np.where(column == 0, start, start + column * delta.vector)


def _without(clips: LocalDataset, part: NDArray[np.int64]) -> LocalDataset:
    """The clips that are not in a part."""
    return clips.take(np.setdiff1d(np.arange(len(clips)), part))


def _with_public(clips: LocalDataset, public: LocalDataset) -> LocalDataset:
    """What a phone adapts on: nothing at all if it has no clip of its own."""
    return clips.joined(public) if len(clips) else clips

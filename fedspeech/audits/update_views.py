"""What of an update an attacker looks at: its parameters, or what they do to public clips.

A defence that turns or hides parameters may leave what they do, and the other way round, so every
secret is asked in both views. The second needs no access to parameters: whoever can only run a
personalized file, before and after, has it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import Knowledge
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.vectors import FloatVector

Matrix = NDArray[np.float64]


class View(Protocol):
    """See the module."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def of(self, updates: Matrix, model: FloatVector, knowledge: Knowledge) -> Matrix:
        """What is looked at of updates (m, d) of a model (d,); shape (m, f)."""
        ...


@dataclass(frozen=True)
class WeightView:
    """The parameters as they are."""

    name: str = "weight"

    def of(self, updates: Matrix, model: FloatVector, knowledge: Knowledge) -> Matrix:
        """The updates themselves."""
        return updates


@dataclass(frozen=True)
class FootprintView:
    """How the changed model scores public clips: the change of each label's logit on each clip.

    Attributes:
      clips: public clips that are scored, dealt evenly over public speakers.
      length: of the step that is taken along an update, whose own length says little: it may be
        clipped, or most of it noise.
    """

    name: str = "footprint"
    clips: int = 64
    length: float = 1.0

    def of(self, updates: Matrix, model: FloatVector, knowledge: Knowledge) -> Matrix:
        """Changes of logits, labels centered in each clip, flat."""
        pool = np.concatenate([known.clips.embeddings for known in knowledge.speakers])
        places = np.linspace(0, len(pool) - 1, min(self.clips, len(pool))).astype(int)
        return footprints(knowledge.adapter, model, updates, pool[places], self.length)


def footprints(
    adapter: Adapter,
    model: FloatVector,
    updates: Matrix,
    embeddings: NDArray[np.float32],
    length: float = 1.0,
) -> Matrix:
    """Changes of centered logits by a step of one length along each update, shape (m, n c).

    A constant in all logits of a clip changes no answer, and files that answer probabilities have
    lost it.

    Args:
      adapter: gives logits.
      model: before the update, shape (d,).
      updates: shape (m, d); one of zeros changes nothing.
      embeddings: of public clips, shape (n, *embedding_shape).
      length: L2 norm of the step.
    """
    norms = np.linalg.norm(updates, axis=1, keepdims=True)
    steps = updates * (length / np.where(norms > 0, norms, 1.0))
    moved = np.concatenate([np.zeros((1, updates.shape[1])), steps]) + model
    logits = score_clips(adapter, moved.astype(np.float32), embeddings).astype(np.float64)
    centered = logits - logits.mean(axis=-1, keepdims=True)
    return np.asarray((centered[1:] - centered[0]).reshape(len(updates), -1))


def as_seen(
    contributions: Matrix, plan: PrivacyPlan, others: int, rng: np.random.Generator
) -> Matrix:
    """What an observer would see of contributions under a plan, for attackers to train on.

    Clipped, each in a sum with `others` of the other rows, and with the noise of all: attackers
    know the plan, and learn on updates as spoiled as those that they attack.

    Args:
      contributions: before any clip, shape (s, d).
      plan: of the run.
      others: phones in the same sum; 0 where single contributions are seen.
      rng: draws who they are, with replacement, and the noise.
    """
    clip = L2Clip(clip_norm=plan.clip_norm)
    clipped = np.stack([clip(row) for row in contributions])
    seen = clipped.copy()
    for row in range(len(seen)) if others else ():
        drawn = (row + rng.integers(1, len(seen), others)) % len(seen)
        seen[row] += clipped[drawn].sum(axis=0)
    stddev = np.hypot(plan.stddev * np.sqrt(1 + others), plan.server_stddev if others else 0.0)
    return np.asarray(seen + rng.normal(0.0, stddev / plan.scale, seen.shape))

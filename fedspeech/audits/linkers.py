"""What says whether two updates are of one speaker: three linkers of different kinds.

    link = GaussianLinker().fit(one, other, rng)     # two updates of each training speaker, (s, f)
    link(probes, enrolled)                           # (t, n), higher: more likely one speaker

Every linker is fit on speakers who are not attacked, to two updates of each from different clips,
and afresh in every attack. Updates have a large part in common whoever made them (they are all
pulled the same way), and are clipped to a norm that says nothing of a voice: each linker takes out
the common direction and the length first, by the training speakers.

* `CosineLinker`: the angle between two updates. Nothing else is learnt.
* `GaussianLinker`: likelihood ratio of "one speaker" over "two", of Gaussian speakers and Gaussian
  clips (two-covariance model, Brummer and De Villiers 2010; PLDA of full rank), on principal
  components.
* `NetworkLinker` (`network_linker.py`) is of another kind than these, and is kept for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require

Matrix = NDArray[np.float64]

Link = Callable[[Matrix, Matrix], Matrix]
"""From probes (t, f) and enrolled (n, f) to scores (t, n)."""


class Linker(Protocol):
    """See the module."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def fit(self, one: Matrix, other: Matrix, rng: np.random.Generator) -> Link:
        """Learns from two updates of each training speaker.

        Args:
          one: as the observer sees them, shape (s, f).
          other: as the attacker makes them of enrollment clips, of the same speakers, shape (s, f).
          rng: for what is drawn.

        Raises:
          ValueError: if shapes differ, a number is not finite, or there are fewer than 3 speakers.
        """
        ...


@dataclass(frozen=True, eq=False)
class Directions:
    """Updates without what all have in common, at length 1.

    Attributes:
      common: unit vector, shape (f,).
    """

    common: Matrix

    @classmethod
    def of(cls, one: Matrix, other: Matrix) -> Directions:
        """Of two updates of each training speaker; raises as `Linker.fit`."""
        if one.shape != other.shape or one.ndim != 2:
            raise ValueError(
                "expected two updates of each training speaker, got shapes "
                f"{one.shape} and {other.shape}"
            )
        require(len(one) >= 3, "at least 3 training speakers are needed", speakers=len(one))
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            raise ValueError("updates must be finite, got NaN or infinity")
        mean = _unit(np.concatenate([_unit(one), _unit(other)]).mean(axis=0, keepdims=True))
        return cls(mean[0])

    def __call__(self, updates: Matrix) -> Matrix:
        """Shape (m, f), each row orthogonal to the common direction and of length 1, or 0."""
        return _unit(updates - np.outer(updates @ self.common, self.common))


def _unit(rows: Matrix) -> Matrix:
    """Rows of length 1; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0))


@dataclass(frozen=True)
class CosineLinker:
    """The cosine of the angle between two updates without the common direction."""

    name: str = "cosine"

    def fit(self, one: Matrix, other: Matrix, rng: np.random.Generator) -> Link:
        """Learns the common direction; see `Linker.fit`."""
        directions = Directions.of(one, other)
        return lambda probes, enrolled: directions(probes) @ directions(enrolled).T


@dataclass(frozen=True)
class GaussianLinker:
    """Likelihood ratio of two Gaussian covariances; see the module.

    Attributes:
      components: most principal components; fewer where there are few speakers.
      shrinkage: share of the covariance of clips that is taken as the same in every direction.
    """

    name: str = "learned linker"
    components: int = 40
    shrinkage: float = 0.1

    def fit(self, one: Matrix, other: Matrix, rng: np.random.Generator) -> Link:
        """Learns the components and both covariances; see `Linker.fit`."""
        directions = Directions.of(one, other)
        both = np.concatenate([directions(one), directions(other)])
        clean = directions(other)  # the first side may be mostly noise
        axes = np.linalg.svd(clean - clean.mean(axis=0), full_matrices=False)[2]
        kept = axes[: min(self.components, len(one) - 1)].T
        basis, spread = _diagonalized(directions(one) @ kept, directions(other) @ kept,
                                      self.shrinkage)  # fmt: skip
        mean = both.mean(axis=0) @ kept

        def placed(updates: Matrix) -> Matrix:
            return np.asarray((directions(updates) @ kept - mean) @ basis)

        return lambda probes, enrolled: _likelihood_ratios(placed(probes), placed(enrolled), spread)


def _diagonalized(one: Matrix, other: Matrix, shrinkage: float) -> tuple[Matrix, Matrix]:
    """A basis in which clips vary by 1 in every direction, and how speakers vary in each."""
    within = _shrunk((one - other).T @ (one - other) / (2 * len(one)), shrinkage)
    mean = (one + other) / 2
    between = np.atleast_2d(np.cov(mean, rowvar=False)) - within / 2
    values, vectors = np.linalg.eigh(within)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-12 * values.max() + 1e-300))
    spread, turned = np.linalg.eigh(whitening.T @ between @ whitening)
    return np.asarray(whitening @ turned), np.asarray(np.maximum(spread, 0.0))


def _shrunk(covariance: Matrix, share: float) -> Matrix:
    same = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return np.asarray((1 - share) * covariance + share * same)


def _likelihood_ratios(probes: Matrix, enrolled: Matrix, spread: Matrix) -> Matrix:
    """Log-likelihood ratios of "one speaker", shape (t, n), in the basis of `_diagonalized`.

    In one direction where speakers vary by l, the pair of one speaker has covariance
    [[1 + l, l], [l, 1 + l]], that of two speakers (1 + l) I.
    """
    joint, alone = 1 + 2 * spread, 1 + spread
    square = alone / joint - 1 / alone  # of each of both
    product = 2 * spread / joint  # of both together
    constant = float((np.log(alone) - np.log(joint) / 2).sum())
    own = [(rows**2 @ square)[:, None] / 2 for rows in (probes, enrolled)]
    return np.asarray(constant - own[0] - own[1].T + (probes * product / 2) @ enrolled.T)

"""Embeddings that tell less of who speaks: linear maps, noise with its epsilon, voices of a pool.

    method = nullspace(public, speakers)                   # before phones are shipped
    method(embeddings, draws=NoiseEntropy.os().keystream("release", 1))

Every method is fit on public speakers and then frozen. What leaves is a row per recording; an
epsilon holds for one row and one release of it, and those of several recordings add up.

Whether a method protects is measured (docs/anonymization.md), not promised here: only the two kinds
of noise carry a guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from dp_accounting.pld.common import DifferentialPrivacyParameters
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss
from numpy.typing import NDArray

from fedspeech.anonymization.waveform import gaussian
from fedspeech.errors import require
from fedspeech.limits import Count, NotNegative, Positive, Probability, check_limits
from fedspeech.seeds import Keystream

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

_RIDGE = 1e-2  # of the mean variance, added before anything is inverted


class EmbeddingMethod(Protocol):
    """A change of embeddings."""

    def __call__(self, rows: Rows, *, draws: Keystream) -> Rows:
        """Changes embeddings (n, d) into (n, k).

        Args:
          rows: finite.
          draws: of this release alone.

        Raises:
          ValueError: if a number is not finite or the shape is another one than was fit.
        """


@dataclass(frozen=True, eq=False)
class LinearMap:
    """(rows - center) matrix: what centering, whitening, masking and projections come to.

    Attributes:
      center: shape (d,).
      matrix: shape (d, k).
    """

    center: Rows
    matrix: Rows

    def __call__(self, rows: Rows, *, draws: Keystream) -> Rows:
        """Applies the map; nothing is drawn."""
        return (checked(rows, len(self.center)) - self.center) @ self.matrix


def whitening(rows: Rows) -> LinearMap:
    """Mean 0 and covariance 1 over public embeddings (n, d), turned as little as possible (ZCA)."""
    checked(rows)
    spread = np.atleast_2d(np.cov(rows.T))
    values, axes = np.linalg.eigh(spread)
    scales = 1 / np.sqrt(np.maximum(values, 0) + _RIDGE * values.mean())
    return LinearMap(rows.mean(axis=0), (axes * scales) @ axes.T)


def masking(rows: Rows, speakers: Labels, *, share: float = 0.5) -> LinearMap:
    """Sets to 0 the share of features in which speakers differ most against their own spread.

    Raises:
      ValueError: if share is not between 0 and 1, or no speaker has two rows.
    """
    require(0 < share < 1, "share must be between 0 and 1", share=share)
    between, within = _variances(rows, speakers)
    ratio = between / (within + 1e-12)
    kept = ratio <= np.quantile(ratio, 1 - share)
    return LinearMap(rows.mean(axis=0), np.diag(kept.astype(np.float64)))


def nullspace(rows: Rows, speakers: Labels, *, rounds: int = 8, directions: int = 4) -> LinearMap:
    """Takes out, again and again, the directions by which a linear classifier tells speakers.

    Iterative null space projection (INLP: Ravfogel et al. 2020, arXiv:2004.07667, algorithm 1). Its
    classifier of many speakers spans all directions at once; here one of least squares on whitened
    rows gives its strongest few, and is fit anew on what is left.

    Raises:
      ValueError: if nothing would be left.
    """
    width = checked(rows).shape[1]
    require(0 < rounds * directions < width, "rounds times directions must be below the width",
            rounds=rounds, directions=directions, width=width)  # fmt: skip
    center = rows.mean(axis=0)
    targets = np.eye(int(speakers.max()) + 1)[speakers]
    targets -= targets.mean(axis=0)
    kept = np.eye(width)
    for _ in range(rounds):
        seen = (rows - center) @ kept
        spread = seen.T @ seen / len(seen)
        values, axes = np.linalg.eigh(spread)
        # Where nothing is left the ridge alone stands, and no speaker differs.
        root = (axes / np.sqrt(np.maximum(values, 0) + _RIDGE * values.mean())) @ axes.T
        telling = np.linalg.svd(root @ seen.T @ targets / len(seen))[0][:, :directions]
        found = kept @ root @ telling
        basis = np.linalg.qr(found)[0]
        kept = kept @ (np.eye(width) - basis @ basis.T)
        kept = (kept + kept.T) / 2  # projections commute here but for rounding
    return LinearMap(center, kept)


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Embeddings clipped to an L2 norm, and Gaussian noise on them.

    Attributes:
      clip_norm: L2.
      epsilon, delta: for one row: whichever recording it is of, what leaves is alike.
    """

    clip_norm: Positive = 1.0
    epsilon: Positive = 15.0
    delta: Probability = 1e-6

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    @property
    def stddev(self) -> float:
        """Least standard deviation, by the exact privacy loss (Balle and Wang 2018, theorem 8).

        Any row may take the place of any other: the sensitivity is twice the norm.
        """
        promise = DifferentialPrivacyParameters(self.epsilon, self.delta)
        found = GaussianPrivacyLoss.from_privacy_guarantee(promise, sensitivity=2 * self.clip_norm)
        # Found by bisection from either side: a millionth more is on the safe one.
        return float(found.standard_deviation) * (1 + 1e-6)

    def __call__(self, rows: Rows, *, draws: Keystream) -> Rows:
        """Clips and adds noise; see `EmbeddingMethod`."""
        norms = np.linalg.norm(checked(rows), axis=1, keepdims=True)
        clipped = rows * np.minimum(1, self.clip_norm / np.maximum(norms, 1e-300))
        return np.asarray(clipped + self.stddev * gaussian(draws, rows.size).reshape(rows.shape))


@dataclass(frozen=True, kw_only=True)
class LaplaceNoise:
    """Embeddings clipped to an L1 norm, and Laplace noise on them (Dwork et al. 2006).

    The noise is a float, and rounding leaves gaps that a proof over real numbers does not see
    (Mironov 2012): a claim for a deployment needs a discrete mechanism.

    Attributes:
      clip_norm: L1.
      epsilon: for one row; delta is 0.
    """

    clip_norm: Positive = 1.0
    epsilon: Positive = 15.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)

    @property
    def scale(self) -> float:
        """Of the noise: 2 clip_norm / epsilon."""
        return 2 * self.clip_norm / self.epsilon

    def __call__(self, rows: Rows, *, draws: Keystream) -> Rows:
        """Clips and adds noise; see `EmbeddingMethod`."""
        norms = np.abs(checked(rows)).sum(axis=1, keepdims=True)
        clipped = rows * np.minimum(1, self.clip_norm / np.maximum(norms, 1e-300))
        place = draws.uniform(rows.size).reshape(rows.shape) + 2.0**-54 - 0.5
        return np.asarray(clipped - self.scale * np.sign(place) * np.log1p(-2 * np.abs(place)))


@dataclass(frozen=True)
class Rotation:
    """All rows of one release turned alike: pseudonymization, never anonymization.

    Within a release every angle stays, so rows of one speaker are linked as before. Releases cannot
    be compared, until an attacker knows some rows of one.
    """

    def __call__(self, rows: Rows, *, draws: Keystream) -> Rows:
        """Turns rows by a uniformly random rotation (Stewart 1980); see `EmbeddingMethod`."""
        width = checked(rows).shape[1]
        basis, upper = np.linalg.qr(gaussian(draws, width * width).reshape(width, width))
        return np.asarray(rows @ (basis * np.sign(np.diag(upper))))


Sex = Literal["same", "other", "any"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolVoice:
    """In the place of a voice the mean of some that are far from it, and noise.

    Fang et al. 2019 (arXiv:1905.13561, section 3.2) and the baselines of the VoicePrivacy
    challenges: 100 at random of the 200 farthest by cosine.

    Attributes:
      pool: embeddings of public speakers, one each, shape (p, d).
      farthest: of which some are drawn.
      averaged: how many are drawn.
      noise: standard deviation of what is added, in units of a row of length 1.
      sexes: of the pool, shape (p,); needed where `sex` is not "any".
      sex: of the voices that are drawn, against that of the speaker.
    """

    pool: Rows = field(repr=False)
    farthest: Count = 200
    averaged: Count = 100
    noise: NotNegative = 0.075
    sexes: NDArray[np.str_] | None = field(default=None, repr=False)
    sex: Sex = "any"

    def __post_init__(self) -> None:
        """Checks that the pool is large enough."""
        check_limits(self)
        checked(self.pool)
        fits = self.averaged <= self.farthest <= len(self.pool)
        require(fits, "averaged must be at most farthest, and that at most the pool",
                averaged=self.averaged, farthest=self.farthest, pool=len(self.pool))  # fmt: skip
        known = self.sex == "any" or (self.sexes is not None and len(self.sexes) == len(self.pool))
        require(known, "the sex of every voice of the pool must be known", sex=self.sex)

    def __call__(
        self, rows: Rows, *, draws: Keystream, sexes: NDArray[np.str_] | None = None
    ) -> Rows:
        """Draws a voice for every row.

        Args:
          rows: shape (n, d).
          draws: of this release.
          sexes: of the speakers, shape (n,); needed where `sex` is not "any".

        Raises:
          ValueError: if a sex is needed and not known, or too few voices are of it.
        """
        units = _unit(checked(rows, self.pool.shape[1]))
        similar = units @ _unit(self.pool).T
        if self.sex != "any":
            require(sexes is not None, "the sex of every speaker must be known", sex=self.sex)
            same = np.asarray(sexes)[:, None] == np.asarray(self.sexes)[None]
            allowed = same if self.sex == "same" else ~same
            fewest = int(allowed.sum(axis=1).min())
            require(fewest >= self.farthest, "too few voices of the pool are of that sex",
                    voices=fewest, farthest=self.farthest)  # fmt: skip
            similar = np.where(allowed, similar, np.inf)
        far = np.argsort(similar, axis=1)[:, : self.farthest]
        order = np.argsort(draws.uniform(far.size).reshape(far.shape), axis=1)
        drawn = np.take_along_axis(far, order[:, : self.averaged], axis=1)
        voices = _unit(_unit(self.pool)[drawn].mean(axis=1))
        return np.asarray(voices + self.noise * gaussian(draws, rows.size).reshape(rows.shape))


def checked(rows: Rows, width: int | None = None) -> Rows:
    """The rows.

    Raises:
      ValueError: if they are not finite, or not (n, width).
    """
    fits = rows.ndim == 2 and width in (None, rows.shape[1])
    if not fits or not np.isfinite(rows).all():
        raise ValueError(f"expected finite rows (n, {width or 'd'}), got shape {rows.shape}")
    return rows


def _variances(rows: Rows, speakers: Labels) -> tuple[Rows, Rows]:
    """Variance of speakers' means and mean variance of their rows, per feature."""
    counts = np.bincount(speakers)
    require(bool((counts > 1).any()), "a speaker must have two rows", speakers=len(counts))
    means = np.zeros((len(counts), rows.shape[1]))
    np.add.at(means, speakers, checked(rows))
    means /= np.maximum(counts, 1)[:, None]
    return means[counts > 0].var(axis=0), ((rows - means[speakers]) ** 2).mean(axis=0)


def _unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

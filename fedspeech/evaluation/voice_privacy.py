"""How well an attack links speakers: is it the same voice, and whose is it of so many?

    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.1], [0.6, 0.2, 0.5]])  # probes by candidates
    linking_metrics(scores, truth=np.arange(3), rng=stream(1, "bootstrap"))

A probe is what an attack was given (an update, a file), a candidate is a speaker whom it may be of.
Scores are higher where the attack is surer. Every figure stands beside what guessing gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from fedspeech.errors import require
from fedspeech.evaluation.metric import Metric
from fedspeech.evaluation.roc import (
    RESAMPLES,
    Sorted,
    draw,
    percentile_interval,
    share_interval,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_NORMAL_FROM = 12
"""Mean ranks over fewer trials are not close to normal: their distribution is added up."""


def ranks(scores: FloatArray, truth: IntArray) -> FloatArray:
    """Rank of the true candidate of each probe, from 1; ties share their mean rank.

    Args:
      scores: shape (probes, candidates).
      truth: column of the true candidate, shape (probes,).

    Raises:
      ValueError: if shapes or columns do not fit, or a score is not finite.
    """
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not np.isfinite(scores).all():
        raise ValueError(
            "expected finite scores (probes, candidates) and a true column of each probe, got "
            f"shapes {scores.shape} and {truth.shape}"
        )
    if len(truth) and not (truth.min() >= 0 and truth.max() < scores.shape[1]):
        raise ValueError(f"true columns must be below {scores.shape[1]}")
    return np.asarray(rankdata(-scores, axis=1)[np.arange(len(truth)), truth], dtype=np.float64)


def top_1(scores: FloatArray, truth: IntArray) -> FloatArray:
    """Whether the true candidate comes first, for each probe; 1 / n where n share the first place.

    Arguments and errors are those of `ranks`.
    """
    # n that share the first place have rank (n + 1) / 2 each; whoever is behind n has a larger one.
    tied = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1)
    return np.where(ranks(scores, truth) == (tied + 1) / 2, 1 / tied, 0.0)


def random_rank_p1(candidates: int, trials: int) -> float:
    """The mean rank over so many trials that guessing stays below in 1 % of cases.

    (N + 1) / 2 - 2.3263 sqrt((N^2 - 1) / (12 L)) for N candidates and L trials; with few trials the
    distribution of the mean itself. An attack whose 1st percentile over speakers is far below it
    singles some speakers out, whatever its median.

    Raises:
      ValueError: if either is not positive.
    """
    require(candidates > 0 and trials > 0, "candidates and trials must be positive",
            candidates=candidates, trials=trials)  # fmt: skip
    if trials >= _NORMAL_FROM:
        deviation = np.sqrt((candidates**2 - 1) / (12 * trials))
        return float((candidates + 1) / 2 + norm.ppf(0.01) * deviation)
    one = np.full(candidates, 1 / candidates)
    total = one
    for _ in range(trials - 1):
        total = np.convolve(total, one)
    return float(trials + np.searchsorted(np.cumsum(total), 0.01 - 1e-12)) / trials


def linking_metrics(
    scores: FloatArray, truth: IntArray, rng: np.random.Generator
) -> tuple[Metric, Metric, Metric, Metric]:
    """Equal error rate, top-1, and median and 1st percentile of mean ranks, over speakers.

    Each candidate is one speaker; a speaker may have several probes. Intervals are bootstrapped
    over speakers, drawn with all their probes. For the equal error rate a pair counts as often as
    both of its speakers are drawn, and no speaker is a nontarget of itself (Bolle, Ratha and
    Pankanti 2004, the subsets bootstrap); for the others the candidates stay as they are, because
    copies of a candidate would tie. Shares of 0 and 1 get the exact interval of a count.

    Args:
      scores: higher where the probe looks like the candidate, shape (probes, candidates).
      truth: column of the true candidate, shape (probes,).
      rng: of the bootstrap.

    Raises:
      ValueError: as `ranks` does, or if there are fewer than two candidates or no probe.
    """
    candidates = scores.shape[-1]
    require(candidates > 1 and len(truth) > 0, "at least two candidates and a probe are needed",
            candidates=candidates, probes=len(truth))  # fmt: skip
    speakers, owner, probes = np.unique(truth, return_inverse=True, return_counts=True)
    rank, first = (
        np.bincount(owner, of) / probes for of in (ranks(scores, truth), top_1(scores, truth))
    )
    drawn = rng.integers(0, len(speakers), (RESAMPLES, len(speakers)))
    low, median = np.percentile(rank[drawn], [1, 50], axis=1)
    return (
        _equal_error_metric(scores, truth, rng),
        Metric(
            name="top-1",
            value=float(first.mean()),
            by_chance=1 / candidates,
            phones=len(speakers),
            interval=share_interval(first[drawn].mean(axis=1), len(speakers)),
        ),
        Metric(
            name="median rank",
            value=float(np.median(rank)),
            unit="number",
            by_chance=(candidates + 1) / 2,
            phones=len(speakers),
            interval=percentile_interval(median),
        ),
        Metric(
            name="rank of the 1 % found best",
            value=float(np.percentile(rank, 1)),
            unit="number",
            by_chance=random_rank_p1(candidates, int(np.median(probes))),
            phones=len(speakers),
            interval=percentile_interval(low),
        ),
    )


def _equal_error_metric(scores: FloatArray, truth: IntArray, rng: np.random.Generator) -> Metric:
    """Equal error rate over all pairs of a probe and a candidate; speakers are the candidates."""
    candidates = scores.shape[1]
    targets = truth[:, None] == np.arange(candidates)
    curves = Sorted(scores.astype(np.float64).ravel(), targets.ravel())
    found = []
    for _ in range(RESAMPLES):
        weights = draw(candidates, rng)
        pairs = weights[truth][:, None] * np.where(targets, 1.0, weights)
        if (pairs * targets).any() and (pairs * ~targets).any():
            found.append(curves.roc(pairs.ravel()).equal_error_rate)
    return Metric(
        name="equal error rate",
        value=curves.roc(np.ones(targets.size)).equal_error_rate,
        by_chance=0.5,
        lower_is_better=True,
        phones=candidates,
        interval=share_interval(np.array(found), len(np.unique(truth))),
    )

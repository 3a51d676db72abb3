"""What of use is left: agreement of numbers, labels and words before and after.

Every figure takes how often each item counts, shape (n,), and is NaN where it is not defined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FEWEST_FRAMES = 3


def pearson(x: FloatArray, y: FloatArray, weights: FloatArray) -> float:
    """Correlation; NaN where one of them does not vary."""
    _, (var_x, var_y), covariance = _moments(x, y, weights)
    return float(covariance / np.sqrt(var_x * var_y)) if var_x > 0 and var_y > 0 else float("nan")


def spearman(x: FloatArray, y: FloatArray, weights: FloatArray) -> float:
    """Correlation of ranks, ties at their mean rank; NaN where one does not vary."""
    return pearson(_ranks(x, weights), _ranks(y, weights), weights)


def concordance(x: FloatArray, y: FloatArray, weights: FloatArray) -> float:
    """Concordance, 2 cov / (var x + var y + (mean x - mean y)^2), moments over n and not n - 1.

    Lin 1989 (Biometrics 45), Equation 2; divided by n as the source of emotion figures does.
    """
    (mean_x, mean_y), (var_x, var_y), covariance = _moments(x, y, weights)
    below = var_x + var_y + (mean_x - mean_y) ** 2
    return float(2 * covariance / below) if below > 0 else float("nan")


def f0_correlations(original: Sequence[FloatArray], anonymized: Sequence[FloatArray]) -> FloatArray:
    """Correlation of F0 over frames that are voiced in both, by utterance, shape (utterances,).

    F0 in Hz, 0 in unvoiced frames. NaN where fewer than 3 frames are voiced in both. An F0 that
    does not vary, in one of them, keeps nothing of the other's course: 0.

    Raises:
      ValueError: if utterances differ in number or in frames, or an F0 is below 0 or not finite.
    """
    require(len(original) == len(anonymized), "expected as many utterances before as after",
            original=len(original), anonymized=len(anonymized))  # fmt: skip
    found = np.full(len(original), np.nan)
    for place, (before, after) in enumerate(zip(original, anonymized, strict=True)):
        require(len(before) == len(after), "expected as many frames before as after",
                utterance=place, original=len(before), anonymized=len(after))  # fmt: skip
        for name, f0 in (("original", before), ("anonymized", after)):
            fits = bool(np.isfinite(f0).all() and (f0 >= 0).all())
            require(fits, f"F0 of {name} must be finite and not negative", utterance=place)
        both = (before > 0) & (after > 0)
        if both.sum() >= FEWEST_FRAMES:
            found[place] = np.nan_to_num(
                pearson(before[both], after[both], np.ones(int(both.sum())))
            )
    return found


def recalls(truth: IntArray, predicted: IntArray, weights: FloatArray) -> float:
    """Mean over true labels of the share found (UAR); NaN where a label is gone."""
    labels = int(truth.max()) + 1
    totals = np.bincount(truth, weights, labels)
    hits = np.bincount(truth, weights * (truth == predicted), labels)
    return float((hits / totals).mean()) if totals.all() else float("nan")


def purity(clusters: IntArray, labels: IntArray, weights: FloatArray) -> float:
    """Share of items that bear the most frequent label of their cluster.

    Rises to 1 as clusters shrink to one item, whatever they are: read it beside its chance.
    """
    counts = np.zeros((int(clusters.max()) + 1, int(labels.max()) + 1))
    np.add.at(counts, (clusters, labels), weights)
    return float(counts.max(axis=1).sum() / weights.sum())


def _moments(
    x: FloatArray, y: FloatArray, weights: FloatArray
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Means, variances and covariance, over the sum of weights."""
    share = weights / weights.sum()
    means = float(share @ x), float(share @ y)
    off_x, off_y = x - means[0], y - means[1]
    return means, (float(share @ off_x**2), float(share @ off_y**2)), float(share @ (off_x * off_y))


def _ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean rank of each value where every item stands there as often as its weight."""
    _, places = np.unique(values, return_inverse=True)
    counts = np.bincount(places, weights)
    ranks: FloatArray = (np.cumsum(counts) - counts / 2)[places]
    return ranks

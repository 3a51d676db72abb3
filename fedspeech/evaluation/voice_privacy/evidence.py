"""Scores as evidence: how much they say about whether two utterances are of one speaker.

    cllr(np.array([2.0, 1.0]), np.array([-1.0, -2.0]))      # 0.3175 bits of 1
    scored = Scored(scores, targets)
    scored.min_cllr(weights), scored.d_sys(weights), scored.disclosure(weights)

Scores are higher where the attack is surer. Every figure takes how often each score counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import logit

from fedspeech.errors import require
from fedspeech.evaluation.roc import Sorted

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_BINS = 100
NO_PRIVACY_BITS = 1 / (2 * np.log(2))
"""Expected disclosure where every score is certain: the entropy of a prior, mean of all priors."""
CATEGORIES = ((6, "F"), (5, "E"), (4, "D"), (2, "C"), (1, "B"), (0, "A"))
"""Strength of the strongest evidence: powers of ten of its likelihood ratio, from below."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of pairs.

    Attributes:
      scores: shape (n,).
      targets: whether the pair is of one speaker, shape (n,).

    Raises:
      ValueError: if a score is not finite, or there is no pair of either kind.
    """

    scores: FloatArray
    targets: BoolArray

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.scores.shape != self.targets.shape or not np.isfinite(self.scores).all():
            raise ValueError(
                f"expected as many finite scores as truths, got shapes {self.scores.shape} and "
                f"{self.targets.shape}"
            )
        counts = int(self.targets.sum()), int((~self.targets).sum())
        require(min(counts) > 0, "expected scores of both kinds", target=counts[0],
                nontarget=counts[1])  # fmt: skip

    @cached_property
    def _sorted(self) -> Sorted:
        return Sorted(self.scores, self.targets)

    @cached_property
    def _levels(self) -> tuple[NDArray[np.int64], int]:
        """Place of each score among the different ones, ascending, and how many there are."""
        values, places = np.unique(self.scores, return_inverse=True)
        return places.astype(np.int64), len(values)

    @cached_property
    def _bins(self) -> tuple[NDArray[np.int64], int]:
        """Bin of each score, and how many there are: a tenth of the target scores, 2 to 100."""
        number = min(MOST_BINS, max(2, int(self.targets.sum()) // 10))
        low, high = self.scores.min(), self.scores.max()
        if low == high:
            return np.zeros(len(self.scores), dtype=np.int64), number
        places = ((self.scores - low) / (high - low) * number).astype(np.int64)
        return np.minimum(places, number - 1), number

    def _by_level(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weights of targets and of nontargets with each of the different scores."""
        places, number = self._levels
        target, other = (
            np.asarray(np.bincount(places, weights * kind, number), dtype=np.float64)
            for kind in (self.targets, ~self.targets)
        )
        return target, other

    def _both(self, weights: FloatArray) -> tuple[float, float]:
        return float(weights[self.targets].sum()), float(weights[~self.targets].sum())

    def equal_error_rate(self, weights: FloatArray) -> float:
        """See `roc.Roc.equal_error_rate`; NaN where one kind counts nothing."""
        if not all(self._both(weights)):
            return float("nan")
        return self._sorted.roc(weights).equal_error_rate

    def cllr(self, weights: FloatArray) -> float:
        """Cost of log-likelihood ratios (natural logarithm), in bits; 1: they say nothing.

        Brummer and du Preez 2006 (Computer Speech and Language 20), Equation 7.
        """
        return _cllr(self.scores, weights * self.targets, weights * ~self.targets)

    def min_cllr(self, weights: FloatArray) -> float:
        """The same after the best monotone calibration, by pool adjacent violators."""
        return _cllr(*self._calibrated(weights))

    def d_sys(self, weights: FloatArray, omega: float = 1.0) -> float:
        """Linkability, 0 to 1 (Gomez-Barrero et al. 2018, IEEE TIFS 13(6), Equations 7 and 10).

        Mean over target scores of max(0, 2 r / (1 + r) - 1), where r is omega times the ratio of
        the densities of target and nontarget scores. Densities are histograms of equal bins, as
        many as a tenth of the target scores, at most 100. The sum is over bins; the authors' own
        program integrates between centers of bins and so loses half of the outer two.

        Args:
          weights: how often each score counts.
          omega: prior of targets over that of nontargets.
        """
        places, number = self._bins
        ours, theirs = self._both(weights)
        if not ours or not theirs:
            return float("nan")
        target = np.bincount(places, weights * self.targets, number) / ours
        other = np.bincount(places, weights * ~self.targets, number) / theirs
        share = np.divide(omega * target, omega * target + other, out=np.zeros(number),
                          where=target > 0)  # fmt: skip
        return float((target * np.maximum(0.0, 2 * share - 1)).sum())

    def disclosure(self, weights: FloatArray) -> float:
        """Expected disclosure of ZEBRA, in bits, 0 to 0.721.

        Nautsch et al. 2020 (Interspeech, arXiv:2005.09413): over all priors, the mean of what
        calibrated scores take from the entropy of the prior. For a likelihood ratio x of a target
        that is 1/4 - 1 / (2 (x - 1)) + ln x / (2 (x - 1)^2) nats, of a nontarget the same of 1 / x.
        """
        ratios, target, other = self._calibrated(weights)
        if not target.sum() or not other.sum():
            return float("nan")
        gains = (_mean(_gain(ratios), target), _mean(_gain(-ratios), other))
        return float(max(0.0, sum(gains) / np.log(2)))  # -1e-17 where nothing is told

    def strongest(self, weights: FloatArray) -> float:
        """Largest likelihood ratio of ZEBRA, either way, as a power of ten.

        Calibrated as by `min_cllr`, with a target and a nontarget added at both ends (Laplace's
        rule of succession), because else the ratio of the highest scores is infinite.
        """
        target, other = self._by_level(weights)
        if not target.sum() or not other.sum():
            return float("nan")
        prior = np.log(target.sum() / other.sum())
        # In the order of the program of the authors: target first, then nontarget, at each end.
        ends = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        ours, theirs = (np.concatenate([end, part, end])
                        for end, part in zip(ends, (target, other), strict=True))  # fmt: skip
        ratios = _calibrate(ours, theirs, prior)[2:-2][(target + other) > 0]
        return float(np.abs(ratios).max() / np.log(10))

    def _calibrated(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log-likelihood ratios of different scores, and the weights of targets and nontargets."""
        target, other = self._by_level(weights)
        if not target.sum() or not other.sum():
            return np.zeros(len(target)), target, other
        return _calibrate(target, other, np.log(target.sum() / other.sum())), target, other


def cllr(targets: FloatArray, nontargets: FloatArray) -> float:
    """Cllr of log-likelihood ratios of target and nontarget pairs; see `Scored.cllr`."""
    return scored(targets, nontargets).cllr(np.ones(len(targets) + len(nontargets)))


def scored(targets: FloatArray, nontargets: FloatArray) -> Scored:
    """Two lists of scores as one."""
    scores = np.concatenate([targets, nontargets]).astype(np.float64)
    return Scored(scores, np.arange(len(scores)) < len(targets))


def category(strongest: float) -> str:
    """ZEBRA's letter for the strongest evidence: 0 (none), A (below 10), B, C, D, E, F (10^6)."""
    if strongest <= 1e-9:
        return "0"
    return next(letter for power, letter in CATEGORIES if strongest >= power)


def _cllr(ratios: FloatArray, target: FloatArray, other: FloatArray) -> float:
    if not target.sum() or not other.sum():
        return float("nan")
    misses = _mean(np.logaddexp(0, -ratios), target)
    alarms = _mean(np.logaddexp(0, ratios), other)
    return float((misses + alarms) / (2 * np.log(2)))


def _mean(costs: FloatArray, weights: FloatArray) -> float:
    """Mean cost; what counts nothing may cost infinitely much."""
    there = weights > 0
    return float(weights[there] @ costs[there] / weights[there].sum())


def _calibrate(target: FloatArray, other: FloatArray, prior: float) -> FloatArray:
    """Log-likelihood ratios of levels in ascending order; levels that nothing is of get 0."""
    total = target + other
    there = total > 0
    shares = isotonic_regression(target[there] / total[there], weights=total[there]).x
    ratios = np.zeros(len(total))
    # Means of whole counts may come out a last bit beyond 0 and 1.
    ratios[there] = logit(np.clip(shares, 0.0, 1.0)) - prior
    return ratios


def _gain(ratios: FloatArray) -> FloatArray:
    """Mean over priors of what a log-likelihood ratio takes from the prior's entropy, in nats."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        less = np.expm1(ratios)
        exact = 0.25 - 1 / (2 * less) + ratios / (2 * less**2)
    # Near 0 both terms cancel: 1/4 - 1/(2y) + ln(1+y)/(2y^2) = y/6 - y^2/8 + ...
    near = np.clip(ratios, -1e-4, 1e-4)
    found = np.where(near == ratios, near / 6 - near**2 / 24, exact)
    return np.where(ratios > 300, 0.25, found)

"""How well an attack links speakers: is it the same voice, and whose is it of so many?

    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.1], [0.6, 0.2, 0.5]])  # probes by candidates
    linking_metrics(Trials(scores, truth=np.eye(3, dtype=bool)), rng=stream(1, "bootstrap"))

A probe is what an attack was given (an update, a file), a candidate is a speaker whom it may be of.
Scores are higher where the attack is surer. Every figure stands beside what guessing gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

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
BoolArray = NDArray[np.bool_]

_NORMAL_FROM = 12
"""Mean ranks over fewer trials are not close to normal: their distribution is added up."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs of a probe and a candidate, which an attack scored.

    Attributes:
      scores: higher where the attack is surer, shape (probes, candidates).
      truth: whether the candidate is behind the probe; several are behind a sum, none behind a
        stranger. Same shape.
      counted: pairs that are asked about at all; None: all. Where probes are compared with one
        another, a probe and itself are not.
      speakers: who each candidate is, shape (candidates,): candidates of one speaker are drawn
        together. None: each is another speaker.

    Raises:
      ValueError: if shapes do not fit, a score is not finite, or no pair of either kind counts.
    """

    scores: FloatArray
    truth: BoolArray
    counted: BoolArray | None = None
    speakers: IntArray | None = None

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        shape = self.scores.shape
        fits = self.truth.shape == shape and (self.counted is None or self.counted.shape == shape)
        if len(shape) != 2 or not fits or not np.isfinite(self.scores).all():
            raise ValueError(
                "expected finite scores (probes, candidates) and as many truths, got shapes "
                f"{shape} and {self.truth.shape}"
            )
        if not self.targets.any() or not self.nontargets.any():
            raise ValueError("expected a pair of one speaker and a pair of two")

    @property
    def targets(self) -> BoolArray:
        """Pairs that count, of a probe and a candidate behind it."""
        return self.truth if self.counted is None else self.truth & self.counted

    @property
    def nontargets(self) -> BoolArray:
        """Pairs that count, of a probe and somebody else."""
        return ~self.truth if self.counted is None else ~self.truth & self.counted

    @cached_property
    def persons(self) -> IntArray:
        """The speaker of each candidate, from 0, shape (candidates,)."""
        named = np.arange(self.scores.shape[1]) if self.speakers is None else self.speakers
        return np.asarray(np.unique(named, return_inverse=True)[1], dtype=np.int64)

    @cached_property
    def ranks(self) -> FloatArray:
        """Rank of each target among itself and the nontargets of its probe, from 1.

        Ties share their mean rank. In the order of `numpy.nonzero(targets)`, shape (targets,).
        """
        rows, columns = np.nonzero(self.targets)
        mine = self.scores[rows, columns][:, None]
        others, against = self.scores[rows], self.nontargets[rows]
        above = ((others > mine) & against).sum(axis=1)
        level = ((others == mine) & against).sum(axis=1)
        return np.asarray(1 + above + level / 2, dtype=np.float64)

    @cached_property
    def first(self) -> FloatArray:
        """Whether the best candidate of each probe with a target is one; shape (such probes,).

        Where several candidates share the first place, the share of targets among them.
        """
        asked = self.targets.any(axis=1)
        counts = (self.targets | self.nontargets)[asked]
        scores = np.where(counts, self.scores[asked], -np.inf)
        best = scores == scores.max(axis=1, keepdims=True)
        return np.asarray((best & self.targets[asked]).sum(axis=1) / best.sum(axis=1))

    @property
    def first_by_chance(self) -> float:
        """What guessing gives of `first`."""
        asked = self.targets.any(axis=1)
        targets, others = (kind[asked].sum(axis=1) for kind in (self.targets, self.nontargets))
        return float((targets / (targets + others)).mean())


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
    trials: Trials, rng: np.random.Generator
) -> tuple[Metric, Metric, Metric, Metric]:
    """Equal error rate, top-1, and median and 1st percentile of mean ranks, over speakers.

    A rank is that of a true candidate among itself and the false ones of the same probe, the mean
    over a speaker's probes; percentiles are over speakers. Intervals are bootstrapped over
    speakers, drawn with all their probes. For the equal error rate a pair counts as often as both
    of its speakers are drawn, and no speaker is a nontarget of itself; for the others the
    candidates stay as they are, because copies of a candidate would tie. A probe of several
    speakers, a sum, stands for itself. Shares of 0 and 1 get the exact interval of a count.
    """
    rows, columns = np.nonzero(trials.targets)
    persons, owner = np.unique(trials.persons[columns], return_inverse=True)
    probes = np.bincount(owner)
    rank = np.bincount(owner, trials.ranks) / probes
    drawn = rng.integers(0, len(rank), (RESAMPLES, len(rank)))
    low, median = np.percentile(rank[drawn], [1, 50], axis=1)
    candidates = round(float(trials.nontargets[rows].sum(axis=1).mean())) + 1
    return (
        _equal_error_metric(trials, rng),
        _top_1_metric(trials, rng),
        Metric(
            name="median rank",
            value=float(np.median(rank)),
            unit="number",
            by_chance=(candidates + 1) / 2,
            phones=len(persons),
            interval=percentile_interval(median),
        ),
        Metric(
            name="rank of the 1 % found best",
            value=float(np.percentile(rank, 1)),
            unit="number",
            by_chance=random_rank_p1(candidates, int(np.median(probes))),
            phones=len(persons),
            interval=percentile_interval(low),
        ),
    )


def _probe_owners(trials: Trials) -> IntArray:
    """The speaker of each probe that has exactly one; -1 for others; shape (probes,)."""
    owners = np.full(len(trials.scores), -1)
    for row, truth in enumerate(trials.truth):
        behind = np.unique(trials.persons[truth])
        if len(behind) == 1:
            owners[row] = behind[0]
    return owners


def _equal_error_metric(trials: Trials, rng: np.random.Generator) -> Metric:
    """Equal error rate over all pairs that count."""
    targets, nontargets = trials.targets, trials.nontargets
    kept = targets | nontargets
    curves = Sorted(trials.scores[kept].astype(np.float64), targets[kept])
    owners, persons = _probe_owners(trials), int(trials.persons.max()) + 1
    found = []
    for _ in range(RESAMPLES):
        weights = draw(persons, rng)
        rows = np.where(owners >= 0, weights[owners], 1.0)[:, None]
        pairs = weights[trials.persons] * np.where(targets, 1.0, rows)
        if (pairs * targets).any() and (pairs * nontargets).any():
            found.append(curves.roc(pairs[kept]).equal_error_rate)
    return Metric(
        name="equal error rate",
        value=curves.roc(np.ones(int(kept.sum()))).equal_error_rate,
        by_chance=0.5,
        lower_is_better=True,
        phones=persons,
        counted=int(targets.sum()),
        interval=share_interval(np.array(found), len(np.unique(trials.persons[targets.any(0)]))),
    )


def _top_1_metric(trials: Trials, rng: np.random.Generator) -> Metric:
    """Share of probes whose best candidate is a true one, over speakers, or over sums."""
    owners = _probe_owners(trials)[trials.targets.any(axis=1)]
    units = np.where(owners >= 0, owners, -1 - np.arange(len(owners)))
    _, owner = np.unique(units, return_inverse=True)
    shares = np.bincount(owner, trials.first) / np.bincount(owner)
    drawn = rng.integers(0, len(shares), (RESAMPLES, len(shares)))
    return Metric(
        name="top-1",
        value=float(shares.mean()),
        by_chance=trials.first_by_chance,
        phones=len(shares),
        counted=len(owners),
        interval=share_interval(shares[drawn].mean(axis=1), len(shares)),
    )

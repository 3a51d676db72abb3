"""Does the new version cost any segment accuracy? Counts of two groups of phones, window by window.

In every window the phones that have the new version and those that keep the old one are counted in
the same federated evaluation: correct clips and clips, per segment, with noise of known standard
deviation. The comparison is concurrent, so a week of bad weather changes both sides.

The statistic of a loss `c` in one segment, over the windows w of a stage, is linear in the counts
of the new version,

    U(c) = sum_w [ correct_w - (p_w - c) total_w ],    p_w = accuracy of the old version in w,

whose mean is 0 where the new version loses exactly c (Fieller 1954, J. R. Statist. Soc. B 16:175).
No noisy count of the small group is divided by, so its noise biases nothing. Its variance has three
parts: the noise of all four counts; clips, as Bernoulli draws; and phones, which differ. A window
does not average over phones: those that were drawn for a stage stay in all of its windows.

The test "U(tolerance) is below 0" finds harm and rolls back. The test "U(margin) is above 0" finds
that the loss is smaller than the margin, which clears the segment. A stage is promoted when every
segment is cleared. Each is one-sided and sequential (`fedspeech.rollout.sequential`).

Segments and stages share alpha equally (Bonferroni): the chance that a harmless update is rolled
back is at most alpha over all of them, however they depend on one another. To pass, an update must
be cleared in every segment, so beta needs no such division (Berger 1982, Technometrics 24:295).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import is_integer
from fedspeech.rollout.plan import RolloutPlan, Stage
from fedspeech.rollout.sequential import bounds, spent

FloatArray = NDArray[np.float64]

_DAYS, _SIDES = ("first_day", "last_day"), ("new", "old")
_LEAST_TO_NOISE = 3.0
"""A cell whose clips are fewer than this many standard deviations of their noise is withheld."""


@dataclass(frozen=True, kw_only=True)
class SegmentCounts:
    """Noisy counts of one segment in one group of phones and one window.

    Attributes:
      segment: full name, such as "accent=scottish".
      correct: clips that were recognized.
      total: clips.
      noise_stddev: of the noise in the correct clips, and of that in the other ones, which is drawn
        apart, in clips.

    Raises:
      ValueError: if a number is not finite, or the noise is negative.
    """

    segment: str
    correct: float
    total: float
    noise_stddev: float

    def __post_init__(self) -> None:
        """Checks the numbers."""
        numbers = (self.correct, self.total, self.noise_stddev)
        if not all(map(math.isfinite, numbers)) or self.noise_stddev < 0:
            raise ValueError(
                f"counts of {self.segment} must be finite, and their noise not negative, got "
                f"{numbers}"
            )


@dataclass(frozen=True, kw_only=True)
class Window:
    """One federated evaluation of both versions at the same time.

    Attributes:
      first_day, last_day: numbers of the days that it covers, both included.
      new: counts of phones with the new version; a segment that was withheld is not there.
      old: of phones that keep the old one.

    Raises:
      ValueError: if the days are out of order, or a segment is there twice.
    """

    first_day: int
    last_day: int
    new: tuple[SegmentCounts, ...]
    old: tuple[SegmentCounts, ...]

    def __post_init__(self) -> None:
        """Checks days and names."""
        if not self.first_day <= self.last_day:
            raise ValueError(
                f"first_day must not be after last_day, got {self.first_day} and {self.last_day}"
            )
        for group in (self.new, self.old):
            names = [one.segment for one in group]
            if len(set(names)) < len(names):
                raise ValueError(f"a window counts each segment once, got {names}")

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Window:
        """Reads a window from plain values, as `dataclasses.asdict` gives them.

        Raises:
          TypeError, KeyError, ValueError: if they are of another form.
        """
        sides: dict[str, Any] = {
            name: tuple(SegmentCounts(**one) for one in record[name]) for name in _SIDES
        }
        if unknown := set(record) - {*_SIDES, *_DAYS}:
            raise ValueError(f"a window has {_DAYS + _SIDES}, got {sorted(unknown)}")
        days = {name: record[name] for name in _DAYS}
        if not all(map(is_integer, days.values())):
            raise ValueError(f"days must be whole numbers, got {days}")
        return cls(**sides, **days)

    def merged(self, groups: Mapping[str, str]) -> Window:
        """The window with counts of small segments added up.

        Where one of several parts was withheld the merged segment is left out: its clips are
        missing.

        Args:
          groups: full name of a segment to that of the merged one that it goes into.
        """
        return replace(self, new=_pooled(self.new, groups), old=_pooled(self.old, groups))


def least_clips(noise_stddev: Any) -> Any:
    """Clips below which a cell is withheld for its noise, that of correct clips and of others."""
    return _LEAST_TO_NOISE * math.sqrt(2) * noise_stddev


def _pooled(
    counts: tuple[SegmentCounts, ...], groups: Mapping[str, str]
) -> tuple[SegmentCounts, ...]:
    parts: dict[str, list[SegmentCounts]] = {}
    for one in counts:
        parts.setdefault(groups.get(one.segment, one.segment), []).append(one)
    planned = Counter(groups.values())
    return tuple(
        SegmentCounts(
            segment=name,
            correct=sum(one.correct for one in found),
            total=sum(one.total for one in found),
            noise_stddev=math.hypot(*(one.noise_stddev for one in found)),
        )
        for name, found in parts.items()
        # A segment that was merged before it was asked for comes under its own name, alone.
        if len(found) in (1, planned[name]) and (len(found) > 1 or found[0].segment == name)
    )


@dataclass(frozen=True)
class Counts:
    """Counts of windows as arrays, NaN where withheld; the last axis is the segment.

    Attributes:
      correct, total: of phones with the new version, shape (windows, ..., segments).
      old_correct, old_total: of those that keep the old one.
      noise_stddev, old_noise_stddev: in clips, of the same shape.
    """

    correct: FloatArray
    total: FloatArray
    old_correct: FloatArray
    old_total: FloatArray
    noise_stddev: FloatArray
    old_noise_stddev: FloatArray

    @classmethod
    def of(cls, windows: Sequence[Window], segments: Sequence[str]) -> Counts:
        """Counts of some windows, in the order of the segments' names."""
        correct, total, noise = _columns([window.new for window in windows], segments)
        old_correct, old_total, old_noise = _columns([one.old for one in windows], segments)
        return cls(correct, total, old_correct, old_total, noise, old_noise)

    def usable(self, k_min: int) -> NDArray[np.bool_]:
        """Which cells are large enough on both sides."""
        with np.errstate(invalid="ignore"):  # NaN is not above anything
            least = np.maximum(k_min, least_clips(self.noise_stddev))
            old_least = np.maximum(k_min, least_clips(self.old_noise_stddev))
            return np.asarray((self.total >= least) & (self.old_total >= old_least))


def _columns(
    groups: Sequence[tuple[SegmentCounts, ...]], segments: Sequence[str]
) -> NDArray[np.float64]:
    """Correct clips, clips and noise, each (windows, segments); NaN where a segment is missing."""
    found = np.full((3, len(groups), len(segments)), np.nan)
    places = {name: place for place, name in enumerate(segments)}
    for row, group in enumerate(groups):
        for one in group:
            found[:, row, places[one.segment]] = one.correct, one.total, one.noise_stddev
    return found


@dataclass(frozen=True)
class Judgment:
    """What the guardrails say after each look; all shapes (looks, ..., segments).

    Attributes:
      difference: accuracy of the new version less that of the old one; NaN before the first count.
      low, high: what is known of it after this look: above `low`, at chance beta of being wrong,
        and below `high`, at the segment's part of alpha.
      stddev: standard error of the difference.
      harmed: harm was found at this look or before.
      cleared: the loss was found smaller than the margin, at this look or before.
    """

    difference: FloatArray
    low: FloatArray
    high: FloatArray
    stddev: FloatArray
    harmed: NDArray[np.bool_]
    cleared: NDArray[np.bool_]


def segment_alpha(plan: RolloutPlan, segments: int) -> float:
    """The part of alpha that one segment may spend in one stage."""
    return plan.alpha / (segments * max(1, len(plan.watched)))


def judge(counts: Counts, plan: RolloutPlan, stage: Stage) -> Judgment:
    """What a stage's guardrails say after each of its windows.

    Args:
      counts: of the windows of this stage so far, at most as many as it plans.
      plan: of the roll-out.
      stage: in which they were counted.

    Raises:
      ValueError: if there are more windows than the stage plans.
    """
    looks, segments = len(counts.total), counts.total.shape[-1]
    if looks > stage.windows:
        raise ValueError(f"the stage plans {stage.windows} windows, got {looks}")
    there = counts.usable(plan.evaluation.k_min)
    sums = Sums(counts, there, plan)
    harm, clear = sums.loss(plan.tolerance), sums.loss(stage.margin)
    harm_bound = bounds(
        np.where(there, harm.information, np.nan),
        spent(segment_alpha(plan, segments), stage.windows)[:looks],
    )
    clear_bound = bounds(
        np.where(there, clear.information, np.nan), spent(plan.beta, stage.windows)[:looks]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        harmed = -harm.statistic > harm_bound
        cleared = clear.statistic > clear_bound
        difference = sums.correct_above / sums.total
        return Judgment(
            difference=difference,
            low=-stage.margin + (clear.statistic - clear_bound) / np.sqrt(clear.information),
            high=-plan.tolerance + (harm.statistic + harm_bound) / np.sqrt(harm.information),
            stddev=1 / np.sqrt(harm.information),
            harmed=np.logical_or.accumulate(harmed, 0),
            cleared=np.logical_or.accumulate(cleared, 0),
        )


@dataclass(frozen=True)
class LossTest:
    """The test of one loss: standardized statistic, and information in 1 / share^2."""

    statistic: FloatArray
    information: FloatArray


class Sums:
    """Sums over the windows up to each look, of the cells that are `there`."""

    def __init__(self, counts: Counts, there: NDArray[np.bool_], plan: RolloutPlan) -> None:
        def kept(values: FloatArray, otherwise: float = 0.0) -> FloatArray:
            return np.where(there, values, otherwise)

        self._evaluation = plan.evaluation
        self._windows = np.cumsum(there, 0)
        self._new, self._old = kept(counts.total), kept(counts.old_total, 1.0)
        self._accuracy = np.clip(kept(counts.old_correct) / self._old, 0.0, 1.0)
        self._noise = kept(counts.noise_stddev) ** 2
        self._old_noise = kept(counts.old_noise_stddev) ** 2
        self._there = there
        self.total = np.cumsum(self._new, 0)
        self.old_total = np.cumsum(kept(counts.old_total), 0)
        self.correct_above = np.cumsum(kept(counts.correct) - self._accuracy * self._new, 0)

    def loss(self, loss: float) -> LossTest:
        """The test of a loss of accuracy, as a share."""
        variance = self._variance(loss)
        with np.errstate(invalid="ignore", divide="ignore"):
            return LossTest(
                (self.correct_above + loss * self.total) / np.sqrt(variance),
                self.total**2 / variance,
            )

    def _variance(self, loss: float) -> FloatArray:
        """Variance of U(loss) at each look, in clips squared."""
        p, new = self._accuracy, self._new
        after = np.clip(p - loss, 0.0, 1.0)
        ratio = new / self._old
        # Noise is in the correct clips and, drawn apart, in the other ones.
        noise = self._noise * ((1 - after) ** 2 + after**2)
        noise = noise + ratio**2 * self._old_noise * ((1 - p) ** 2 + p**2)
        # One clip is right or wrong: p (1 - p), of which the part between phones comes apart.
        between, between_new = self._between(p), self._between(after)
        clips = new * (after * (1 - after) - between_new)
        clips = clips + new * ratio * (p * (1 - p) - between)
        # Phones of unequal weight: sum of squared clips is at most clips_per_phone times clips.
        most, answering = self._evaluation.clips_per_phone, self._evaluation.participation
        phones = most * new * (between_new + ratio * between)
        # Who answers is drawn in every window; who could answer stays the same.
        fresh = np.cumsum(np.where(self._there, noise + clips + (1 - answering) * phones, 0.0), 0)
        worst = np.maximum.accumulate(np.maximum(between, between_new), 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            lasting = self.total * (1 + self.total / self.old_total) * worst * self._windows
        return np.asarray(fresh + answering * most * lasting)

    def _between(self, p: FloatArray) -> FloatArray:
        """Variance of accuracy between phones: as planned, at most what the mean allows."""
        most = p * (1 - p)
        planned = self._evaluation.phone_stddev
        return most if planned is None else np.minimum(planned**2, most)

"""What one look at the guardrails finds, and what follows from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedspeech.rollout.guardrails import Counts, FloatArray, Window, judge
from fedspeech.rollout.plan import RolloutPlan, Stage, percent

Decision = Literal["watch", "promote", "pause", "roll back"]


@dataclass(frozen=True, kw_only=True)
class SegmentLook:
    """What one look says of one segment; shares, None where nothing is known.

    Attributes:
      segment: full name.
      total: clips counted in this window from phones with the new version; None: withheld.
      difference: accuracy of the new version less the old one's, over the stage so far.
      low: the difference is above it, at the plan's chance beta of being wrong; None: unknown.
      high: the difference is below it, at the segment's part of alpha; None: unknown.
      harmed, cleared: as in `guardrails.Judgment`.
    """

    segment: str
    total: float | None
    difference: float | None
    low: float | None
    high: float | None
    harmed: bool
    cleared: bool


@dataclass(frozen=True, kw_only=True)
class Look:
    """A window that was looked at.

    Attributes:
      stage: number of the stage, from 0.
      number: of the look in its stage, from 1.
      window: first and last day.
      evidence_sha256: of the window's counts, hex.
      segments: what is known after it.
      decision: what follows.
      reason: why.
    """

    stage: int
    number: int
    window: tuple[int, int]
    evidence_sha256: str
    segments: tuple[SegmentLook, ...]
    decision: Decision
    reason: str

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Look:
        """Reads a look from its row, whatever else stands in it."""
        made = {one.name: record[one.name] for one in dataclasses.fields(cls)}
        segments = tuple(SegmentLook(**one) for one in record["segments"])
        return cls(**made | {"segments": segments, "window": tuple(record["window"])})


def look_at(
    windows: Sequence[Window], plan: RolloutPlan, stage_number: int, evidence: str, *, paused: bool
) -> Look:
    """Judges the last window of a stage together with those before it.

    Args:
      windows: of the stage so far, in order.
      plan: of the roll-out.
      stage_number: of the stage, from 0.
      evidence: hash of the last window's counts, hex.
      paused: as in `decide`.
    """
    stage, segments = plan.stages[stage_number], list(plan.cells)
    counts = Counts.of(windows, segments)
    judged = judge(counts, plan, stage)
    there = counts.usable(plan.evaluation.k_min)[-1]
    found = tuple(
        SegmentLook(
            segment=name,
            total=float(counts.total[-1, place]) if there[place] else None,
            difference=_finite(judged.difference[-1, place]),
            low=_tightest(judged.low[:, place], max),
            high=_tightest(judged.high[:, place], min),
            harmed=bool(judged.harmed[-1, place]),
            cleared=bool(judged.cleared[-1, place]),
        )
        for place, name in enumerate(segments)
    )
    decision, reason = decide(found, stage, len(windows), paused)
    return Look(
        stage=stage_number,
        number=len(windows),
        window=(windows[-1].first_day, windows[-1].last_day),
        evidence_sha256=evidence,
        segments=found,
        decision=decision,
        reason=reason,
    )


def decide(
    segments: tuple[SegmentLook, ...], stage: Stage, number: int, paused: bool
) -> tuple[Decision, str]:
    """What follows from a look, and why.

    Args:
      segments: what is known of each.
      stage: that is open.
      number: of the look, from 1.
      paused: somebody paused the roll-out, so it is not promoted.
    """
    margin = f"{100 * stage.margin:g} points"
    if harmed := [one for one in segments if one.harmed]:
        worst = min(harmed, key=lambda one: one.high or 0.0)
        assert worst.difference is not None
        return "roll back", (
            f"{worst.segment} lost {-100 * worst.difference:.1f} points of accuracy, at least "
            f"{-100 * (worst.high or 0.0):.1f}, after {_windows(number)} at {percent(stage.share)}"
        )
    open_ones = [one.segment for one in segments if not one.cleared]
    if not open_ones and not paused:
        return "promote", (
            f"every segment lost less than {margin}, after {_windows(number)} at "
            f"{percent(stage.share)}"
        )
    if number == stage.windows and open_ones:
        return "pause", (
            f"{', '.join(open_ones)} {'was' if len(open_ones) == 1 else 'were'} neither harmed nor "
            f"cleared of a loss of {margin} in the {number} windows of the plan: too little was "
            "counted"
        )
    if not open_ones:
        return "watch", "every segment is cleared; the roll-out is paused"
    return "watch", f"not yet cleared of a loss of {margin}: {', '.join(open_ones)}"


def _windows(number: int) -> str:
    return "1 window" if number == 1 else f"{number} windows"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _tightest(ends: FloatArray, best: Callable[[Sequence[float]], float]) -> float | None:
    """The tightest end of all looks: they hold at all of them together."""
    finite = ends[np.isfinite(ends)].tolist()
    return best(finite) if finite else None

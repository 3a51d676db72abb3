"""`rollout.html`: stages, guardrails, intervals, decisions and reasons; from the chain alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedspeech.rollout.decisions import Rollout
from fedspeech.rollout.look import Look, SegmentLook
from fedspeech.rollout.plan import Stage, percent
from simulations.report.document import document
from simulations.report.figures import Figure, axes, rule, scatter

_DECIDED = {
    "started": "started", "look": "looked", "promoted": "promoted by hand",
    "paused": "paused by hand", "resumed": "resumed by hand", "rolled_back": "rolled back by hand",
}  # fmt: skip


@dataclass(frozen=True)
class Track:
    """One segment after a stage's last look, as a bar; places are percent of the bar's width.

    Attributes:
      segment: what is known of it.
      verdict: in words.
      start, end: of the interval; ends that are not known are those of the bar.
      middle: the estimate; None: there is none.
    """

    segment: SegmentLook
    verdict: str
    start: float
    end: float
    middle: float | None

    @property
    def change(self) -> str:
        """The estimate in points."""
        return _points(self.segment.difference)

    @property
    def interval(self) -> str:
        """Both ends in points."""
        return f"{_points(self.segment.low)} to {_points(self.segment.high)}"


@dataclass(frozen=True)
class Watched:
    """One stage that was looked at.

    Attributes:
      title: share and number of phones.
      look: the last one.
      zero, margin: places of no change and of the margin, percent of the bar's width.
      tracks: one per segment, the worst first.
      course: the estimates over the looks.
    """

    title: str
    look: Look
    planned: int
    margin_points: str
    zero: float
    margin: float
    tracks: tuple[Track, ...]
    course: Figure


def render(rollout: Rollout) -> str:
    """Returns the page."""
    watched = [
        _watched(rollout, number)
        for number in sorted({look.stage for look in rollout.looks}, reverse=True)
    ]
    release, control = rollout.release, rollout.control
    plan = rollout.plan
    context: dict[str, Any] = {
        "title": f"Roll-out of {release.model} {release.version}",
        "marks": (),
        "rollout": rollout,
        "plan": plan,
        "share": percent(rollout.share_ppm / 1_000_000),
        "against": "the base alone" if control is None else control.version,
        "watched": watched,
        "power_header": ("segment", *(f"at {percent(stage.share)}" for stage in plan.watched)),
        "power": _power(rollout),
        "stages": _stages(rollout),
        "decisions": [_decision(number, row) for number, row in enumerate(rollout.rows)],
        "bound": _bound(rollout),
    }
    return document("rollout.html", [one.course for one in watched], context)


def _watched(rollout: Rollout, number: int) -> Watched:
    looks = [look for look in rollout.looks if look.stage == number]
    stage, last = rollout.plan.stages[number], looks[-1]
    known = [
        end
        for one in last.segments
        for end in (one.low, one.high, one.difference)
        if end is not None
    ]
    limit = 1.1 * max(map(abs, [*known, stage.margin]))

    def place(value: float) -> float:
        return round(50 * (1 + max(-1.0, min(1.0, value / limit))), 2)

    ordered = sorted(last.segments, key=lambda one: (one.difference is None, one.difference or 0))
    return Watched(
        title=f"{percent(stage.share)} of the phones",
        look=last,
        planned=stage.windows,
        margin_points=f"{100 * stage.margin:g}",
        zero=place(0.0),
        margin=place(-stage.margin),
        tracks=tuple(
            Track(
                one,
                _verdict(one),
                place(-limit if one.low is None else one.low),
                place(limit if one.high is None else one.high),
                None if one.difference is None else place(one.difference),
            )
            for one in ordered
        ),
        course=_course(number, stage, looks, ordered[0].segment),
    )


def _verdict(one: SegmentLook) -> str:
    if one.harmed:
        return "harmed"
    return "cleared" if one.cleared else "withheld" if one.total is None else "open"


def _course(number: int, stage: Stage, looks: Sequence[Look], name: str) -> Figure:
    """The segment that changed for the worst, look by look."""
    found = [next(one for one in look.segments if one.segment == name) for look in looks]
    over = [look.number for look in looks]
    known = [
        (at, one) for at, one in zip(over, found, strict=True)
        if one.low is not None and one.high is not None
    ]  # fmt: skip
    band = scatter(
        [at for at, _ in known] + [at for at, _ in reversed(known)],
        [100 * (one.low or 0) for _, one in known]
        + [100 * (one.high or 0) for _, one in reversed(known)],
        "lines+markers", "personalized", fill="toself", fillcolor="@personalized-soft",
        line={"width": 1}, marker={"size": 5},
    )  # fmt: skip
    line = scatter(
        over,
        [None if one.difference is None else round(100 * one.difference, 3) for one in found],
        "lines+markers", "personalized", name,
        hovertemplate="look %{x}: %{y:.2f} points<extra></extra>",
    )  # fmt: skip
    layout = axes(
        "look", "change of accuracy, points",
        x={"dtick": 1, "range": [0.5, stage.windows + 0.5]}, y={"zeroline": True},
    )  # fmt: skip
    layout["shapes"] = [rule("y", -100 * stage.margin)]
    layout["annotations"] = [
        {
            "text": "margin", "font": {"color": "@warn", "size": 12}, "showarrow": False,
            "xref": "paper", "x": 0, "xanchor": "left", "y": -100 * stage.margin,
            "yanchor": "bottom",
        }
    ]  # fmt: skip
    return Figure(
        key=f"course-{number}",
        title=f"{name}, look by look",
        visibility=("public",),
        says="The segment with the lowest estimate. Line: estimate so far. Band: what is known of "
        "it at all looks together.",
        header=("look", "days", "change, points", "above", "below"),
        table=tuple(
            (
                str(look.number), f"{look.window[0]} to {look.window[1]}",
                _points(one.difference), _points(one.low), _points(one.high),
            )
            for look, one in zip(looks, found, strict=True)
        ),
        traces=[band, line],
        layout=layout,
    )  # fmt: skip


def _power(rollout: Rollout) -> list[tuple[str, ...]]:
    """A row per segment: the smallest loss that each stage could find."""
    names = list(dict.fromkeys(one.segment for one in rollout.detectable))
    by_name = {name: [one for one in rollout.detectable if one.segment == name] for name in names}
    return [
        (
            name,
            *("withheld" if one.smallest is None else f"{100 * one.smallest:.1f}" for one in found),
        )
        for name, found in by_name.items()
    ]


def _stages(rollout: Rollout) -> list[tuple[str, ...]]:
    """A row per stage: share, whether it was reached, windows, margin in points, phones."""
    rows: list[tuple[str, ...]] = []
    for number, stage in enumerate(rollout.plan.stages):
        looks = sum(look.stage == number for look in rollout.looks)
        reached = "open" if number == rollout.stage_number else "passed"
        if number > rollout.stage_number:
            reached = "not reached"
        elif number == rollout.stage_number and rollout.state != "watching":
            reached = rollout.state
        rows.append(
            (
                percent(stage.share),
                reached,
                f"{looks} of {stage.windows}" if stage.share < 1 else "–",
                f"{100 * stage.margin:g}" if stage.share < 1 else "–",
                f"{round(rollout.plan.phones * stage.share):,}",
            )
        )
    return rows


def _decision(number: int, row: dict[str, Any]) -> tuple[str, ...]:
    said = _DECIDED[row["kind"]]
    if row["kind"] == "look":
        first, last = row["window"]
        said = f"look at days {first} to {last}: {row['decision']}"
    return (str(number + 1), said, row["reason"])


def _bound(rollout: Rollout) -> list[tuple[str, str]]:
    """What the roll-out is bound to, by content."""
    release, control, first = rollout.release, rollout.control, rollout.rows[0]
    rows = [
        ("New version", f"{release.model} {release.version}, adapter {release.adapter_sha256}"),
        ("Old version",
         f"{control.version}, adapter {control.adapter_sha256}" if control else "the base alone"),
        ("Base", release.base_sha256),
        ("Card", release.card_sha256),
        ("Metrics in the card", release.metrics_sha256),
        ("Plan", first["plan_sha256"]),
    ]  # fmt: skip
    rows += [
        (f"{name.replace('_', ' ').capitalize()}", value)
        for name, value in first["bound"].items()
        if value
    ]
    return [*rows, ("Head of this chain", str(rollout.head))]


def _points(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.2f}"

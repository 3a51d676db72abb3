"""Roll-outs as the functions that carry them out give them: forecast, state, simulated ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedspeech.rollout.plan import percent
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.rollout.decisions import Rollout
    from fedspeech.rollout.plan import RolloutPlan
    from fedspeech.rollout.power import Detectable, Forecast
    from fedspeech.rollout.simulation import Outcomes


@dataclass(frozen=True, eq=False)
class RolloutForecast(Printed):
    """What a roll-out could find, before it starts.

    Attributes:
      forecast: of every segment and stage; small segments are merged.
    """

    forecast: Forecast

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        found = self.forecast
        return {
            "plan": found.plan.to_record(),
            "plan_sha256": found.plan.sha256,
            "noise_stddev": found.plan.noise_stddev,
            "merged": dict(found.merged),
            "detectable": [dataclasses.asdict(one) for one in found.detectable],
            "refused": [found.reason(stage) for stage in found.refused],
        }

    def __repr__(self) -> str:
        """Whether it may start."""
        refused = len(self.forecast.refused)
        return f"RolloutForecast({'may start' if not refused else f'{refused} stages refused'})"

    def print(self, console: Console) -> None:
        """Prints the smallest loss of each segment and stage, and what is refused."""
        plan = self.forecast.plan
        console.print(
            f"{plan.phones:,} phones; epsilon {plan.evaluation.epsilon:g} at delta "
            f"{plan.evaluation.delta:g} for all windows; noise of a count: "
            f"{plan.noise_stddev:.0f} clips",
            soft_wrap=True,
        )
        for small, pooled in self.forecast.merged.items():
            console.print(
                f"{small} is too small to stand alone: it is counted in {pooled}", soft_wrap=True
            )
        console.print(_power(self.forecast.detectable))
        for stage in self.forecast.refused:
            console.print(f"refused: {self.forecast.reason(stage)}", soft_wrap=True)


@dataclass(frozen=True, eq=False)
class RolloutReport(Printed):
    """Where a roll-out stands, and why.

    Attributes:
      rollout: its folder and rows.
    """

    rollout: Rollout

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        found = self.rollout
        return {
            "state": found.state,
            "stage": found.stage_number,
            "share": found.share_ppm / 1_000_000,
            "release": dataclasses.asdict(found.release),
            "control": dataclasses.asdict(found.control) if found.control else None,
            "reason": found.reason,
            "head": str(found.head),
            "looks": [dataclasses.asdict(look) for look in found.looks],
        }

    def __repr__(self) -> str:
        """Version, state and share."""
        found = self.rollout
        return (
            f"RolloutReport({found.release.model!r}, {found.release.version}, {found.state}, "
            f"{found.share_ppm / 1_000_000:.0%})"
        )

    def print(self, console: Console) -> None:
        """Prints state and reason, what could be found, and the last look."""
        found = self.rollout
        console.print(
            f"{found.release.model} {found.release.version}: {found.state}, "
            f"{percent(found.share_ppm / 1_000_000)} of the phones. {found.reason}",
            soft_wrap=True,
        )
        if found.looks:
            look = found.looks[-1]
            days = f"days {look.window[0]} to {look.window[1]}"
            console.print(
                f"look {look.number} at {percent(found.plan.stages[look.stage].share)}, {days}: "
                f"{look.decision}"
            )
            rows = [
                (
                    one.segment,
                    "withheld" if one.total is None else f"{one.total:.0f}",
                    _points(one.difference), _points(one.low), _points(one.high),
                    "harmed" if one.harmed else "cleared" if one.cleared else "open",
                )
                for one in look.segments
            ]  # fmt: skip
            header = ("segment", "clips", "change, points", "above", "below", "")
            console.print(table(header, rows, right=header[1:5]))
        else:
            console.print(_power(found.detectable))
        console.print(f"head {found.head}", soft_wrap=True)


@dataclass(frozen=True, eq=False)
class RolloutSimulation(Printed):
    """How simulated roll-outs of an update of known effect ended.

    Attributes:
      plan: that was carried out.
      losses: full name of a segment to the accuracy that the update costs it, as a share.
      outcomes: one per seed.
    """

    plan: RolloutPlan
    losses: Mapping[str, float]
    outcomes: Outcomes

    def record(self) -> dict[str, Any]:
        """Shares of the seeds, and means over them."""
        found = self.outcomes
        later = self.plan.stages[1].share if len(self.plan.stages) > 1 else 1.0
        return {
            "seeds": len(found.served),
            "phones": self.plan.phones,
            "losses": dict(self.losses),
            "reached_everybody": float(found.reached.mean()),
            "rolled_back": float(found.rolled_back.mean()),
            "rolled_back_in_first_stage": float(
                (found.rolled_back & (found.served < later)).mean()
            ),
            "paused": float(found.paused.mean()),
            "mean_share_served": float(found.served.mean()),
            "mean_windows": float(found.looks.mean()),
        }

    def __repr__(self) -> str:
        """How many ended how."""
        found = self.record()
        return (
            f"RolloutSimulation({found['seeds']} seeds, reached {found['reached_everybody']:.0%}, "
            f"rolled back {found['rolled_back']:.0%})"
        )

    def print(self, console: Console) -> None:
        """Prints the shares."""
        found = self.record()
        lost = ", ".join(
            f"{name} loses {100 * loss:g} points" for name, loss in self.losses.items()
        )
        console.print(
            f"{found['seeds']} roll-outs to {found['phones']:,} phones; "
            f"{lost or 'no segment loses anything'}"
        )
        shares = ("reached_everybody", "rolled_back", "rolled_back_in_first_stage", "paused")
        rows = [(name.replace("_", " "), f"{found[name]:.1%}") for name in shares]
        rows.append(("mean share of phones served", f"{found['mean_share_served']:.1%}"))
        rows.append(("mean windows", f"{found['mean_windows']:.1f}"))
        console.print(table(("", "of roll-outs"), rows, right=("of roll-outs",)))


def _power(found: tuple[Detectable, ...]) -> Any:
    """A row per segment, a column per stage: the smallest loss that is found, in points."""
    stages = sorted({one.share for one in found})
    names = list(dict.fromkeys(one.segment for one in found))
    by_place = {(one.segment, one.share): one for one in found}
    rows = [(name, *(_smallest(by_place[name, share]) for share in stages)) for name in names]
    header = ("smallest loss found, points (90 %)", *(f"at {percent(share)}" for share in stages))
    return table(header, rows, right=header[1:])


def _smallest(one: Detectable) -> str:
    if one.smallest is None:
        return "withheld"
    return f"{100 * one.smallest:.1f}" + ("" if one.suffices else f" > {100 * one.margin:g}")


def _points(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.2f}"

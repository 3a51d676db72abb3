"""What a release said: noisy cells with intervals, what is withheld, and at which price."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspeech.errors import ArgumentRefused
from fedspeech.evaluation.metric import Metric, Segment
from fedspeech.files import write_text
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import paragraphs
from fedspeech.queries.estimate import Estimate
from fedspeech.queries.named_metrics import NAMED
from fedspeech.rollout.guardrails import SegmentCounts
from simulations.analytics.plan_file import EVALUATION, WORDS, PlanFile, read_plan
from simulations.console import Console, Printed, table

ANSWER, PAGE, PLAN, TRUTH = (
    "analysis.json", "analysis.html", "plan.toml", "simulation_only/truth.json",
)  # fmt: skip
SCHEMA_VERSION = 1
SIMULATED = (
    "The events are of simulated users, whose scores, false rejects included, are drawn from the "
    "rates of [telemetry] and not from the scenario's model (docs/telemetry.md)."
)
HELD_OUT = "The phones that were asked are those that federate; held-out phones join no round."


@dataclass(frozen=True, kw_only=True)
class EvaluationCounts:
    """Published counts of an evaluation, as guardrails of a roll-out read them.

    Attributes:
      first_day: of the window.
      last_day: of the window, included.
      measure: "accuracy" and the like; of the others `correct` are the clips of the numerator.
      adapter_sha256: of the parameters that phones were sent, hex; of two versions, the new one's.
      old_sha256: of the other version, that of segments "version=old"; "": phones scored one.
      segment_counts: clips of the phones that came, in each segment that is not withheld. A clip
        adds to "correct" or to "wrong"; the noise that is stated is of each of these.
    """

    first_day: int
    last_day: int
    measure: str
    adapter_sha256: str
    segment_counts: tuple[SegmentCounts, ...]
    old_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Analysis(Printed):
    """The folder of one release, and what it says.

        >>> import fedspeech as fs
        >>> found = fs.analyze("wakes-by-device", "false-wake-incident")       # doctest: +SKIP
        >>> found.estimates[0].low <= found.estimates[0].value                 # doctest: +SKIP
        True

    Attributes:
      path: the folder.
      plan: the plan file.
      estimates: one per published or withheld cell, as server and readers see them; a withheld
        one has no numbers, and a remark that names the rule.
      guarantee: both epsilons of this release alone.
      population: both epsilons of everything on the population's ledger, this release included.
      reporting: phones in the last sum.
      evaluation: of an evaluation, the published counts; None: it counts something else.
      noise_notice: that the noise can be drawn again; None: it cannot.
      truth: what the cells are without noise, in the order of `estimates`, each of the counts
        within the bound of a phone; empty where the folder holds none. Nobody outside a simulation
        could know it.
      untruncated: likewise without that bound.
    """

    path: Path
    plan: PlanFile
    estimates: tuple[Estimate, ...]
    guarantee: Guarantee
    population: Guarantee
    reporting: int
    evaluation: EvaluationCounts | None = None
    noise_notice: str | None = None
    truth: tuple[Metric | None, ...] = ()
    untruncated: tuple[Metric | None, ...] = ()

    @property
    def published(self) -> tuple[Estimate, ...]:
        """Cells that are not withheld."""
        return tuple(one for one in self.estimates if one.value is not None)

    @property
    def held(self) -> tuple[int, int]:
        """Of how many published cells the interval holds the truth, and of how many it is known."""
        known = [
            _holds(one, true.value)
            for one, true in zip(self.estimates, self.truth, strict=False)
            if one.low is not None and one.high is not None and true is not None
        ]
        return sum(known), len(known)

    def record(self) -> dict[str, Any]:
        """What server and readers see, as plain data; infinities are the string "Infinity"."""
        return {
            "schema_version": SCHEMA_VERSION,
            "plan": _plain(self.plan.model_dump(mode="json", exclude_none=True)),
            "estimates": [dataclasses.asdict(one) for one in self.estimates],
            "evaluation": self.evaluation and dataclasses.asdict(self.evaluation),
            "reporting": self.reporting,
            "guarantee": self.guarantee.to_record(),
            "population": self.population.to_record(),
            "noise_notice": self.noise_notice,
        }

    def record_of_truth(self) -> dict[str, Any]:
        """What only a simulation knows, as plain data."""
        return {
            "truth": [one and dataclasses.asdict(one) for one in self.truth],
            "untruncated": [one and dataclasses.asdict(one) for one in self.untruncated],
            "held": list(self.held),
        }

    def save(self) -> None:
        """Writes both records; the one for readers holds nothing of the other."""
        if self.truth:
            (self.path / TRUTH).parent.mkdir(exist_ok=True)
            write_text(self.path / TRUTH, json.dumps(self.record_of_truth(), indent=1) + "\n")
        write_text(self.path / ANSWER, json.dumps(self.record(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Analysis:
        """Reads the folder of a release.

        Raises:
          ArgumentRefused: if there is none, or its file is damaged.
        """
        file, truth = path / ANSWER, path / TRUTH
        try:
            found = json.loads(file.read_text("utf-8"))
            told = json.loads(truth.read_text("utf-8")) if truth.is_file() else {}
            if found["schema_version"] != SCHEMA_VERSION:
                raise ValueError(
                    f"schema_version must be {SCHEMA_VERSION}, got {found['schema_version']}"
                )
            return cls(
                path=path,
                plan=read_plan(str(path / PLAN)),
                estimates=tuple(_estimate(one) for one in found["estimates"]),
                guarantee=Guarantee.from_record(found["guarantee"]),
                population=Guarantee.from_record(found["population"]),
                reporting=found["reporting"],
                evaluation=_counts(found["evaluation"]),
                noise_notice=found["noise_notice"],
                truth=tuple(_metric(one) for one in told.get("truth", ())),
                untruncated=tuple(_metric(one) for one in told.get("untruncated", ())),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArgumentRefused(f"{path} holds no release of counts: {error}") from error

    def __repr__(self) -> str:
        """The folder, and how many cells are published."""
        return f"Analysis({str(self.path)!r}, {len(self.published)} of {len(self.estimates)} cells)"

    def print(self, console: Console) -> None:
        """Prints the cells, what is withheld and why, and the price."""
        plan, window = self.plan, self.plan.window
        named = NAMED.get(plan.query)
        of = ", ".join(dict.fromkeys(one.of for one in self.estimates))
        console.print(
            f"{plan.name}, days {window.first_day} to {window.last_day}, {self.reporting:,} phones "
            f"in the sum: {named.title + ', ' + named.unit if named else of}",
            soft_wrap=True,
        )
        columns = ["segment", "cell", "estimate", "95 % interval"]
        if self.truth:
            columns.append("truth, simulation only")
        rows = list(self._rows(named.factor if named else 1.0))
        console.print(table(columns, rows, right=columns[2:]), soft_wrap=True)
        for remark in dict.fromkeys(one.remark for one in self.estimates if one.remark):
            number = sum(one.remark == remark for one in self.estimates)
            console.print(f"{number} of {len(self.estimates)} cells: {remark}", soft_wrap=True)
        if self.truth:
            inside, of_all = self.held
            console.print(
                f"the 95 % interval holds the truth in {inside} of {of_all} published cells "
                "(simulation only)"
            )
        if plan.query == EVALUATION:
            console.print(HELD_OUT)
        elif self.truth and plan.query != WORDS:
            console.print(SIMULATED)
        console.print("This release alone:\n" + paragraphs(self.guarantee))
        if self.population != self.guarantee:
            console.print(
                "Everything on the population's ledger, this release included:\n"
                + paragraphs(self.population)
            )
        if self.noise_notice:
            console.print(self.noise_notice)
        console.print(f"folder: {self.path}, as a page: {PAGE}", soft_wrap=True)

    def _rows(self, factor: float) -> Iterator[list[str]]:
        """One row per cell, its figures times a factor."""

        def shown(value: float | None) -> str:
            return "" if value is None else number(value * factor)

        truth: Sequence[Metric | None] = self.truth or [None] * len(self.estimates)
        for one, true in zip(self.estimates, truth, strict=True):
            row = [", ".join(one.segment) or "all", ", ".join(one.cell) or "all"]
            row += (
                ["withheld", ""]
                if one.value is None
                else [shown(one.value), f"{shown(one.low)} to {shown(one.high)}"]
            )
            yield row + ([shown(None if true is None else true.value)] if self.truth else [])


def _plain(value: Any) -> Any:
    """The same with infinities as words, which JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return "Infinity" if value == math.inf else value


def _holds(estimate: Estimate, true: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= true <= estimate.high


def number(value: float) -> str:
    """A figure with four digits, whole where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _estimate(found: dict[str, Any]) -> Estimate:
    named = {name: tuple(found[name]) for name in ("segment", "cell")}
    return Estimate(**{**found, **named})


def _counts(found: dict[str, Any] | None) -> EvaluationCounts | None:
    if found is None:
        return None
    counts = tuple(SegmentCounts(**one) for one in found["segment_counts"])
    return EvaluationCounts(**{**found, "segment_counts": counts})


def _metric(found: dict[str, Any] | None) -> Metric | None:
    if found is None:
        return None
    segment = found["segment"]
    if segment is not None:
        segment = Segment(**{**segment, "merged": tuple(segment["merged"])})
    return Metric(**{**found, "segment": segment})

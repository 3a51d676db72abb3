"""Two runs side by side: what differs in outcome, in privacy and in settings.

Differences of accuracy carry an interval as if the two runs had been evaluated on independent
phones, which is too wide, never too narrow, where they were evaluated on the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fedspeech.errors import FedspeechError, LedgerDamaged
from fedspeech.evaluation.metric import ACCURACY, Metric
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.phrasing import scientific_up
from simulations.report.phrasing import change, delta, epsilon, value
from simulations.results.run_folder import Results, RunFolder, read
from simulations.results.summary import Summary


@dataclass(frozen=True)
class Difference:
    """One line of a comparison.

    Attributes:
      change: second minus first with its interval, where that means something.
    """

    name: str
    first: str
    second: str
    change: str = ""


@dataclass(frozen=True)
class Comparison:
    """What two runs have to do with each other."""

    first: str
    second: str
    figures: tuple[Difference, ...]
    settings: tuple[Difference, ...]
    warnings: tuple[str, ...]

    def __rich__(self) -> Group:
        """Warnings first, then which run is A and which B, then two tables."""
        parts: list[Text | Table] = [
            Text(f"warning: {warning}", style="bold yellow") for warning in self.warnings
        ]
        # Names of runs differ at their ends, which a narrow window would cut off a column's head.
        parts.append(Text(f"A: {self.first}\nB: {self.second}"))
        parts.append(self._table("figure", self.figures, with_change=True))
        if self.settings:
            parts.append(self._table("setting that differs", self.settings, with_change=False))
        else:
            parts.append(Text("no setting differs"))
        return Group(*parts)

    def _table(self, title: str, lines: tuple[Difference, ...], *, with_change: bool) -> Table:
        """A table; names and values are text, never markup."""
        table = Table(title_justify="left")
        table.add_column(title, overflow="fold")
        for column in ("A", "B", *(("change",) if with_change else ())):
            table.add_column(column, justify="right", overflow="fold")
        for line in lines:
            values = (line.first, line.second, *((line.change,) if with_change else ()))
            table.add_row(Text(line.name), *(Text(value) for value in values))
        return table


def comparison(run_a: Path, run_b: Path) -> Comparison:
    """Compares two run folders; print the result with rich.

    Raises:
      FedspeechError: if one is no run folder, is damaged, or stopped before its summary.
    """
    first, second = read(run_a), read(run_b)
    a, b = _summary(first), _summary(second)
    return Comparison(
        first=first.name,
        second=second.name,
        figures=(*_metrics(a, b), *_privacy(a, b), *_counts(a, b)),
        settings=tuple(_settings(first.settings(), second.settings())),
        warnings=(*_warnings(first, second, a, b), *_ledgers({run_a: a, run_b: b})),
    )


def _summary(results: Results) -> Summary:
    if results.summary is None:
        raise FedspeechError(f"a comparison needs summary.json, and {results.name} has none")
    return results.summary


def _metrics(a: Summary, b: Summary) -> Iterator[Difference]:
    """Every metric of all phones that both runs have under the same name."""
    for section in a.sections:
        others = {_key(metric): metric for metric in b.section(section.key).whole}
        for first in section.whole:
            if second := others.get(_key(first)):
                yield Difference(
                    ", ".join(part for part in (first.whose, first.name) if part),
                    _shown(first),
                    _shown(second),
                    _change(first, second),
                )


def _key(metric: Metric) -> tuple[str, str]:
    return metric.name, metric.whose


def _shown(metric: Metric) -> str:
    """A value with half the width of its interval, or with what chance would give."""
    shown = value(metric.value, metric.unit)
    if metric.by_chance is not None:
        return f"{shown} (chance {value(metric.by_chance, metric.unit)})"
    half = _half_width(metric)
    if half is None:
        return shown
    return f"{shown} ± {100 * half:.1f}" if metric.unit == "share" else f"{shown} ± {half:.3f}"


def _change(first: Metric, second: Metric) -> str:
    shown = change(second.value - first.value, first.unit)
    halves = (_half_width(first), _half_width(second))
    if halves[0] is None or halves[1] is None:
        return shown
    reach = math.hypot(halves[0], halves[1])
    return f"{shown} ± {100 * reach:.1f}" if first.unit == "share" else f"{shown} ± {reach:.3f}"


def _half_width(metric: Metric) -> float | None:
    interval = metric.interval
    return (interval.high - interval.low) / 2 if interval else None


def _privacy(a: Summary, b: Summary) -> Iterator[Difference]:
    for name in ("epsilon_release", "epsilon_server"):
        first, second = getattr(a.guarantee, name), getattr(b.guarantee, name)
        finite = math.isfinite(first) and math.isfinite(second)
        change = f"{second - first:+.2f}".replace("-", "−") if finite else ""
        yield Difference(name, epsilon(first), epsilon(second), change)
    yield Difference("delta", delta(a.guarantee.delta), delta(b.guarantee.delta))


def _counts(a: Summary, b: Summary) -> Iterator[Difference]:
    for name in ("rounds", "phones", "bytes_up", "bytes_down"):
        first, second = int(getattr(a, name)), int(getattr(b, name))
        yield Difference(
            name, f"{first:,}", f"{second:,}", f"{second - first:+,}".replace("-", "−")
        )
    before, after = sum(a.seconds.values()), sum(b.seconds.values())
    if before and after:
        change = f"{after - before:+.0f}".replace("-", "−")
        yield Difference("seconds, all stages", f"{before:.0f}", f"{after:.0f}", change)


def _settings(first: dict[str, Any], second: dict[str, Any]) -> Iterator[Difference]:
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield Difference(name, str(first.get(name, "–")), str(second.get(name, "–")))


def _warnings(first: Results, second: Results, a: Summary, b: Summary) -> Iterator[str]:
    first_facts, second_facts = ({**vars(run), **vars(run.guarantee)} for run in (a, b))
    for name, meaning in (
        ("corpus", "accuracies are of different speakers"),
        ("seed", "a difference may be the luck of the draw"),
        ("unit", "the epsilons protect different things"),
        ("relation_release", "epsilon_release compares different worlds"),
        ("relation_server", "epsilon_server compares different worlds"),
        ("mechanism", "the epsilons trust different parties"),
        ("delta", "epsilons at different delta are not on one scale"),
        ("shots", "personalizing had a different number of examples"),
    ):
        before, after = first_facts[name], second_facts[name]
        if before != after:
            yield f"different {name} ({before} and {after}): {meaning}"
    for results, run in ((first, a), (second, b)):
        if run.status == "partial":
            yield f"{results.name} is partial: {run.rounds} of {run.rounds_planned} rounds"
    phones = [{metric.phones for metric in run.section(ACCURACY).whole} for run in (a, b)]
    if all(phones) and phones[0] != phones[1]:
        counts = " and ".join(_listed(found) for found in phones)
        yield f"evaluated on different numbers of phones ({counts})"


def _listed(phones: set[int | None]) -> str:
    return ", ".join(str(count) for count in phones if count is not None)


def _ledgers(runs: Mapping[Path, Summary]) -> Iterator[str]:
    """What ledgers hold and summaries do not say: other runs' rounds, or another epsilon."""
    charging: dict[Path, dict[str, Summary]] = {}
    for run, summary in runs.items():
        link = RunFolder(run).ledger
        # A link whose ledger is gone fails `exists`, and its run's price would go unsaid.
        if link.exists() or link.is_symlink():
            charging.setdefault(link.resolve(), {})[run.resolve().name] = summary
    for path, summaries in charging.items():
        names = list(summaries)
        try:
            ledger = Ledger.inspect(path)
        except LedgerDamaged as error:
            yield f"what {' and '.join(names)} spent cannot be read from their ledger: {error}"
            continue
        if ledger.runs_charged > 1:
            yield _total(path, names, ledger)
            continue
        for name, summary in summaries.items():
            yield from _contradiction(name, summary, ledger)


def _contradiction(name: str, summary: Summary, ledger: Ledger) -> Iterator[str]:
    """Says so where a run's summary states another price than the ledger of this run alone."""
    spent = ledger.guarantee()
    held = spent.epsilon_release, spent.epsilon_server
    said = summary.guarantee.epsilon_release, summary.guarantee.epsilon_server
    if not all(math.isclose(*pair, rel_tol=1e-9) for pair in zip(held, said, strict=True)):
        yield (
            f"the summary of {name} states {epsilon(said[0])} against readers and "
            f"{epsilon(said[1])} against the server, and its ledger holds {epsilon(held[0])} and "
            f"{epsilon(held[1])}: believe the ledger"
        )


def _total(path: Path, names: list[str], ledger: Ledger) -> str:
    """What the phones of a ledger have spent by now, all runs together."""
    spent = ledger.guarantee()
    who = f"{' and '.join(names)} charge{'s' if len(names) == 1 else ''}"
    return (
        f"{who} the ledger {path.name}, which {ledger.runs_charged} runs share: what its phones "
        f"have spent is its total, {epsilon(spent.epsilon_release)} against readers of the "
        f"published models ({spent.relation_release}) and {epsilon(spent.epsilon_server)} against "
        f"the server ({spent.relation_server}) at delta {scientific_up(spent.delta, 1)}, "
        f"{spent.rounds} rounds in all; the epsilons below are what it held when each run ended"
    )

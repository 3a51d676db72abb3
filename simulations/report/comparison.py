"""Two runs side by side: what differs in outcome, in privacy and in settings.

Differences of accuracy carry an interval as if the two runs had judged independent phones, which is
too wide, never too narrow, where they judged the same ones.
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
from fedspeech.privacy.ledger import Ledger
from simulations.report.figures import MODELS
from simulations.report.headline import right
from simulations.report.phrasing import delta, epsilon, percent, points
from simulations.results.records import Accuracy, Summary
from simulations.results.run_folder import Results, RunFolder, read


@dataclass(frozen=True)
class Difference:
    """One line of a comparison.

    Attributes:
      name: of the figure or setting.
      first: as the first run has it.
      second: as the second run has it.
      change: second minus first with its interval, where that means something.
    """

    name: str
    first: str
    second: str
    change: str = ""


@dataclass(frozen=True)
class Comparison:
    """What two runs have to do with each other.

    Attributes:
      first: name of the first run.
      second: name of the second run.
      figures: outcomes and privacy.
      settings: settings that differ, under dotted names.
      warnings: why the figures may not be comparable.
    """

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

    Args:
      run_a: the run to compare with.
      run_b: the run whose changes are shown.

    Raises:
      FedspeechError: if one is no run folder, is damaged, or stopped before its summary.
    """
    first, second = read(run_a), read(run_b)
    a, b = _summary(first), _summary(second)
    return Comparison(
        first=first.name,
        second=second.name,
        figures=(*_headlines(a, b), *_accuracies(a, b), *_privacy(a, b), *_counts(a, b)),
        settings=tuple(_settings(first.settings(), second.settings())),
        warnings=(*_warnings(first, second, a, b), *_ledgers({run_a: a, run_b: b})),
    )


def _summary(results: Results) -> Summary:
    """The summary that a comparison needs."""
    if results.summary is None:
        raise FedspeechError(f"a comparison needs summary.json, and {results.name} has none")
    return results.summary


def _accuracies(a: Summary, b: Summary) -> Iterator[Difference]:
    """Means and worst deciles that both runs have."""
    for model in MODELS:
        first, second = (getattr(run.accuracy, model, None) for run in (a, b))
        if first is None or second is None:
            continue
        yield Difference(
            f"{model}, {right(a)}", _mean(first), _mean(second), _mean_change(first, second)
        )
        yield Difference(
            f"{model}, worst decile",
            percent(first.worst_decile),
            percent(second.worst_decile),
            points(second.worst_decile - first.worst_decile),
        )
    if a.share_worse and b.share_worse:
        first_share, second_share = a.share_worse.share, b.share_worse.share
        yield Difference(
            "phones worse off",
            f"{percent(first_share)} (chance {percent(a.share_worse.expected_by_chance)})",
            f"{percent(second_share)} (chance {percent(b.share_worse.expected_by_chance)})",
            points(second_share - first_share),
        )


def _headlines(a: Summary, b: Summary) -> Iterator[Difference]:
    """The error of all models where both runs count the same, and what passes for a keyword."""
    if a.headline and b.headline and a.headline.measure == b.headline.measure:
        for model in MODELS:
            before, after = getattr(a.headline, model), getattr(b.headline, model)
            yield Difference(
                f"{model}, {a.headline.measure}",
                percent(before),
                percent(after),
                points(after - before),
            )
    for model in MODELS:
        first, second = (run.operating_points.get(model) for run in (a, b))
        if first and second:
            yield Difference(
                f"{model}, false accepts at its threshold",
                percent(first.false_accepts),
                percent(second.false_accepts),
                points(second.false_accepts - first.false_accepts),
            )


def _privacy(a: Summary, b: Summary) -> Iterator[Difference]:
    """Both epsilons and their delta."""
    for name in ("epsilon_release", "epsilon_server"):
        first, second = getattr(a.guarantee, name), getattr(b.guarantee, name)
        finite = math.isfinite(first) and math.isfinite(second)
        change = f"{second - first:+.2f}".replace("-", "−") if finite else ""
        yield Difference(name, epsilon(first), epsilon(second), change)
    yield Difference("delta", delta(a.guarantee.delta), delta(b.guarantee.delta))


def _counts(a: Summary, b: Summary) -> Iterator[Difference]:
    """Rounds, phones, bytes and time."""
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
    """Settings that only one has or that differ."""
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield Difference(name, str(first.get(name, "–")), str(second.get(name, "–")))


def _warnings(first: Results, second: Results, a: Summary, b: Summary) -> Iterator[str]:
    """Why the figures may not be comparable."""
    first_facts, second_facts = ({**vars(run), **vars(run.guarantee)} for run in (a, b))
    for name, meaning in (
        ("corpus", "accuracies are of different speakers"),
        ("seed", "a difference may be the luck of the draw"),
        ("unit", "the epsilons protect different things"),
        ("relation_release", "epsilon_release compares different worlds"),
        ("relation_server", "epsilon_server compares different worlds"),
        ("mechanism", "the epsilons trust different parties"),
        ("delta", "epsilons at different delta are not on one scale"),
        ("clips_per_word", "personalizing had a different number of clips"),
    ):
        before, after = first_facts[name], second_facts[name]
        if before != after:
            yield f"different {name} ({before} and {after}): {meaning}"
    for results, run in ((first, a), (second, b)):
        if run.status == "partial":
            yield f"{results.name} is partial: {run.rounds} of {run.rounds_planned} rounds"
    if a.accuracy and b.accuracy and a.accuracy.base.phones != b.accuracy.base.phones:
        yield (
            f"judged on different numbers of phones "
            f"({a.accuracy.base.phones} and {b.accuracy.base.phones})"
        )


def _ledgers(runs: Mapping[Path, Summary]) -> Iterator[str]:
    """What ledgers hold and summaries do not say: other runs' rounds, or another epsilon."""
    charging: dict[Path, dict[str, Summary]] = {}
    for run, summary in runs.items():
        link = RunFolder(run).ledger
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
        f"the server ({spent.relation_server}) at delta {spent.delta:.1e}, {spent.rounds} rounds "
        "in all; the epsilons below are what it held when each run ended"
    )


def _mean(accuracy: Accuracy) -> str:
    """A mean with half the width of its interval."""
    half = _half_width(accuracy)
    return percent(accuracy.mean) + (f" ± {100 * half:.1f}" if half is not None else "")


def _mean_change(first: Accuracy, second: Accuracy) -> str:
    """The difference of two means, with its interval if both have one."""
    change = points(second.mean - first.mean)
    halves = (_half_width(first), _half_width(second))
    if halves[0] is None or halves[1] is None:
        return change
    return f"{change} ± {100 * math.hypot(halves[0], halves[1]):.1f}"


def _half_width(accuracy: Accuracy) -> float | None:
    """Half the width of the interval of a mean."""
    interval = accuracy.interval
    return (interval.high - interval.low) / 2 if interval else None

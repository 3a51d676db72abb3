"""What the summary says, as the sentences, rows and cells that the page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedspeech.evaluation.metric import (
    ACCURACY,
    MODELS,
    REGRESSION,
    SHOTS,
    WORST_DECILE,
    Matrix,
    Metric,
    Model,
    Section,
)
from simulations.report import phrasing
from simulations.report.outcome import headline_lines, listening_rows, worse
from simulations.results.summary import Summary

APART = (ACCURACY, REGRESSION, SHOTS)
"""Sections that every task has and that have their own places on the page."""


def findings(summary: Summary) -> dict[str, Any]:
    """Everything of the summary that the page does not take from it as it stands."""
    accuracy, regression = summary.section(ACCURACY), summary.section(REGRESSION)
    return {
        "accuracy": accuracy,
        "headline": list(_headline(accuracy, summary.start)),
        "scale_low": _scale_low(accuracy),
        "verdict": list(_verdict(summary)),
        "tables": [
            metric_table(section)
            for section in summary.sections
            if section.key not in APART and section.whole
        ],
        "worse": metric_table(regression) if regression.whole else None,
        "matrices": [
            (matrix, list(_rows(matrix)))
            for section in summary.sections
            for matrix in section.matrices
        ],
        "texts": [texts for section in summary.sections for texts in section.texts],
        "traffic": list(_traffic(summary)),
        "export_family": list(_family(summary)),
        "listening": list(listening_rows(summary.listening)),
        "per_phone_seconds": _per_phone_seconds(summary),
    }


def metric_table(section: Section) -> dict[str, Any]:
    """Metrics of all phones: a row for each model or variant, a column for each name."""
    rows: dict[str, dict[str, Metric]] = {}
    for metric in section.whole:
        rows.setdefault(metric.whose, {})[metric.name] = metric
    chance = any(metric.by_chance is not None for metric in section.whole)
    phones = len({metric.phones for metric in section.whole}) > 1 or chance
    more = ("expected by chance",) * chance + ("phones",) * phones
    return {
        "title": section.title,
        "says": section.says,
        "visibility": tuple(dict.fromkeys(metric.visibility for metric in section.whole)),
        "header": ("model", *section.names, *more),
        "rows": [
            (whose, *_cells(found, section.names, chance, phones)) for whose, found in rows.items()
        ],
    }


def _cells(
    found: Mapping[str, Metric], names: Sequence[str], chance: bool, phones: bool
) -> Iterator[str]:
    for name in names:
        yield _cell(found[name]) if name in found else "–"
    first = next(iter(found.values()))
    if chance:
        told = first.by_chance is not None and first.counted != 0
        yield phrasing.value(first.by_chance or 0.0, first.unit) if told else "–"
    if phones:
        yield "–" if first.phones is None else str(first.phones)


def _cell(metric: Metric) -> str:
    """A value with its interval; nothing was observed where nothing was counted."""
    if metric.counted == 0:
        return "nothing changed" if metric.by_chance is not None else "–"
    shown = phrasing.value(metric.value, metric.unit)
    if metric.interval is None:
        return shown
    ends = (metric.interval.low, metric.interval.high)
    low, high = (phrasing.value(end, metric.unit).removesuffix(" %") for end in ends)
    return f"{shown} [{low}, {high}]"


def _verdict(summary: Summary) -> Iterator[str]:
    found = summary.section(ACCURACY).by_model()
    if summary.rounds_planned and len(found) < len(MODELS):
        return
    yield from headline_lines(summary)
    if summary.shots and "personalized" in found:
        yield (
            f"Phones personalized from the {summary.start} adapter with {summary.shots} own "
            f"example{'' if summary.shots == 1 else 's'} each (per target word, where words are "
            "spotted); the control did the same with another phone’s."
        )
    if worsened := summary.section(REGRESSION).by_model().get("personalized"):
        yield f"After personalizing {worse(worsened)}."


def _headline(accuracy: Section, start: Model) -> Iterator[dict[str, Any]]:
    """Rows of the accuracies, placed on a common scale; `start`: what phones personalized from."""
    low = _scale_low(accuracy)

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / (100 - low), 2)

    before: dict[Model, Model] = {"federated": "base", "personalized": start, "control": start}
    found, tails = accuracy.by_model(), accuracy.by_model(WORST_DECILE)
    for model, metric in found.items():
        reference = found.get(before[model]) if model in before else None
        interval, worst = metric.interval, tails.get(model)
        row: dict[str, Any] = {
            "interval": "–",
            "span": None,
            "worst": "–",
            "worst_at": None,
            "change": "–",
        }
        if interval:
            ends = place(interval.low), place(interval.high)
            row["interval"] = f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"
            row["span"] = (ends[0], round(ends[1] - ends[0], 2))
        if worst:
            row["worst"], row["worst_at"] = phrasing.percent(worst.value), place(worst.value)
        if reference:
            gain = phrasing.points(metric.value - reference.value)
            row["change"] = f"{gain} on {before[model]}"
        shown = {"mean": phrasing.percent(metric.value), "at": place(metric.value)}
        yield {"model": model, **shown, **row}


def _scale_low(accuracy: Section) -> int:
    """Left end of the headline's scale: a round number under everything shown."""
    shown = [metric.value for metric in accuracy.whole]
    shown += [metric.interval.low for metric in accuracy.whole if metric.interval]
    return max(0, int(100 * min(shown, default=0) // 10) * 10 - 10)


def _rows(found: Matrix) -> Iterator[dict[str, Any]]:
    """Rows of a matrix in per cent; nothing and next to nothing look different."""
    for i, (label, counts) in enumerate(zip(found.labels, found.counts, strict=True)):
        total = sum(counts)
        cells = []
        for j, count in enumerate(counts):
            share = 100 * count / total if total else 0.0
            kind = "zero" if count == 0 else "right" if i == j else "wrong"
            text = "·" if share == 0 else "<1" if share < 1 else f"{share:.0f}"
            heat = round(min(100.0, share if i == j else 2.2 * share))
            cells.append({"text": text, "kind": kind, "heat": heat})
        yield {"label": label, "cells": cells, "clips": f"{total:,}"}


def _traffic(summary: Summary) -> Iterator[tuple[str, str]]:
    if not summary.bytes_up and not summary.bytes_down:
        return
    yield "sent in a round", phrasing.size(summary.bytes_up)
    yield "received in a round", phrasing.size(summary.bytes_down)
    if summary.bytes_once:
        yield "received once, the base", phrasing.size(summary.bytes_once)
    if rounds := summary.guarantee.max_participations:
        total = rounds * (summary.bytes_up + summary.bytes_down) + summary.bytes_once
        yield f"at most, over {rounds} rounds", phrasing.size(total)


def _family(summary: Summary) -> Iterator[tuple[str, str, str, str]]:
    """One row per exported file: name, size, agreement, accuracy lost."""
    for found in summary.export_family:
        yield (
            found.file,
            "refused" if found.size_bytes is None else phrasing.size(found.size_bytes),
            "–" if found.agreement is None else f"{100 * found.agreement:.2f} %",
            "–" if found.accuracy_drop is None else f"{100 * found.accuracy_drop:+.2f}",
        )


def _per_phone_seconds(summary: Summary) -> str:
    seconds, share = summary.cpu_seconds.get("rounds"), summary.participation
    if not (seconds and share and summary.rounds and summary.phones):
        return ""
    each = seconds / (summary.rounds * summary.phones * share)
    return (
        f"The rounds took about {1000 * each:.2g} ms of CPU per phone and round on this machine, "
        "server included; no phone was timed."
    )

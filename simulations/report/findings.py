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
from simulations.report import phrasing, setbacks
from simulations.report.headline import headline_lines
from simulations.report.streaming import listening_rows
from simulations.results.summary import Summary

APART = (ACCURACY, REGRESSION, SHOTS)
"""Sections that every task has and that have their own places on the page."""


def findings(summary: Summary | None) -> dict[str, Any]:
    """Everything that stands in the summary, or nothing of it."""
    accuracy = summary.section(ACCURACY) if summary else Section(key=ACCURACY, title="")
    return {
        "headline": list(_headline(accuracy, summary.start)) if summary and accuracy.whole else [],
        "scale_low": _scale_low(accuracy) if accuracy.whole else 0,
        "verdict": list(_verdict(summary)) if summary else [],
        "headline_note": _headline_note(summary) if summary else "",
        "accuracy_name": accuracy.title,
        "tables": [
            metric_table(section)
            for section in (summary.sections if summary else ())
            if section.key not in APART and section.whole
        ],
        "worse": metric_table(summary.section(REGRESSION))
        if summary and summary.section(REGRESSION).whole
        else None,
        "segments_note": _segments_note(summary) if summary else "",
        "matrices": [
            _matrix(matrix)
            for section in (summary.sections if summary else ())
            for matrix in section.matrices
        ],
        "texts": [
            texts for section in (summary.sections if summary else ()) for texts in section.texts
        ],
        "traffic": list(_traffic(summary)) if summary else [],
        "exported": _exported(summary) if summary else None,
        "export_family": list(_family(summary)) if summary else [],
        "export_refused": summary.export_refused if summary else None,
        "listening": list(listening_rows(summary.listening)) if summary else [],
        "stages": list(_stages(summary)) if summary else [],
        "per_phone_seconds": _per_phone_seconds(summary) if summary else "",
    }


def metric_table(section: Section) -> dict[str, Any]:
    """Metrics of all phones: a row for each model or variant, a column for each name."""
    rows: dict[str, dict[str, Metric]] = {}
    for metric in section.whole:
        rows.setdefault(metric.whose, {})[metric.name] = metric
    chance = any(metric.by_chance is not None for metric in section.whole)
    phones = len({metric.phones for metric in section.whole}) > 1 or chance
    return {
        "title": section.title,
        "says": section.says,
        "visibility": tuple(dict.fromkeys(metric.visibility for metric in section.whole)),
        "header": (
            "model",
            *section.names,
            *(("expected by chance",) if chance else ()),
            *(("phones",) if phones else ()),
        ),
        "rows": [
            tuple(_cells(whose, found, section.names, chance, phones))
            for whose, found in rows.items()
        ],
    }


def _cells(
    whose: str, found: Mapping[str, Metric], names: Sequence[str], chance: bool, phones: bool
) -> Iterator[str]:
    """One row of a table of metrics."""
    yield whose
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
    """The headline in sentences."""
    if len(summary.section(ACCURACY).by_model()) < len(MODELS):
        return
    yield from headline_lines(summary)
    if summary.shots:
        yield (
            f"Phones personalized from the {summary.start} adapter with {summary.shots} own "
            f"example{'' if summary.shots == 1 else 's'} each (per target word, where words are "
            "spotted); the control did the same with another phone’s."
        )
    if worse := summary.section(REGRESSION).by_model().get("personalized"):
        yield f"After personalizing {setbacks.worse(worse)}."


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
        yield {
            "model": model,
            "mean": phrasing.percent(metric.value),
            "worst": phrasing.percent(worst.value) if worst else "–",
            "interval": f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"
            if interval
            else "–",
            "change": f"{phrasing.points(metric.value - reference.value)} on {before[model]}"
            if reference
            else "–",
            "at": place(metric.value),
            "worst_at": place(worst.value) if worst else None,
            "span": (place(interval.low), place(interval.high) - place(interval.low))
            if interval
            else None,
        }


def _scale_low(accuracy: Section) -> int:
    """Left end of the headline's scale: a round number under everything shown."""
    shown = [metric.value for metric in accuracy.whole]
    shown += [metric.interval.low for metric in accuracy.whole if metric.interval]
    return max(0, int(100 * min(shown) // 10) * 10 - 10)


def _headline_note(summary: Summary) -> str:
    """How the headline was measured, and whose adapter it is."""
    accuracy = summary.section(ACCURACY)
    if not accuracy.whole:
        return ""
    chosen = (
        f" Adapter after {summary.adapter_rounds} rounds (chosen by {summary.start_chosen_by})."
        if summary.adapter_rounds is not None
        else ""
    )
    return accuracy.says + chosen


def _segments_note(summary: Summary) -> str:
    """What was merged or withheld."""
    parts = []
    if summary.minimum_segment_phones:
        parts.append(f"Groups under {summary.minimum_segment_phones} phones are merged.")
    for segment, phones in summary.segments_withheld.items():
        parts.append(f"{segment}: {phones} phones in groups too small to show.")
    return " ".join(parts)


def _matrix(found: Matrix) -> dict[str, Any]:
    """The matrix as per cent of each row."""
    rows = []
    for i, (label, counts) in enumerate(zip(found.labels, found.counts, strict=True)):
        total = sum(counts)
        cells = []
        for j, count in enumerate(counts):
            share = 100 * count / total if total else 0.0
            kind = "zero" if count == 0 else "right" if i == j else "wrong"
            heat = round(min(100.0, share if i == j else 2.2 * share))
            cells.append({"text": _whole_percent(share), "kind": kind, "heat": heat})
        rows.append({"label": label, "cells": cells, "clips": f"{total:,}"})
    return {"found": found, "rows": rows}


def _whole_percent(share: float) -> str:
    """Per cent without decimals; nothing and next to nothing look different."""
    if share == 0:
        return "·"
    return "<1" if share < 1 else f"{share:.0f}"


def _traffic(summary: Summary) -> Iterator[tuple[str, str]]:
    """Bytes of one phone."""
    if not summary.bytes_up and not summary.bytes_down:
        return
    yield "sent in a round", phrasing.size(summary.bytes_up)
    yield "received in a round", phrasing.size(summary.bytes_down)
    if summary.bytes_once:
        yield "received once, the base", phrasing.size(summary.bytes_once)
    if quota := summary.guarantee.quota:
        total = quota * (summary.bytes_up + summary.bytes_down) + summary.bytes_once
        yield f"at most, over {quota} rounds", phrasing.size(total)


def _exported(summary: Summary) -> dict[str, Any] | None:
    """The exported file and its parity."""
    found = summary.export
    if found is None:
        return None
    rows = [
        ("size", phrasing.size(found.size_bytes)),
        ("largest logit difference", f"{found.parity_max_abs:.1e}"),
        ("allowed", f"{found.parity_limit:.0e}"),
        ("same answer", phrasing.percent(found.argmax_agreement)),
        ("inputs compared", f"{found.inputs:,}, {found.speech_inputs:,} of them speech"),
    ]
    if found.sha256:
        rows.append(("SHA-256", f"{found.sha256[:16]}…"))
    return {
        "file": found.file,
        "rows": rows,
        "says": "Base and adapter in one file, run by ai-edge-litert and compared with the trained "
        "model. What the phone learns afterwards is not covered by either ε.",
    }


def _family(summary: Summary) -> Iterator[tuple[str, str, str, str]]:
    """One row per exported file: name, size, agreement, accuracy lost."""
    for found in summary.export_family:
        if found.size_bytes is None:
            yield found.file, "refused", "–", "–"
            continue
        yield (
            found.file,
            phrasing.size(found.size_bytes),
            "–" if found.agreement is None else f"{100 * found.agreement:.2f} %",
            "–" if found.accuracy_drop is None else f"{100 * found.accuracy_drop:+.2f}",
        )


def _stages(summary: Summary) -> Iterator[dict[str, Any]]:
    """Seconds by stage, longest bar full."""
    longest = max(summary.seconds.values(), default=0) or 1
    for name, seconds in summary.seconds.items():
        cpu = summary.cpu_seconds.get(name)
        yield {
            "name": name.replace("_", " "),
            "wall": phrasing.duration(seconds),
            "cpu": phrasing.duration(cpu) if cpu is not None else "–",
            "share": round(100 * seconds / longest, 1),
        }


def _per_phone_seconds(summary: Summary) -> str:
    """Compute of one participation, where the figures allow it."""
    seconds, share = summary.cpu_seconds.get("rounds"), summary.participation
    if not (seconds and share and summary.rounds and summary.phones):
        return ""
    each = seconds / (summary.rounds * summary.phones * share)
    return (
        f"The rounds took about {1000 * each:.2g} ms of CPU per phone and round on this machine, "
        "server included; no phone was timed."
    )

"""What the summary says, as the sentences, rows and cells that the page shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulations.report import phrasing, setbacks
from simulations.report.figures import MODELS
from simulations.report.headline import error_rows, headline_lines, right
from simulations.report.streaming import listening_rows
from simulations.results.records import Accuracies, Accuracy, Confusion, Summary


def findings(summary: Summary | None) -> dict[str, Any]:
    """Everything that stands in the summary, or nothing of it."""
    return {
        "headline": list(_headline(summary.accuracy, setbacks.start(summary)))
        if summary and summary.accuracy
        else [],
        "scale_low": _scale_low(summary.accuracy) if summary and summary.accuracy else 0,
        "verdict": list(_verdict(summary)) if summary else [],
        "headline_note": _headline_note(summary) if summary else "",
        "segments_note": _segments_note(summary) if summary else "",
        "worse_rows": list(_worse_rows(summary)) if summary else [],
        "confusion": _confusion(summary.confusion) if summary and summary.confusion else None,
        "error_name": summary.headline.measure if summary and summary.headline else "",
        "accuracy_name": right(summary) if summary else "",
        "errors_by_model": list(error_rows(summary)) if summary else [],
        "operating_points": list(_operating_points(summary)) if summary else [],
        "traffic": list(_traffic(summary)) if summary else [],
        "exported": _exported(summary) if summary else None,
        "export_family": list(_family(summary)) if summary else [],
        "export_refused": summary.export_refused if summary else None,
        "listening": list(listening_rows(summary.listening)) if summary else [],
        "stages": list(_stages(summary)) if summary else [],
        "per_phone_seconds": _per_phone_seconds(summary) if summary else "",
    }


def _verdict(summary: Summary) -> Iterator[str]:
    """The headline in sentences."""
    if not (summary.accuracy and summary.accuracy.control):
        return
    yield from headline_lines(summary)
    clips = summary.clips_per_word
    per = "of each word" if summary.wer is None else "of a sentence each"
    if clips:
        yield (
            f"Phones personalized from the {setbacks.start(summary)} adapter with {clips} own "
            f"clip{'' if clips == 1 else 's'} {per}; the control did the same with another phone’s."
        )
    if summary.share_worse:
        said = setbacks.worse(summary.share_worse)
        yield f"After personalizing {said}."


def _headline(found: Accuracies, start: str) -> Iterator[dict[str, Any]]:
    """Rows of the accuracies, placed on a common scale; `start`: what phones personalized from."""
    low = _scale_low(found)

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / (100 - low), 2)

    before = {"federated": "base", "personalized": start, "control": start}
    for model, accuracy in _models(found).items():
        reference = getattr(found, before[model]) if model in before else None
        interval = accuracy.interval
        yield {
            "model": model,
            "mean": phrasing.percent(accuracy.mean),
            "worst": phrasing.percent(accuracy.worst_decile),
            "interval": f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"
            if interval
            else "–",
            "change": f"{phrasing.points(accuracy.mean - reference.mean)} on {before[model]}"
            if reference
            else "–",
            "at": place(accuracy.mean),
            "worst_at": place(accuracy.worst_decile),
            "span": (place(interval.low), place(interval.high) - place(interval.low))
            if interval
            else None,
        }


def _scale_low(found: Accuracies) -> int:
    """Left end of the headline's scale: a round number under everything shown."""
    shown = [
        min(a.worst_decile, a.interval.low if a.interval else 1) for a in _models(found).values()
    ]
    return max(0, int(100 * min(shown) // 10) * 10 - 10)


def _models(found: Accuracies) -> dict[str, Accuracy]:
    """The accuracies that there are, in order."""
    every = {model: getattr(found, model) for model in MODELS}
    return {model: accuracy for model, accuracy in every.items() if accuracy is not None}


def _headline_note(summary: Summary) -> str:
    """How the headline was measured."""
    if not summary.accuracy:
        return ""
    base = summary.accuracy.base
    method = base.interval.method if base.interval else ""
    chosen = (
        f" Adapter of round {summary.best_round} ({summary.best_chosen_by})."
        if summary.best_round is not None
        else ""
    )
    return (
        f"Mean over {base.phones} phones, each counting once. Dot: mean; bar: "
        f"{'95 % interval' + (f', {method}' if method else '')}; tick: worst decile.{chosen}"
    )


def _segments_note(summary: Summary) -> str:
    """What was merged or withheld."""
    parts = []
    if summary.minimum_segment_phones:
        parts.append(f"Groups under {summary.minimum_segment_phones} phones are merged.")
    for segment, phones in summary.segments_withheld.items():
        parts.append(f"{segment}: {phones} phones in groups too small to show.")
    return " ".join(parts)


def _worse_rows(summary: Summary) -> Iterator[tuple[str, ...]]:
    """Shares of phones made worse, beside chance."""
    for name, worse in (
        ("federated, against the base", summary.share_worse_federated),
        ("personalized, with guard", summary.share_worse),
        ("personalized, without guard", summary.share_worse_without_guard),
        ("control, with guard", summary.share_worse_control),
    ):
        if worse:
            shares = (phrasing.percent(worse.share), phrasing.percent(worse.expected_by_chance))
            yield (
                name,
                *(shares if worse.changed else ("no clip changed", "–")),
                str(worse.phones),
            )


def _confusion(found: Confusion) -> dict[str, Any]:
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
    return {"model": found.model, "labels": found.labels, "rows": rows}


def _whole_percent(share: float) -> str:
    """Per cent without decimals; nothing and next to nothing look different."""
    if share == 0:
        return "·"
    return "<1" if share < 1 else f"{share:.0f}"


def _operating_points(summary: Summary) -> Iterator[tuple[str, ...]]:
    """One row a model: its threshold, what it finds and what it accepts wrongly."""
    for model in MODELS:
        if point := summary.operating_points.get(model):
            yield (
                model,
                phrasing.percent(point.target_words_found),
                phrasing.percent(point.false_accepts),
                f"{point.threshold:.4f}",
            )


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

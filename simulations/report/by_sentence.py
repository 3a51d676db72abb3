"""What the summary says of sentences: error rates, names, examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulations.report import phrasing
from simulations.report.figures import MODELS
from simulations.results.records import Rate, Rates, Summary

HOW = {
    "greedy": "likeliest labels, no search",
    "prior": "beam with the public word prior",
    "prior and list": "and with the phone’s own list",
}


def sentences(summary: Summary | None) -> dict[str, Any] | None:
    """Rows of the tables; None where words are spotted or nothing was judged."""
    if summary is None or summary.wer is None:
        return None
    return {
        "verdict": list(_verdict(summary)),
        "rates": list(_rates(summary)),
        "segments": list(_segments(summary)),
        "searches": [
            (
                HOW[search.how],
                phrasing.percent(search.wer),
                phrasing.percent(search.sentence_accuracy),
                "–" if search.entity_recall is None else phrasing.percent(search.entity_recall),
                f"{search.false_insertion_rate:.3f}",
            )
            for search in summary.searches
        ],
        "judged": f"{summary.searches[0].sentences:,} sentences with {summary.searches[0].names:,} "
        "names of own lists, by personalized adapters."
        if summary.searches
        else "",
        "examples": [
            (example.said, *(getattr(example, model) or "(nothing)" for model in MODELS))
            for example in summary.examples
        ],
    }


def _verdict(summary: Summary) -> Iterator[str]:
    """The headline of sentences, in sentences."""
    wer = summary.wer
    assert wer is not None
    yield (
        f"Of all words said by phones never trained on, {phrasing.percent(wer.base.value)} were "
        f"wrong with the base, {phrasing.percent(wer.federated.value)} after training together, "
        f"{phrasing.percent(wer.personalized.value)} after personalizing, and "
        f"{phrasing.percent(wer.control.value)} after personalizing on another phone’s sentences."
    )
    if weak := summary.wer_from_corrections:
        yield (
            "Without transcripts, from what the phones wrote themselves and their users corrected "
            f"(“no, I said …”), personalizing left {phrasing.percent(weak.value)} of the words "
            "wrong."
        )
    by_how = {search.how: search for search in summary.searches}
    if {"prior", "prior and list"} <= set(by_how):
        before, after = by_how["prior"], by_how["prior and list"]
        if before.entity_recall is not None and after.entity_recall is not None:
            yield (
                f"With its own list a phone wrote {phrasing.percent(after.entity_recall)} of the "
                f"names that were said, without it {phrasing.percent(before.entity_recall)}. It "
                f"wrote a name that was not said {after.false_insertion_rate:.3f} times per "
                f"sentence; without the list, {before.false_insertion_rate:.3f} times."
            )


def _rates(summary: Summary) -> Iterator[tuple[str, ...]]:
    """One row a model: words, characters, whole sentences."""
    for model in MODELS:
        right = getattr(summary.accuracy, model) if summary.accuracy else None
        yield (
            model,
            _rate(summary.wer, model),
            _rate(summary.cer, model),
            phrasing.percent(right.mean) if right else "–",
        )


def _segments(summary: Summary) -> Iterator[tuple[str, ...]]:
    """One row a group: word error rates of the four models."""
    for segment, cells in summary.wer_segments.items():
        for value, rates in sorted(cells.items(), key=lambda cell: -cell[1].base.value):
            found = (phrasing.percent(getattr(rates, model).value) for model in MODELS)
            yield (f"{segment.replace('_', ' ')}: {value}", f"{rates.base.counted:,}", *found)


def _rate(rates: Rates | None, model: str) -> str:
    """A rate with its interval."""
    if rates is None:
        return "–"
    rate: Rate = getattr(rates, model)
    interval = rate.interval
    shown = phrasing.percent(rate.value)
    return shown + (f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else "")

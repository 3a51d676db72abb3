"""The headline of a run, the same for words and sentences: one error of every model."""

from __future__ import annotations

from collections.abc import Iterator

from simulations.report import phrasing
from simulations.report.figures import MODELS
from simulations.results.records import Accuracies, Summary


def headline_lines(summary: Summary) -> Iterator[str]:
    """The headline, then the two accuracies under their two names, then the operating points."""
    if found := summary.headline:
        on = f" ({found.non_words_are}, {found.non_words:,} clips)" if found.non_words else ""
        yield f"{found.measure}{on}: " + _side_by_side(
            {model: getattr(found, model) for model in MODELS}
        )
    if summary.target_accuracy:
        yield "accuracy among target words: " + _side_by_side(_means(summary.target_accuracy))
    if summary.accuracy and summary.accuracy.control:
        yield f"{right(summary)}: " + _side_by_side(_means(summary.accuracy))
    if points := summary.operating_points:
        yield "at the threshold set on guard negatives, target words found / false accepts: " + (
            ", ".join(
                f"{model} {phrasing.percent(points[model].target_words_found)} / "
                f"{phrasing.percent(points[model].false_accepts)}"
                for model in MODELS
            )
        )


def right(summary: Summary) -> str:
    """The name of `Summary.accuracy`."""
    if summary.wer is not None:
        return "sentences right"
    return "accuracy with non-words counted"


def error_rows(summary: Summary) -> Iterator[tuple[str, ...]]:
    """One row a model: the headline's error."""
    if found := summary.headline:
        for model in MODELS:
            yield model, phrasing.percent(getattr(found, model))


def _means(found: Accuracies) -> dict[str, float]:
    """The mean of each model that was judged."""
    every = {model: getattr(found, model) for model in MODELS}
    return {model: accuracy.mean for model, accuracy in every.items() if accuracy}


def _side_by_side(values: dict[str, float]) -> str:
    """Values by model."""
    return ", ".join(f"{model} {phrasing.percent(value)}" for model, value in values.items())

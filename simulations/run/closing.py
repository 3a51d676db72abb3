"""The last lines of a run: what came of it, at which price, and where to look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedspeech.extras import lacking
from fedspeech.models.base import Base
from fedspeech.privacy.phrasing import example_paragraph
from simulations.report.outcome import headline_lines, listening_line, setbacks
from simulations.report.phrasing import collapse, price
from simulations.results.summary import Summary
from tflite_export.needed import extra_of


def no_files(base: Base, at_end: bool) -> str:
    """Why a run on a base ends without files for the phone; "" if it tries them."""
    return lacking(extra_of(base)) if at_end else "export.at_end is false"


def left_out(base: Base, at_end: bool) -> Iterator[str]:
    """Says what a run on a base will not write, by its scenario or because an extra is absent."""
    if why := no_files(base, at_end):
        yield f"No file for the phone will be made: {why}. fedspeech export makes it later."
    if why := lacking("plots"):
        yield f"The report will hold tables and no plots: {why}. fedspeech report adds them later."


def no_round(summary: Summary) -> str:
    """Says that nothing was learned, and why."""
    why = summary.stopped or "every round was abandoned"
    return f"no round ran to its end: {why}. Nothing was learned, and no file was exported"


def closing_words(summary: Summary, report: Path) -> str:
    """The last lines of a run: what came of it, at which price, and where to look."""
    nothing = [] if summary.rounds or not summary.rounds_planned else [no_round(summary)]
    # What became worse comes before every figure, so that the first line never praises a loss.
    lines = [*nothing, *setbacks(summary), *headline_lines(summary)]
    if collapsed := collapse(summary):
        lines.append(collapsed)
    lines += [price(summary.guarantee, "charged"), f"who must be honest: {summary.guarantee.trust}"]
    if summary.examples_hidden:
        lines.append(example_paragraph(summary.examples_hidden))
    if summary.noise_notice:
        lines.append(summary.noise_notice)
    if summary.listening:
        lines.append(listening_line(summary.listening))
    if summary.export:
        base = "" if summary.adapter_rounds else " (the base: nothing that phones trained is in it)"
        lines.append(f"file for the phone: {report.parent / summary.export.file}{base}")
    if summary.export_refused:
        lines.append(f"export refused: {summary.export_refused}")
    if summary.export_skipped:
        lines.append(
            f"no file for the phone: {summary.export_skipped}; afterwards fedspeech export "
            f"{report.parent}"
        )
    if summary.stopped:
        lines.append(f"stopped: {summary.stopped}")
    if summary.status == "partial":
        lines.append(f"to go on: fedspeech resume {report.parent}")
    lines.append(f"report: {report}")
    return "\n".join(lines)

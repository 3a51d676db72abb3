"""The first figures of a run, on the console and on the page: a line for each section."""

from __future__ import annotations

from collections.abc import Iterator

from fedspeech.evaluation.metric import Section
from simulations.report import phrasing
from simulations.results.summary import Summary


def headline_lines(summary: Summary) -> Iterator[str]:
    """The headline metrics of every section, models and variants side by side."""
    for section in summary.sections:
        if line := _line(section):
            yield line


def _line(section: Section) -> str:
    """Metrics of a section by model, several of one model with a stroke between them."""
    found = [metric for metric in section.whole if metric.headline]
    names = dict.fromkeys(metric.name for metric in found)
    values: dict[str, dict[str, str]] = {}
    for metric in found:
        values.setdefault(metric.whose, {})[metric.name] = phrasing.value(metric.value, metric.unit)
    if not found:
        return ""
    on = f" ({section.on})" if section.on else ""
    said = ", ".join(
        f"{whose} {' / '.join(of.get(name, '–') for name in names)}".strip()
        for whose, of in values.items()
    )
    return f"{' / '.join(names)}{on}: {said}"

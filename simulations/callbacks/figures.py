"""The figures of rows and summaries, each with who could see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fedspeech.evaluation.metric import Metric, Section, Visibility
from fedspeech.privacy.guarantee import Guarantee
from simulations.callbacks.callback import Figure
from simulations.results.rows import RoundRow, ServerRound
from simulations.results.summary import VISIBILITY, Summary

# Of public speakers, or moved by bits whose cost is in both epsilons; the rest of what a server
# sees of a round is its own. A published report shows the same (`simulations.results.redaction`).
_PUBLIC_OF_A_ROUND = ("clip_norm", "validation_accuracy", "validation_loss")


def of_round(row: RoundRow) -> tuple[Figure, ...]:
    """Figures of one round.

    What has been charged by then is the server's: where it did not rise, a round was abandoned
    before its phones were asked.
    """
    return tuple(_of_round(row))


def _of_round(row: RoundRow) -> Iterator[Figure]:
    for name in ServerRound.model_fields:
        visibility: Visibility = "public" if name in _PUBLIC_OF_A_ROUND else "server"
        yield from _figures(name, getattr(row.server, name), visibility)
    own = {"seconds": row.seconds, "bytes_up": row.bytes_up, "bytes_down": row.bytes_down}
    own |= {"completed": row.status == "completed"}
    yield from _table("", own, "server")
    yield from _epsilons(row.guarantee, "server")
    yield from _table("", row.simulation_only.model_dump(), "simulation_only")


def of_sections(summary: Summary) -> Iterator[Figure]:
    """Metrics of all phones; those of segments stand in the report."""
    for section in summary.sections:
        for metric in section.whole:
            yield Figure(_name(section, metric), metric.value, metric.visibility)


def of_summary(summary: Summary) -> tuple[Figure, ...]:
    """What was spent, what a phone sends, and how long stages took."""
    return (
        *_epsilons(summary.guarantee, VISIBILITY["guarantee"]),
        *_figures("bytes_up", summary.bytes_up, VISIBILITY["bytes_up"]),
        *_figures("bytes_down", summary.bytes_down, VISIBILITY["bytes_down"]),
        *_figures("rounds", summary.rounds, VISIBILITY["rounds"]),
        *_table("seconds/", summary.seconds, VISIBILITY["seconds"]),
    )


def of_export(summary: Summary) -> tuple[Figure, ...]:
    """Size of each exported file."""
    return tuple(
        Figure(f"export/{file.file}/bytes", float(file.size_bytes), VISIBILITY["export_family"])
        for file in summary.export_family
        if file.size_bytes
    )


def _name(section: Section, metric: Metric) -> str:
    parts = (section.key, metric.name, metric.whose)
    return "/".join(part.replace(" ", "_").replace("/", "_") for part in parts if part)


def _epsilons(guarantee: Guarantee, visibility: Visibility) -> Iterator[Figure]:
    yield from _figures("epsilon_release", guarantee.epsilon_release, visibility)
    yield from _figures("epsilon_server", guarantee.epsilon_server, visibility)


def _table(prefix: str, table: Mapping[str, Any], visibility: Visibility) -> Iterator[Figure]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _table(f"{prefix}{name}/", value, visibility)
        else:
            yield from _figures(f"{prefix}{name}", value, visibility)


def _figures(name: str, value: Any, visibility: Visibility) -> Iterator[Figure]:
    """One figure, unless there is no number or it is not finite."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        yield Figure(name, float(value), visibility)

"""`tuning.html`: the recommendation, the pictures, every setting; from `results.json` alone."""

from __future__ import annotations

from typing import Any

from simulations.report import phrasing
from simulations.report.document import document
from simulations.report.figures import Figure
from simulations.tuning import figures
from simulations.tuning.phrasing import interval
from simulations.tuning.results import Tried, Tuning
from simulations.tuning.trial import HOPELESS_LOSS


def render(found: Tuning) -> str:
    """Returns the page."""
    groups: dict[str, list[Figure]] = {
        "maps": figures.maps(found),
        "fronts": figures.fronts(found),
        "spending": figures.spending(found, found.recommended) if found.recommended else [],
    }
    context: dict[str, Any] = {
        "found": found,
        "title": f"Tuning of {found.scenario}",
        "marks": (),
        "left_out": len(found.tried) - len(figures.shown(found)) if found.mode == "grid" else 0,
        "hopeless_points": f"{100 * HOPELESS_LOSS[found.visibility]:g}",
        "rows": [_row(trial, found) for trial in found.tried],
        "account": found.chosen,
        "guarantee": found.chosen.guarantee if found.chosen else None,
        "rounds_are": "planned",
        **groups,
    }
    return document("tuning.html", [one for group in groups.values() for one in group], context)


def _row(trial: Tried, found: Tuning) -> tuple[str, ...]:
    notes = []
    if found.recommended and trial.number == found.recommended.number:
        notes.append("recommended")
    if found.recommended and trial.number in found.recommended.unresolved:
        notes.append("not told from it")
    if trial.stopped:
        notes.append(f"stopped after {max(trial.curve, default=0)} rounds: {trial.stopped}")
    if not trial.within_budget:
        notes.append("beyond the budget")
    worst, against = trial.worst_segment, trial.against_best
    return (
        str(trial.number + 1),
        "; ".join(notes),
        f"{trial.clip_norm:g}",
        f"{trial.noise_multiplier:g}",
        f"{trial.server_learning_rate:g}",
        str(trial.local_epochs),
        interval(trial.accuracy),
        f"{phrasing.points(against.mean)} "
        f"[{phrasing.points(against.low)}, {phrasing.points(against.high)}]"
        if against
        else "–",
        f"{phrasing.percent(worst.accuracy)} ({worst.segment}: {worst.value}, {worst.phones})"
        if worst
        else "–",
        phrasing.epsilon(trial.guarantee.epsilon_release),
        phrasing.epsilon(trial.guarantee.epsilon_server),
        "–" if trial.signal_to_noise is None else f"{trial.signal_to_noise:.3g}",
    )

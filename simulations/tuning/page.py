"""`tuning.html`: the recommendation, the pictures, every setting; from `results.json` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulations.report import phrasing
from simulations.report.document import document, promise_context
from simulations.report.figures import Figure
from simulations.tuning import figures
from simulations.tuning.phrasing import interval
from simulations.tuning.results import Tried, Tuning
from simulations.tuning.trial import HOPELESS_LOSS

HEADER = (
    "trial", "", "clip norm", "noise multiplier", "server rate", "epochs", "accuracy",
    "from the best, points", "worst segment", "ε release", "ε server", "signal to noise",
)  # fmt: skip


def render(found: Tuning) -> str:
    """Returns the page."""
    chosen = found.chosen
    groups: dict[str, list[Figure]] = {
        "maps": figures.maps(found),
        "fronts": figures.fronts(found),
        "spending": figures.spending(found, found.recommended) if found.recommended else [],
    }
    context: dict[str, Any] = {
        "mode": found.mode,
        "title": f"Tuning of {found.scenario}",
        "lede": _lede(found),
        "visibility": found.visibility,
        "short": found.short,
        "paragraphs": found.words,
        "marks": (),
        "rate_rule": found.rate_rule,
        "slice": _slice(found),
        "method": _method(found),
        "deltas": phrasing.delta(found.tried[0].guarantee.delta),
        "rounds": found.rounds,
        "header": HEADER,
        "rows": [_row(trial, found) for trial in found.tried],
        "facts": list(_facts(found)),
        "asked": tuple(found.settings.items()),
        "guarantee": None,
        **groups,
        **(promise_context(chosen.account(), "planned") if chosen else {}),
    }
    return document("tuning.html", [one for group in groups.values() for one in group], context)


def _lede(found: Tuning) -> str:
    what = "held-out phones" if found.visibility == "simulation_only" else "public speakers"
    return (
        f"{found.corpus} · {found.phones:,} phones train · {found.rounds} rounds a trial · "
        f"{len(found.tried)} settings · evaluated on {found.members} {what} over {found.seeds_said}"
    )


def _slice(found: Tuning) -> str:
    """What of the search a map leaves out."""
    left_out = len(found.tried) - len(figures.shown(found))
    if found.mode != "grid" or not left_out:
        return ""
    return (
        "Shown at the recommended server learning rate and number of local epochs; the other "
        f"{left_out} settings are in the table."
    )


def _method(found: Tuning) -> str:
    if len(found.seeds) > 1:
        return "bootstrap over seeds and, within them, phones."
    return "bootstrap over phones; one seed, so the luck of its noise and cohorts is not in them."


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


def _facts(found: Tuning) -> Iterator[tuple[str, str]]:
    yield "Seeds", ", ".join(map(str, found.seeds))
    if found.population == "charged":
        yield "Population", "private; every trial's rounds were charged to its ledger"
        yield "Luck", "fresh coins and fresh noise in every trial: composition counts on them"
    else:
        yield "Population", f"{found.population}; trials cost no privacy"
        yield (
            "Luck",
            "trials of a seed share speakers, cohorts and noise keys, so that they differ in "
            "their settings alone",
        )
        yield "Sums", "taken as a simulated ideal sum: the same bits as the masked protocol, faster"
    yield (
        "Early stops",
        f"a trial {100 * HOPELESS_LOSS[found.visibility]:g} points below the base at half its "
        "rounds, or later, is hopeless"
        + (
            "; so is one then in the lowest quarter of finished trials that are at least as private"
            if found.mode == "pareto"
            else ""
        ),
    )
    yield (
        "Time",
        f"{phrasing.duration(found.seconds)}, {phrasing.duration(found.cpu_seconds)} of CPU",
    )

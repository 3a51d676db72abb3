"""`audit.html`: the matrix, the curves, every attack; from `attacks.json` alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fedspeech.audits.transcript import Observer
from fedspeech.evaluation.metric import Metric
from simulations.audits.curves import success
from simulations.audits.judge import beats_chance
from simulations.audits.results import AttackCurve, Attacked, Cell, Promise
from simulations.audits.views import PROTECTIONS, Protection
from simulations.report import phrasing
from simulations.report.document import document
from simulations.report.figures import Column, Figure, figure, numbers, share

OBSERVERS: dict[Observer, str] = {
    "server": "the server", "reader": "readers of the models",
    "cohort_member": "a member of the cohorts",
    "recipient": "who gets a personalized adapter",
}  # fmt: skip
SECRETS = {
    "speaker": "whose contribution it is", "link": "whether two contributions are of one phone",
    "membership": "whether a person took part", "clip": "whether a clip was trained on",
    "phrase": "which phrase was spoken", "age_band": "age band", "noise": "noise of the room",
}  # fmt: skip
_ROLES = ("federated", "personalized", "control", "base")
NOT_PRIVATE = (
    "An attack that succeeded proves a leak, to this observer, by these means. An attack that did "
    "not proves nothing: others may. That no attack tried succeeded is not privacy; what is "
    "promised rests on the argument behind epsilon, and where epsilon is infinite on nothing."
)


def render(found: Attacked) -> str:
    """Returns the page."""
    figures = [one for curve in found.curves for one in _figure(curve)]
    context: dict[str, Any] = {
        "title": f"Audit of {found.scenario}",
        "found": found,
        "not_private": NOT_PRIVATE,
        "broken": found.broken,
        "bounds": [
            (
                one.observer, one.game, one.relation, phrasing.epsilon(one.claimed),
                f"{one.at_least:.3f}", "DISPROVEN" if one.broken else "stands",
            )
            for one in found.bounds
        ],
        "in_short": list(in_short(found)),
        "header": ("", *PROTECTIONS),
        "groups": [
            (name, list(_rows(found, observer))) for observer, name in OBSERVERS.items()
        ],
        "curves": [
            (curve, _figure(curve), list(where_at_chance(curve))) for curve in found.curves
        ],
        "attacks": list(_attacks(found)),
        "knowledge": list(dict.fromkeys(
            (SECRETS.get(cell.secret, cell.secret), cell.attack, cell.knowledge)
            for cell in found.cells
        )),
        "traffic": [
            (one.kind, one.way, f"{one.messages:,}", f"{one.smallest:,}", f"{one.largest:,}")
            for one in found.traffic
        ],
    }  # fmt: skip
    return document("audit.html", figures, context)


def best(found: Attacked, observer: Observer, secret: str, protection: Protection) -> Cell | None:
    """The most successful attack on one secret in one view; one without figures if none has any."""
    cells = [
        cell for cell in found.cells
        if cell.observer == observer and cell.secret == secret and protection in cell.protections
    ]  # fmt: skip
    scored = [cell for cell in cells if cell.metrics]
    if scored:
        return max(scored, key=lambda cell: (cell.succeeded, success(cell.metrics[0])))
    return cells[0] if cells else None


def in_short(found: Attacked) -> Iterator[str]:
    """What was found, before anything has to be scrolled."""
    for protection in PROTECTIONS:
        learned = [
            f"{SECRETS.get(secret, secret)} (by {name})"
            for observer, name in OBSERVERS.items()
            for secret in secrets(found)
            if (cell := best(found, observer, secret, protection)) and cell.succeeded
        ]
        cells = [cell for cell in found.cells if protection in cell.protections]
        if cells:
            under = "Under nothing" if protection == "nothing" else f"Under {protection}"
            # An attack that had nothing to work on did not fail: it says nothing at all.
            tried = "no attack tried was better than chance"
            if not any(cell.metrics for cell in cells):
                tried = "none of these attacks could be tried"
            said = "; ".join(learned) or tried
            yield f"{under}: {said}."


def secrets(found: Attacked) -> tuple[str, ...]:
    """The secrets that were attacked, in the order of tables."""
    return tuple(dict.fromkeys(cell.secret for cell in found.cells))


def _rows(found: Attacked, observer: Observer) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Rows of the matrix for one observer: name and, for each protection, figure, note, kind."""
    for secret in secrets(found):
        cells = [best(found, observer, secret, protection) for protection in PROTECTIONS]
        if any(cells):
            yield phrasing.capital(SECRETS.get(secret, secret)), [_shown(cell) for cell in cells]
    promises = [_promise(found, observer, protection) for protection in PROTECTIONS]
    yield (
        "ε promised",
        [
            ("–", "", "") if one is None else (phrasing.epsilon(one.epsilon), "", "promise")
            for one in promises
        ],
    )
    yield (
        "accuracy of the model",
        [
            ("–", "", "") if one is None else (phrasing.percent(one.accuracy), "", "promise")
            for one in promises
        ],
    )


def _shown(cell: Cell | None) -> tuple[str, str, str]:
    """Figure, note and kind of one place of the matrix."""
    if cell is None:
        return "–", "not attacked", ""
    if not cell.metrics:
        return "–", cell.unasked, ""
    kind = "learned" if cell.succeeded else "chance"
    verdict = "learned" if cell.succeeded else "not told from chance"
    return written(cell.metrics[0]), f"{verdict}; {cell.attack}", kind


def written(metric: Metric) -> str:
    """A figure with its interval and what chance gives."""
    value = phrasing.value(metric.value, metric.unit)
    found = metric.interval
    within = (
        f" [{phrasing.value(found.low, metric.unit)}, {phrasing.value(found.high, metric.unit)}]"
        if found
        else ""
    )
    chance = "" if metric.by_chance is None else (
        f", chance {phrasing.value(metric.by_chance, metric.unit)}"
    )  # fmt: skip
    return f"{metric.name} {value}{within}{chance}"


def _promise(found: Attacked, observer: Observer, protection: Protection) -> Promise | None:
    return next(
        (
            one for one in found.promises
            if one.observer == observer and one.protection == protection
        ),
        None,
    )  # fmt: skip


def _attacks(found: Attacked) -> Iterator[tuple[str, ...]]:
    for cell in found.cells:
        figures = "; ".join(written(metric) for metric in cell.metrics) or cell.unasked
        yield (
            SECRETS.get(cell.secret, cell.secret), cell.attack, OBSERVERS[cell.observer],
            " and ".join(cell.protections), "learned" if cell.succeeded else "–",
            figures if cell.shown is None else f"{figures}; {cell.shown.says}",
        )  # fmt: skip


def where_at_chance(curve: AttackCurve) -> Iterator[str]:
    """For each attack of a curve: from which setting on it is not told from chance, at what cost.

    Settings are in order of the curve; an attack that never gets there, or leaves again, says so.
    """
    for name in dict.fromkeys(name for point in curve.points for name in point.figures):
        points = [point for point in curve.points if name in point.figures]
        learned = [beats_chance(point.figures[name]) for point in points]
        if curve.key in ("rounds", "adapters"):
            first = next((point for point, did in zip(points, learned, strict=True) if did), None)
            if first is not None:
                yield f"{name}: better than chance from {first.x:,.0f} {curve.x} on."
            else:
                yield f"{name}: not told from chance."
            continue
        if not learned or not any(learned):
            yield f"{name}: not told from chance at any setting shown."
        elif learned[-1]:
            yield f"{name}: still better than chance at {points[-1].x:g} {curve.x}."
        else:
            last = max(place for place, did in enumerate(learned) if did)
            point = points[last + 1]
            cost = "" if point.accuracy is None or point.epsilon is None else (
                f": there accuracy is {phrasing.percent(point.accuracy)}, "
                f"against {phrasing.percent(points[0].accuracy or 0.0)} without noise, and readers "
                f"are promised ε = {phrasing.epsilon(point.epsilon)}"
            )  # fmt: skip
            yield f"{name}: not told from chance from {point.x:g} {curve.x} on{cost}."


def _figure(curve: AttackCurve) -> list[Figure]:
    """Success of each attack over a setting: 0 is chance, 100 % certainty."""
    names = list(dict.fromkeys(name for point in curve.points for name in point.figures))
    columns: list[Column] = [numbers(curve.x, [point.x for point in curve.points])]
    for name, role in zip(names, _ROLES, strict=False):
        values = [
            success(point.figures[name]) if name in point.figures else None
            for point in curve.points
        ]
        columns.append(share(name, values, role))
    columns += [Column(f"{name}: figure", _written(curve, name)) for name in names]
    if any(point.accuracy is not None for point in curve.points):
        columns.append(share("accuracy", [point.accuracy for point in curve.points]))
    if any(point.epsilon is not None for point in curve.points):
        columns.append(
            Column("ε of readers", [point.epsilon for point in curve.points], phrasing.epsilon)
        )
    return figure(
        f"attack-{curve.key}", curve.title, curve.says, columns,
        visibility=("simulation_only",), y_title="success: 0 is chance, 100 % certainty",
        x_title=curve.x, rule_at=0.0, rule_name="chance",
    )  # fmt: skip


def _written(curve: AttackCurve, name: str) -> Sequence[str | None]:
    return [
        written(point.figures[name]) if name in point.figures else None for point in curve.points
    ]

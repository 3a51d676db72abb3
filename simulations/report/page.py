"""From results to one offline HTML page: what stands where, and in which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fedspeech.evaluation.metric import ACCURACY, SHOTS
from fedspeech.privacy.phrasing import example_paragraph
from simulations.report import by_round, by_segment, by_time, phrasing
from simulations.report.by_phone import single_phones
from simulations.report.document import capital, document, promise_context, sentence
from simulations.report.figures import Figure, chart
from simulations.report.findings import findings
from simulations.report.headline import headline_lines
from simulations.report.setbacks import setbacks
from simulations.results.account import Account
from simulations.results.redaction import LEFT_OUT
from simulations.results.run_folder import Results
from simulations.results.summary import Summary

MARKS = (("base", "○"), ("federated", "●"), ("personalized", "◆"), ("control", "✕"))


def render(results: Results, *, for_publication: bool) -> str:
    """Returns the page.

    Args:
      results: of a run; already without the operator's part if it is to be published.
      for_publication: whether to leave out the operator's section and say what is missing.
    """
    summary = results.summary
    account = _account(results)
    figures = {
        "by_round": by_round.progress(results),
        "by_time": by_time.virtual_time(results),
        "operator": [] if for_publication else by_round.operator(results),
        "by_segment": by_segment.segments(summary) if summary else [],
        **(_charts(summary) if summary else {"by_phone": [], "shots": [], "charts": []}),
    }
    context: dict[str, Any] = {
        "glossary": phrasing.GLOSSARY,
        "marks": MARKS,
        "title": summary.scenario if summary else results.settings().get("name", results.name),
        "lede": _lede(results),
        "date": results.environment.started_on if results.environment else "",
        "in_short": list(_in_short(results)),
        "notices": list(_notices(results)),
        "guarantee": None,
        "example_level": example_paragraph(summary.examples_hidden)
        if summary and summary.examples_hidden
        else "",
        "held_out_note": phrasing.HELD_OUT if _recorded(results) else "",
        "left_out": LEFT_OUT if for_publication else (),
        "incidents": () if for_publication else _incidents(results),
        "rounds_note": _rounds_note(results),
        "time_note": by_time.note(results),
        "facts": list(_facts(results)),
        "command": summary.command if summary else "",
        "scenario": results.scenario,
        "versions": tuple(results.environment.versions.items()) if results.environment else (),
        **figures,
        **(promise_context(account, "charged") if account else {}),
        **findings(summary),
    }
    return document("page.html", [one for group in figures.values() for one in group], context)


def _charts(summary: Summary) -> dict[str, list[Figure]]:
    """Charts of all sections, by their place on the page."""
    places: dict[str, list[Figure]] = {"by_phone": [], "shots": [], "charts": []}
    for section in summary.sections:
        for index, found in enumerate(section.charts):
            key = f"{section.key}-{index}"
            if found.single_phones:
                places["by_phone"] += single_phones(key, found)
            elif drawn := chart(key, found):
                places[SHOTS if section.key == SHOTS else "charts"].append(drawn)
    return places


def _account(results: Results) -> Account | None:
    """The account at the end of the run: the summary's, else the last row's."""
    if results.summary:
        return results.summary.account()
    return results.rows[-1].account() if results.rows else None


def _recorded(results: Results) -> bool:
    """Whether those who were judged may be real people."""
    return "corpus.path" in results.settings()


def _lede(results: Results) -> str:
    """One line under the title."""
    summary = results.summary
    if summary is None:
        return "A run that stopped before it wrote its summary."
    parts = [
        summary.corpus,
        f"{summary.phones:,} phones",
        f"{summary.rounds} of {summary.rounds_planned} rounds",
    ]
    if summary.adapter:
        size = f", {summary.parameters:,} parameters" if summary.parameters else ""
        parts.append(f"adapter {summary.adapter}{size}")
    if judged := summary.section(ACCURACY).by_model():
        parts.append(f"evaluated on {judged['base'].phones} held-out phones")
    return " · ".join(parts)


def _in_short(results: Results) -> Iterator[str]:
    """What a reader came for, before anything has to be scrolled: the error and the price."""
    summary, account = results.summary, _account(results)
    if summary and (first := next(headline_lines(summary), None)):
        yield f"{capital(first)}."
    if account and account.guarantee.mechanism != "none":
        guarantee = account.guarantee
        yield (
            f"ε = {phrasing.epsilon(guarantee.epsilon_release)} against readers of the published "
            f"models, {phrasing.epsilon(guarantee.epsilon_server)} against the server, for one "
            f"{guarantee.unit}."
        )


def _notices(results: Results) -> Iterator[dict[str, str]]:
    """What a reader must know before any figure."""
    summary = results.summary
    if summary is None:
        rows = len(results.rows)
        yield {
            "title": "A partial run.",
            "text": f"It stopped before its summary was written. What follows is what its {rows} "
            f"recorded round{'' if rows == 1 else 's'} tell.",
        }
    elif summary.status == "partial":
        why = f": {summary.stopped}" if summary.stopped else ""
        yield {
            "title": "A partial run.",
            "text": f"It stopped after {summary.rounds} of {summary.rounds_planned} rounds{why}. "
            "The promise below covers what was done; figures it did not reach are missing.",
        }
    elif summary.stopped:
        yield {"title": "Stopped early.", "text": f"{sentence(summary.stopped)}"}
    for setback in setbacks(summary) if summary else ():
        title, _, text = setback.partition(": ")
        yield {"title": f"{title}.", "text": capital(text) if text else ""}
    if summary and (collapsed := phrasing.collapse(summary)):
        title, _, text = collapsed.partition(": ")
        yield {"title": f"{title}.", "text": capital(text)}
    if results.torn:
        yield {
            "title": "A torn line.",
            "text": "The last line of metrics.jsonl was cut short, and is left out.",
        }


def _incidents(results: Results) -> tuple[tuple[str, str, str], ...]:
    """Rounds that did not complete."""
    return tuple(
        (
            str(row.round),
            row.status,
            row.reason or "–",
        )
        for row in results.rows
        if row.status != "completed"
    )


def _rounds_note(results: Results) -> str:
    """How many rounds came to nothing."""
    counts = Counter(row.status for row in results.rows)
    note = f"{counts['completed']} rounds completed"
    if counts["refused"]:
        note += f", {counts['refused']} refused before any message left"
    if counts["abandoned"]:
        note += f", {counts['abandoned']} abandoned; a round is charged, whatever becomes of it, "
        note += "once its phones are asked for updates"
    return note + "."


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    """Seed and machine."""
    summary, environment = results.summary, results.environment
    if summary and summary.seed is not None:
        yield "Seed", str(summary.seed)
    if summary and summary.voices:
        yield "Population", phrasing.drawn(summary.phones, summary.voices)
    if summary and summary.participation is not None:
        expected = summary.participation * summary.phones
        yield (
            "Participation",
            f"q = {summary.participation:g}: about {expected:,.0f} of {summary.phones:,} phones",
        )
    if environment:
        threads = environment.torch_threads
        computing = f"; torch threads: {threads}" if threads else ""
        yield "Machine", f"{environment.cpu}, {environment.cores} cores{computing}"
        yield "System", f"{environment.platform}, Python {environment.python}"


def _completed(results: Results) -> int:
    """Rounds that completed."""
    return sum(row.status == "completed" for row in results.rows)

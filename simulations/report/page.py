"""From results to one offline HTML page: what stands where, and in which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fedspeech.evaluation.metric import SHOTS
from fedspeech.privacy.phrasing import example_paragraph
from simulations.report import by_round, phrasing
from simulations.report.by_phone import segments, single_phones
from simulations.report.document import document
from simulations.report.figures import MOST_NUMBERS, Figure, chart, thinned
from simulations.report.findings import findings
from simulations.report.outcome import headline_lines, setbacks
from simulations.results.account import Account
from simulations.results.redaction import LEFT_OUT
from simulations.results.run_folder import Results
from simulations.results.summary import Summary

MARKS = (("base", "○"), ("federated", "●"), ("personalized", "◆"), ("control", "✕"))


def render(results: Results, *, for_publication: bool, most_numbers: int = MOST_NUMBERS) -> str:
    """Returns the page; `results` are without the operator's part already if it is published.

    Charts of such a page have at most so many numbers.
    """
    summary, account = results.summary, _account(results)
    figures: dict[str, list[Figure]] = {
        "by_round": by_round.progress(results),
        "by_time": by_round.virtual_time(results),
        "operator": [] if for_publication else by_round.operator(results),
        "by_segment": segments(summary) if summary else [],
        **_charts(summary),
    }
    context: dict[str, Any] = {
        "summary": summary,
        "environment": results.environment,
        "marks": MARKS,
        "title": summary.scenario if summary else results.settings().get("name", results.name),
        "in_short": list(_in_short(results)),
        "notices": list(_notices(results)),
        "account": account,
        "guarantee": account.guarantee if account else None,
        "rounds_are": "charged",
        "example_level": example_paragraph(summary.examples_hidden)
        if summary and summary.examples_hidden
        else "",
        # Whether those who were judged may be real people.
        "recorded": "corpus.path" in results.settings(),
        "left_out": LEFT_OUT if for_publication else (),
        "incidents": [
            (str(row.round), row.status, row.reason or "–")
            for row in results.rows
            if row.status != "completed" and not for_publication
        ],
        "rounds": Counter(row.status for row in results.rows),
        "scenario": results.scenario,
        "phone_policy": phrasing.policy(results.settings()),
        **figures,
        **(findings(summary) if summary else {}),
    }
    drawn = [one for group in figures.values() for one in group]
    if for_publication:
        drawn = [thinned(one, most_numbers) for one in drawn]
    return document("page.html", drawn, context)


def _charts(summary: Summary | None) -> dict[str, list[Figure]]:
    """Charts of all sections, by their place on the page."""
    places: dict[str, list[Figure]] = {"by_phone": [], "shots": [], "charts": []}
    for section in summary.sections if summary else ():
        for index, found in enumerate(section.charts):
            key = f"{section.key}-{index}"
            if found.single_phones:
                places["by_phone"] += single_phones(key, found)
            elif drawn := chart(key, found):
                places[SHOTS if section.key == SHOTS else "charts"].append(drawn)
    return places


def _account(results: Results) -> Account | None:
    """The account at the end of the run: the summary's, else the last row's."""
    whole = results.summary or next(reversed(results.rows), None)
    return whole.account() if whole else None


def _in_short(results: Results) -> Iterator[str]:
    """What a reader came for, before anything has to be scrolled: the error and the price."""
    summary, account = results.summary, _account(results)
    if summary and (first := next(headline_lines(summary), None)):
        yield f"{phrasing.capital(first)}."
    if account and account.guarantee.mechanism != "none":
        guarantee = account.guarantee
        yield (
            f"ε = {phrasing.epsilon(guarantee.epsilon_release)} against readers of the published "
            f"models, {phrasing.epsilon(guarantee.epsilon_server)} against the server, for one "
            f"{guarantee.unit}."
        )


def _notices(results: Results) -> Iterator[tuple[str, str]]:
    """What a reader must know before any figure: a title and a text."""
    summary = results.summary
    if summary is None:
        rows = len(results.rows)
        yield (
            "A partial run.",
            f"It stopped before its summary was written. What follows is what its {rows} recorded "
            f"round{'' if rows == 1 else 's'} tell.",
        )
    elif summary.status == "partial":
        why = f": {summary.stopped}" if summary.stopped else ""
        yield (
            "A partial run.",
            f"It stopped after {summary.rounds} of {summary.rounds_planned} rounds{why}. The "
            "promise below covers what was done; figures it did not reach are missing.",
        )
    elif summary.stopped:
        yield "Stopped early.", phrasing.sentence(summary.stopped)
    if summary and summary.unit_note:
        yield "The privacy unit is no person.", phrasing.sentence(summary.unit_note)
    collapsed = phrasing.collapse(summary) if summary else ""
    for said in (*setbacks(summary), *filter(None, [collapsed])) if summary else ():
        title, _, text = said.partition(": ")
        yield phrasing.sentence(title), phrasing.capital(text)
    if results.torn:
        yield (
            "A torn line.",
            "The last line of metrics.jsonl was cut short, and is left out.",
        )

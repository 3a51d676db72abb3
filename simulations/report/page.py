"""From results to one offline HTML page: what stands where, and in which words.

The page loads nothing. Its Content-Security-Policy allows exactly the two scripts that it carries,
by their SHA-256, so that a name in the data can never become a script.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from simulations.report import by_phone, by_round, by_segment, words
from simulations.report.findings import findings
from simulations.report.published import LEFT_OUT
from simulations.results import Guarantee, Results

MARKS = (("base", "○"), ("federated", "●"), ("personalised", "◆"), ("control", "✕"))
MODE_WORDS = {
    "distributed": "every phone adds its share of discrete Gaussian noise before the sum",
    "skellam": "every phone adds its share of Skellam noise before the sum",
    "central": "the server adds Gaussian noise to the sum; until then it sees the exact one",
    "local": "every phone adds the whole noise to its own update",
    "none": "none",
}


def render(results: Results, *, for_publication: bool) -> str:
    """Returns the page.

    Args:
      results: of a run; already without the operator's part if it is to be published.
      for_publication: whether to leave out the operator's section and say what is missing.
    """
    summary = results.summary
    guarantee = _guarantee(results)
    figures = {
        "by_round": by_round.progress(results),
        "operator": [] if for_publication else by_round.operator(results),
        "by_segment": by_segment.segments(summary) if summary else [],
        "by_phone": by_phone.distribution(summary) if summary else [],
        "take_figures": by_phone.takes(summary) if summary else [],
        "detection": by_phone.detection(summary) if summary else [],
    }
    plots = [asdict(figure) for group in figures.values() for figure in group]
    plotly, script = (_in_script(text) for text in (get_plotlyjs(), _file("report.js")))
    context: dict[str, Any] = {
        "policy": _policy(plotly, script),
        "css": Markup(_file("report.css")),
        "plotly": Markup(plotly),
        "script": Markup(script),
        "figures": [
            {key: plot[key] for key in ("key", "height", "traces", "layout")} for plot in plots
        ],
        "eye_names": words.EYE_NAMES,
        "eye_words": words.EYE_WORDS,
        "glossary": words.GLOSSARY,
        "marks": MARKS,
        "title": summary.scenario if summary else results.settings().get("name", results.name),
        "lede": _lede(results),
        "notices": list(_notices(results)),
        "guarantee": guarantee,
        "left_out": LEFT_OUT if for_publication else (),
        "incidents": () if for_publication else _incidents(results),
        "rounds_note": _rounds_note(results),
        "facts": list(_facts(results)),
        "command": summary.command if summary else "",
        "scenario": results.scenario,
        "versions": tuple(results.environment.versions.items()) if results.environment else (),
        **figures,
        **(_promise_context(results, guarantee) if guarantee else {}),
        **findings(summary),
    }
    environment = Environment(
        loader=PackageLoader("simulations", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(context)


def _guarantee(results: Results) -> Guarantee | None:
    """The guarantee at the end of the run: the summary's, else the last row's."""
    if results.summary:
        return results.summary.guarantee()
    return results.rows[-1].guarantee() if results.rows else None


def _promise_context(results: Results, guarantee: Guarantee) -> dict[str, Any]:
    """The guarantee in words."""
    charged = guarantee.rounds_charged
    return {
        "promises": words.promises(guarantee),
        "caveats": words.caveats(guarantee),
        "no_privacy": words.NO_PRIVACY,
        "both_sides": words.BOTH_SIDES,
        "rehearsal": _sentence(guarantee.noise_notice) if guarantee.noise_notice else "",
        "delta": words.delta(guarantee.delta),
        "mode_words": MODE_WORDS[guarantee.mode],
        "rounds_said": f"{charged} charged round{'' if charged == 1 else 's'}",
    }


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
    if summary.accuracy:
        parts.append(f"judged on {summary.accuracy.base.phones} phones never trained on")
    return " · ".join(parts)


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
        yield {"title": "Stopped early.", "text": f"{_sentence(summary.stopped)}"}
    if summary and (collapsed := words.collapse(summary)):
        title, _, text = collapsed.partition(": ")
        yield {"title": f"{title}.", "text": _capital(text)}
    if results.torn:
        yield {
            "title": "A torn line.",
            "text": "The last line of metrics.jsonl was cut short, and is left out.",
        }


def _incidents(results: Results) -> tuple[tuple[str, str, str], ...]:
    """Rounds that did not complete."""
    return tuple(
        (
            f"{row.round}" + (f", attempt {row.attempt}" if row.attempt > 1 else ""),
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


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return _capital(text).rstrip(".") + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _file(name: str) -> str:
    """A file beside this module."""
    return (resources.files("simulations.report") / name).read_text(encoding="utf-8")


def _in_script(text: str) -> str:
    """A script as it may stand in a page: nothing in it may end the element.

    Raises:
      ValueError: if it contains the end tag.
    """
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a script in the page must contain neither </script nor <!--")
    return text.replace("\r\n", "\n")


def _policy(*scripts: str) -> str:
    """The Content-Security-Policy: these scripts, inline styles, and nothing from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )

"""Papers for reviewers and users, filled in from the answers and from nothing else.

An assessment of the risks for people (a data-protection impact assessment), a sheet in plain words,
and the auditor's bundle: every field and what it means, what was done to the data, who read what,
what the program stands on and under which license.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from fedspeech.hash_chain import Row
from simulations.evidence.files import Answer, RunFiles
from simulations.results.rows import RoundRow
from simulations.results.summary import VISIBILITY, Summary

NOT_SHOWN = "**not shown**"


def assessment(run: RunFiles | None, answers: Sequence[Answer]) -> str:
    """The assessment, Markdown; what no file shows is left open by name."""
    parts = ["# Data-protection impact assessment\n", _what_is_done(run), "## What files show\n"]
    parts.append(_table(answers))
    parts.append("## Risks for people\n")
    for risk, number, measure in _RISKS:
        answer = answers[number]
        parts.append(
            f"- **{risk}** Meant against it: {measure} Shown: {answer.question} "
            f"**{answer.says}**, {answer.why}."
        )
    open_ = [each.question for each in answers if each.says == "not shown"]
    parts.append("\n## Left open\n")
    parts += [f"- {question}" for question in open_] or ["Nothing."]
    parts.append(
        "\nPurpose, legal basis, retention outside the program and the people in charge are no "
        "matter of files of a run: they are for the controller to fill in.\n"
    )
    return "\n".join(parts)


_RISKS = (
    ("Somebody hears what was said at home.", 0, "recordings stay on the phone."),
    ("Recordings outlive their use.", 1, "keys of expired records are destroyed."),
    ("Somebody is recorded who did not agree.", 2, "nothing is kept without consent."),
    ("The operator looks at one phone.", 3, "sums are masked by the phones."),
    ("A model gives away who trained it.", 4, "contributions are clipped and noised."),
    ("A sum is of so few that it is of one.", 5, "phones send nothing to small cohorts."),
    ("A group of speakers is served worse.", 6, "quality is told by segment."),
    ("The figures flatter.", 7, "they come from phones that trained nothing."),
    ("A phone acts on words nobody said.", 8, "actions of high risk are asked for."),
    ("A bad version stays on phones.", 9, "versions are served in stages."),
)
"""A risk, the question whose answer bears on it, and the measure against it."""


def _what_is_done(run: RunFiles | None) -> str:
    if run is None:
        return f"## What is done\n\n{NOT_SHOWN}: the run cannot be read.\n"
    plan, spent = run.job.plan, run.guarantee()
    epsilons = (("readers of the models", spent.epsilon_release),
                ("the server", spent.epsilon_server))  # fmt: skip
    price = "; ".join(
        f"against {whom} epsilon {value:.3g}" if math.isfinite(value) else f"against {whom} none"
        for whom, value in epsilons
    )
    seeded = "" if run.job.noise_entropy == "os" else (
        " **The noise is drawn from a seed, so this run is a trial and protects nobody.**"
    )  # fmt: skip
    return (
        f"## What is done\n\nA simulation: {plan.population} simulated phones train "
        f"{plan.dimension} numbers in {plan.rounds} rounds (mechanism {plan.mechanism}, "
        f"participation {plan.participation}). Price: {price}, at delta {spent.delta:.2g} a "
        f"{spent.unit}, relation {spent.relation_release} for readers and {spent.relation_server} "
        f"for the server. {spent.trust}{seeded}\n\nLedger head: `{run.ledger.head}`\n"
    )


def _table(answers: Iterable[Answer]) -> str:
    rows = ["| question | answer | why | where |", "|---|---|---|---|"]
    for each in answers:
        places = ", ".join(f"`{source}`" for source in each.sources)
        rows.append(f"| {each.question} | {each.says} | {each.why} | {places} |")
    return "\n".join(rows) + "\n"


def sheet(answers: Sequence[Answer]) -> str:
    """What a user is told, in plain words; only what a file shows is promised."""
    lines = ["# Your voice and this program\n"]
    for (_, shown, promise), answer in zip(_PROMISES, answers, strict=True):
        if answer.says == shown:
            lines.append(f"- {promise}")
    unsure = [doubt for (doubt, shown, _), a in zip(_PROMISES, answers, strict=True)
              if a.says != shown]  # fmt: skip
    if unsure:
        lines.append("\n## What we cannot promise\n")
        lines += [f"- {doubt}" for doubt in unsure]
    return "\n".join(lines) + "\n"


_PROMISES = (
    ("We cannot show that your recordings stay on your phone.", "no",
     "Your recordings stay on your phone. It sends numbers that are mixed with those of others."),
    ("We cannot show that old recordings are destroyed.", "yes",
     "Recordings have a last day. After it, or when you ask, nobody can open them again."),
    ("We cannot show that nothing is kept before you agree.", "yes",
     "Nothing is kept before you agree, and you may take that back."),
    ("The server may see what your phone alone sends.", "yes",
     "The server sees sums of many phones and never what yours alone sent."),
    ("What your phone sends is not hidden by noise that nobody can compute.", "yes",
     "Your phone limits what it sends and adds noise. How much that hides, the assessment says."),
    ("We cannot show that you are one of many in every sum.", "yes",
     "Your phone sends nothing unless enough others do."),
    ("We cannot show that it works as well for people who speak like you.", "yes",
     "We measure whether it works for people who speak like you, without reading what you say."),
    ("We cannot show that our figures come from others than those who trained.", "yes",
     "Our figures come from phones that trained nothing."),
    ("We cannot show that your phone asks before it does something that matters.", "yes",
     "Before it does something that matters, your phone asks you."),
    ("We have not shown that a bad version is taken back.", "yes",
     "If a new version is worse, your phone gets the old one back."),
)  # fmt: skip
"""In the order of the questions: the doubt, the answer that dispels it, and the promise."""


def dictionary() -> str:
    """Every field of the summary and of rows of rounds, what it means and who could see it; CSV."""
    rows = []
    for file, record in (("summary.json", Summary), ("metrics.jsonl", RoundRow)):
        meanings = _meanings(record)
        for name in record.model_fields:
            seen = VISIBILITY.get(name, "") if record is Summary else _SEEN.get(name, "")
            rows.append((file, name, meanings.get(name, ""), seen))
    return _csv(("file", "field", "meaning", "visibility"), rows)


_SEEN = {"server": "server", "simulation_only": "simulation_only"}
"""Who could see parts of a row, by the names of its parts."""


def _meanings(record: type) -> dict[str, str]:
    """What a record and those that it extends say of their fields."""
    found: dict[str, str] = {}
    for each in reversed(record.__mro__):
        text = inspect.getdoc(each) or ""
        for matched in re.finditer(r"^  (\w+): (.+(?:\n    .+)*)", text, re.MULTILINE):
            found[matched[1]] = " ".join(matched[2].split())
    return found


def transformations(run: RunFiles | None) -> str:
    """What was done to the data, step by step, and the line that shows it; CSV."""
    rows: list[tuple[object, ...]] = []
    if run is not None:
        plan, job = run.job.plan, run.folder.job
        rows += [
            ("contribution", f"clipped to {plan.clip_norm:g}", run.line(job, "plan", "clip_norm")),
            ("contribution", f"noised: {plan.mechanism}, multiplier {plan.noise_multiplier:g}",
             run.line(job, "plan", "noise_multiplier")),
        ]  # fmt: skip
        for at, row in run.charges():
            what = f"round {row['round'] + 1}: {row['secure_aggregation']} sum"
            rows.append((what, f"epsilon_release {row['epsilon_release']:.6g} after it", at))
    return _csv(("data", "step", "shown by"), rows)


def access(rows: Sequence[Row]) -> str:
    """Who read what and what was given away; CSV."""
    names = ("day", "kind", "actor", "role", "artifact", "artifact_sha256", "tier", "purpose",
             "reason")  # fmt: skip
    return _csv(names, [tuple(row.get(name, "") for name in names) for row in rows])


def dependencies(ran: Mapping[str, str]) -> str:
    """What the program stands on, with versions and licenses as the packages state them; CSV.

    Args:
      ran: version of each package that the run's environment names.
    """
    rows = []
    for name in sorted(_required("fedspeech")):
        about = metadata.metadata(name)
        rows.append((name, metadata.version(name), ran.get(name, ""), _license(about)))
    return _csv(("package", "installed", "in the run", "license"), rows)


def _required(name: str) -> set[str]:
    """Installed packages that a package needs, and those that they need."""
    found: set[str] = set()
    pending = [name]
    while pending:
        for line in metadata.requires(pending.pop()) or ():
            matched = re.match(r"[\w.-]+", line)
            need = re.sub(r"[-_.]+", "-", matched[0]).lower() if matched else ""
            if need and need not in found and need != name and _is_installed(need):
                found.add(need)
                pending.append(need)
    return found


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _license(about: Any) -> str:
    """As the package states it: expression, then classifiers, then a short text."""
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [
        line.rpartition("::")[2].strip()
        for line in about.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    text = (about.get("License") or "").strip().splitlines()
    return "; ".join(classified) or (text[0][:80] if text else "not stated")


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(_plain(rows))
    return file.getvalue()


def _plain(rows: Iterable[Sequence[object]]) -> Iterator[list[str]]:
    """Cells that no spreadsheet takes for a formula."""
    for row in rows:
        cells = [str(cell) for cell in row]
        yield [f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in cells]

"""Ten questions of a reviewer, each answered by what files hold and by nothing that they claim.

The answers are "yes", "no" and "not shown". Where the files of a run contradict each other, none
of them shows anything.
"""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedspeech import messages
from fedspeech.device.consent import Receipt
from fedspeech.device.risk_policy import RiskPolicy
from fedspeech.device.store import Entry
from fedspeech.errors import FedspeechError
from fedspeech.evaluation.metric import Metric
from fedspeech.rollout.decisions import CHAIN_FILE, Rollout
from fedspeech.sharing.people_rules import trigrams_of
from fedspeech.sharing.reading import AUDIO
from simulations.evidence.files import Answer, RunFiles, Source, ran_on_this_code

MOST_SEARCHED = 256 << 20


@dataclass(frozen=True)
class PhoneFiles:
    """What a phone's own files hold.

    Attributes:
      rows: of its log, which is chained.
      held: records that it keeps.
      consents: in force.
    """

    rows: tuple[Mapping[str, Any], ...]
    held: tuple[Entry, ...]
    consents: tuple[Receipt, ...]


@dataclass(frozen=True, kw_only=True)
class Given:
    """Files besides those of the run.

    Attributes:
      phone: of a phone of the deployment; None: no phone was looked at.
      rollout: folder of a roll-out.
      risk_policy: what phones ask before they act, a TOML file.
      transcripts: what was said, a sentence each; in no file of the run may they stand.
    """

    phone: PhoneFiles | None = None
    rollout: Path | None = None
    risk_policy: Path | None = None
    transcripts: tuple[str, ...] = field(default=(), repr=False)


Question = Callable[[RunFiles, Given], Answer]


def raw_audio(run: RunFiles, given: Given) -> Answer:
    """Does raw audio leave a phone?"""
    for file, found in _files(run):
        if any(pattern.search(found) for pattern, _ in AUDIO):
            return Answer("", "yes", "a file of the run holds sound", (Source(file.name, 1),))
    query = type(run.job.query)
    if not query.__module__.startswith("fedspeech.queries"):
        return Answer("", "not shown", f"phones ran code of another package: {query.__module__}")
    if not ran_on_this_code(run):
        why = "the code that ran is not installed here, so nobody can read what phones send"
        return Answer("", "not shown", why, (run.line(run.folder.environment, "source_sha256"),))
    sent = [messages.ProtectedUpdate, messages.MaskedVectors]
    lines = [Source("fedspeech/messages.py", inspect.getsourcelines(each)[1]) for each in sent]
    why = (
        f"phones send {run.job.plan.dimension} whole numbers a round; no file of the run holds "
        "sound"
    )
    return Answer("", "no", why, (run.line(run.folder.job, "plan", "dimension"), *lines))


def deletion(run: RunFiles, given: Given) -> Answer:
    """Do clips have a last day, and does deletion leave a receipt?"""
    phone = given.phone
    erased = [] if phone is None else [row for row in phone.rows if row["kind"] == "erased"]
    if phone is not None and erased and all(each.expires_s > 0 for each in phone.held):
        why = f"{len(erased)} receipts of destroyed keys; every record held has a last day"
        return Answer("", "yes", why, (_log(erased[0]),))
    rules = run.job.time.rules if run.job.time is not None else None
    if rules is not None and rules.captures_a_day is not None:
        why = f"clips live {rules.clip_days:g} days in this simulation; no phone's log was given"
        return Answer("", "not shown", why, (run.line(run.folder.job, "rules", "clip_days"),))
    return Answer("", "not shown", "phones of this run hold their clips at all times")


def consent(run: RunFiles, given: Given) -> Answer:
    """Is nothing kept without consent?"""
    phone = given.phone
    if phone is not None:
        agreed = [row for row in phone.rows if row["kind"] == "consented"]
        ids = {each.id for each in phone.consents}
        if any(each.consent not in ids for each in phone.held):
            return Answer("", "no", "a record is held under no consent in force")
        if agreed:
            why = f"all {len(phone.held)} records stand under a consent in force"
            return Answer("", "yes", why, (_log(agreed[0]),))
    rules = run.job.time.rules if run.job.time is not None else None
    if rules is not None and rules.consent_rate < 1:
        why = f"{rules.consent_rate:.0%} of the simulated users agree; others are never asked"
        return Answer("", "yes", why, (run.line(run.folder.job, "rules", "consent_rate"),))
    return Answer("", "not shown", "every simulated user agrees, and no phone's log was given")


def secure_aggregation(run: RunFiles, given: Given) -> Answer:
    """Does the server see sums alone?"""
    charges = list(run.charges())
    other = [(at, row) for at, row in charges if row["secure_aggregation"] != "masked"]
    if other:
        what = other[0][1]["secure_aggregation"]
        return Answer("", "no", f"secure_aggregation is {what} in a round", (other[0][0],))
    if not charges:
        return Answer("", "not shown", "no round was charged")
    why = f"all {len(charges)} charged rounds were masked"
    return Answer("", "yes", why, tuple(at for at, _ in charges[:3]))


def clip_and_noise(run: RunFiles, given: Given) -> Answer:
    """Are contributions clipped and noised, by noise that nobody can compute?"""
    plan, job = run.job.plan, run.folder.job
    lines = (run.line(job, "plan", "clip_norm"), run.line(job, "plan", "noise_multiplier"))
    if plan.mechanism == "none" or plan.noise_multiplier == 0:
        return Answer("", "no", "no noise is added", lines)
    if run.job.noise_entropy == "seeded":
        why = "the noise is drawn from the seed of the run: whoever guesses it computes the noise"
        return Answer("", "no", why, (run.line(job, "noise_entropy"), *lines))
    charged = next((at for at, _ in run.charges()), None)
    spent = run.guarantee()
    if not math.isfinite(spent.epsilon_release):
        return Answer("", "no", "no finite epsilon holds against readers of the models", lines)
    why = (
        f"clip norm {plan.clip_norm:g}, noise multiplier {plan.noise_multiplier:g}; "
        f"epsilon_release {spent.epsilon_release:.3g} at delta {spent.delta:.2g}"
    )
    return Answer("", "yes", why, (*lines, *([charged] if charged else [])))


def cohort_sizes(run: RunFiles, given: Given) -> Answer:
    """Is every sum of enough phones?"""
    least, file = run.job.plan.min_reporting, run.folder.metrics.name
    rule = run.line(run.folder.job, "plan", "min_reporting")
    sizes = [
        (Source(file, number), row.server.reporting or 0)
        for number, row in enumerate(run.results.rows, 1)
        if row.status == "completed" and row.server is not None
    ]
    if not sizes:
        return Answer("", "not shown", "no completed round says how many phones reported", (rule,))
    at, smallest = min(sizes, key=lambda each: each[1])
    if smallest < least:
        return Answer("", "no", f"{smallest} phones reported, {least} are needed", (at, rule))
    return Answer("", "yes", f"at least {smallest} phones reported; {least} are needed", (rule, at))


def quality(run: RunFiles, given: Given) -> Answer:
    """Is quality known by segment, and without a transcript?"""
    summary, file = run.results.summary, run.folder.summary
    assert summary is not None
    said = trigrams_of(given.transcripts)
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not said.isdisjoint(trigrams_of((line,))):
            return Answer(
                "", "no", "words of a transcript stand in it", (Source(file.name, number),)
            )
    by_segment = [each for each in _metrics(run) if each.segment is not None]
    least = summary.minimum_segment_phones or 1
    small = [each for each in by_segment if (each.phones or 0) < least]
    if small:
        return Answer("", "no", "a segment is of fewer phones than the run's own minimum")
    if not by_segment:
        return Answer("", "not shown", "no figure is of a segment")
    names = sorted({each.segment.name for each in by_segment if each.segment is not None})
    why = f"{len(by_segment)} figures by {', '.join(names)}" + (
        "" if said else "; no list of transcripts was given to hold against them"
    )
    at = run.line(file, "sections", "segment")
    return Answer("", "yes" if said else "not shown", why, (at,))


def evaluation_plan(run: RunFiles, given: Given) -> Answer:
    """Was it planned before the run on whom it is judged?"""
    scenario, settings = run.folder.scenario, run.results.settings()
    held_out = settings.get("corpus.held_out_phones")
    most = max((metric.phones or 0 for metric in _metrics(run)), default=0)
    if not most:
        return Answer("", "not shown", "no figure of the summary names its phones")
    if not held_out:
        return Answer("", "not shown", "the scenario does not say who is held out")
    if most > held_out:
        return Answer("", "no", f"a figure is of {most} phones, and {held_out} were held out")
    lines = (
        run.line(scenario, "corpus", "held_out_phones"),
        run.line(scenario, "evaluation", "min_segment_phones"),
    )
    return Answer(
        "", "yes", f"{held_out} phones that train nothing, by a rule in the scenario", lines
    )


def high_risk(run: RunFiles, given: Given) -> Answer:
    """Is a phone asked before an action of high risk?"""
    file = given.risk_policy
    if file is None:
        return Answer("", "not shown", "no risk policy was given")
    try:
        document = tomllib.loads(file.read_text("utf-8"))
        named = document.get("intents", {})
        words = [word for risk in ("low", "medium", "high") for word in named.get(risk, ())]
        policy = RiskPolicy.read(document, words)
    except (OSError, ValueError, AttributeError, TypeError, FedspeechError) as error:
        return Answer("", "not shown", f"the risk policy cannot be read: {error}")
    at, guard = run.line(file, "high"), policy.guards["high"]
    if not named.get("high"):
        return Answer("", "not shown", "no action is of high risk", (at,))
    if not (guard.confirm or guard.unlock):
        return Answer("", "no", "no question and no unlocked phone is asked for", (at,))
    asked = [name for name in ("confirm", "unlock") if getattr(guard, name)]
    why = f"{', '.join(named['high'])}: {' and '.join(asked)}"
    return Answer("", "yes", why, (at, run.line(file, "high", asked[0])))


def rollback(run: RunFiles, given: Given) -> Answer:
    """Can a version be taken back, and has it been tried?"""
    if given.rollout is None:
        return Answer("", "not shown", "no folder of a roll-out was given")
    try:
        rollout = Rollout.open(given.rollout)
    except (OSError, ValueError, FedspeechError) as error:
        return Answer("", "not shown", f"the roll-out cannot be read: {error}")
    started = Source(CHAIN_FILE, 1)
    back = [n for n, row in enumerate(rollout.rows, 1) if _rolls_back(row)]
    if back:
        return Answer("", "yes", "it was rolled back", (started, Source(CHAIN_FILE, back[0])))
    return Answer("", "not shown", "a way back is planned, and was never taken", (started,))


QUESTIONS: tuple[Question, ...] = (
    raw_audio, deletion, consent, secure_aggregation, clip_and_noise, cohort_sizes, quality,
    evaluation_plan, high_risk, rollback,
)  # fmt: skip
_OF_OTHER_FILES = (high_risk, rollback)


def answers(run: RunFiles, given: Given) -> tuple[Answer, ...]:
    """Answers every question; contradictions between files leave what is of the run unanswered."""
    return tuple(replace(_answer(ask, run, given), question=str(ask.__doc__)) for ask in QUESTIONS)


def _answer(ask: Question, run: RunFiles, given: Given) -> Answer:
    if run.contradictions and ask not in _OF_OTHER_FILES:
        return Answer("", "not shown", f"files contradict each other: {run.contradictions[0]}")
    return ask(run, given)


def unread(why: str) -> tuple[Answer, ...]:
    """Answers where the run cannot be read at all."""
    return tuple(Answer(str(ask.__doc__), "not shown", why) for ask in QUESTIONS)


def _metrics(run: RunFiles) -> Iterator[Metric]:
    summary = run.results.summary
    assert summary is not None
    return (metric for section in summary.sections for metric in section.metrics)


def _files(run: RunFiles) -> Iterator[tuple[Path, bytes]]:
    for file in sorted(run.folder.path.rglob("*")):
        if file.is_file() and file.stat().st_size <= MOST_SEARCHED:
            yield file, file.read_bytes()


def _log(row: Mapping[str, Any]) -> Source:
    return Source("log.jsonl", row["sequence"] + 1)


def _rolls_back(row: Mapping[str, Any]) -> bool:
    return row["kind"] == "rolled_back" or row.get("decision") == "roll back"

"""Files of a run, held against each other, and the line on which each fact stands.

A run's ledger is chained, and names the job by a hash of its settings and the plan by its own. So
whoever edits one of them is found; what stands in other files counts only where it does not
contradict these.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedspeech.errors import FedspeechError
from fedspeech.job import Job
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.ledger import Ledger
from fedspeech.source import source_sha256
from simulations.results.run_folder import Results, RunFolder, read
from simulations.results.spent import account

Says = Literal["yes", "no", "not shown"]


@dataclass(frozen=True)
class Source:
    """A line of a file.

    Attributes:
      file: its name, without folders of this machine.
      line: from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        """As editors open it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Answer:
    """What files say to a question.

    Attributes:
      question: in words.
      says: yes or no where a file shows it, else "not shown".
      why: what the files hold.
      sources: where it stands.
    """

    question: str
    says: Says
    why: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, eq=False)
class RunFiles:
    """What a run's files hold.

    Attributes:
      folder: of the run.
      job: what phones and server agreed on.
      ledger: what was spent.
      rows: of the ledger, and the line of each.
      results: rows of rounds, and the summary.
      contradictions: in which files disagree with the ledger, or with each other.
    """

    folder: RunFolder
    job: Job
    ledger: Ledger
    rows: tuple[tuple[int, Mapping[str, Any]], ...]
    results: Results
    contradictions: tuple[str, ...]

    @classmethod
    def read(cls, run: Path) -> RunFiles:
        """Reads a run and holds its files against each other.

        Raises:
          FedspeechError: if a file is missing or damaged, or the ledger does not hold the run.
        """
        folder, results = RunFolder(run), read(run)
        if results.summary is None:
            raise FedspeechError(f"{run} has no summary.json: its run did not end")
        try:
            job = Job.load(folder.job)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FedspeechError(f"{folder.job.name} cannot be read: {error}") from error
        ledger = account(folder, job, results.summary)
        lines = folder.ledger.read_bytes().split(b"\n")
        rows = tuple(
            (number, row) for number, line in enumerate(lines, 1) if (row := _row(line, job.run_id))
        )
        found = cls(folder, job, ledger, rows, results, ())
        return cls(folder, job, ledger, rows, results, tuple(_contradictions(found)))

    def line(self, file: Path, *keys: str) -> Source:
        """Where a key stands, its parents before it; the first line if it stands nowhere."""
        pending, lines = list(keys), file.read_text("utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if re.match(rf'\s*\[?"?{re.escape(pending[0])}"?\s*[\]:=]', line):
                pending.pop(0)
                if not pending:
                    return Source(file.name, number)
        return Source(file.name, 1)

    def charges(self) -> Iterator[tuple[Source, Mapping[str, Any]]]:
        """Rows of the ledger that charged a round of this run."""
        for number, row in self.rows:
            if row["kind"] == "charge":
                yield Source(self.folder.ledger.name, number), row

    def guarantee(self) -> Guarantee:
        """What the run's population has spent by now."""
        return self.ledger.guarantee()


def _row(line: bytes, run_id: str) -> Mapping[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None  # a torn line, which the chain explains
    return row if row.get("run_id") == run_id else None


def _contradictions(run: RunFiles) -> Iterator[str]:
    """Facts that two files state in two ways; the ledger is right, for it is chained."""
    plan, summary = run.job.plan, run.results.summary
    assert summary is not None
    for number, row in run.rows:
        if row.get("fingerprint", plan.fingerprint) != plan.fingerprint:
            yield f"job.json has another plan than row {number} of ledger.jsonl"
        if row.get("secure_aggregation", plan.secure_aggregation) != plan.secure_aggregation:
            yield f"job.json has another secure_aggregation than row {number} of ledger.jsonl"
    spent = run.guarantee()
    for name in ("epsilon_release", "epsilon_server", "delta"):
        said = getattr(summary.guarantee, name)
        if said < getattr(spent, name) * (1 - 1e-9) and run.ledger.runs_charged == 1:
            yield f"summary.json states {name} {said:.6g}, ledger.jsonl {getattr(spent, name):.6g}"
    yield from _edited_scenario(run)
    charged = {row["round"] + 1 for _, row in run.charges()}
    completed = {
        row["round"] + 1 for _, row in run.rows if row["kind"] == "outcome" and row["completed"]
    }
    told = {row.round for row in run.results.rows if row.status == "completed"}
    if told != completed:
        yield "metrics.jsonl has other completed rounds than ledger.jsonl"
    if not told <= charged:
        yield "metrics.jsonl has a round that ledger.jsonl never charged"
    for each in run.results.rows:
        if each.server and (each.server.reporting or 0) > (each.server.cohort or 0):
            yield f"metrics.jsonl, round {each.round}: more phones reported than were in the cohort"
    if summary.phones != plan.population:
        yield f"summary.json has {summary.phones} phones, job.json {plan.population}"


def _edited_scenario(run: RunFiles) -> Iterator[str]:
    """Keys of scenario.toml whose value is not the job's."""
    try:
        scenario = tomllib.loads(run.results.scenario)
    except ValueError as error:
        yield f"scenario.toml cannot be read: {error}"
        return
    privacy = dict(scenario.get("privacy", {}))
    if privacy.get("sizing", "scenario") != "scenario":
        for name in ("clip_norm", "noise_multiplier"):  # chosen on public speakers
            privacy.pop(name, None)
    plan = run.job.plan
    for name in (
        "mechanism", "secure_aggregation", "threat_model", "clip_norm", "noise_multiplier",
        "participation", "participation_probability", "rounds", "groups", "colluders",
        "dropout_rate",
    ):  # fmt: skip
        if name in privacy and not _same(privacy[name], getattr(plan, name)):
            yield f"scenario.toml says privacy.{name} = {privacy[name]}, and job.json does not"
    if scenario.get("noise_entropy", run.job.noise_entropy) != run.job.noise_entropy:
        yield "scenario.toml says another noise_entropy than job.json"
    if scenario.get("seed", run.job.seed) != run.job.seed:
        yield "scenario.toml says another seed than job.json"
    summary, least = run.results.summary, scenario.get("evaluation", {}).get("min_segment_phones")
    if summary is not None and least not in (None, summary.minimum_segment_phones):
        yield "scenario.toml says another evaluation.min_segment_phones than summary.json"


def _same(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other)
    return one == other


def ran_on_this_code(run: RunFiles) -> bool:
    """Whether the code that is installed here is the code that ran."""
    environment = run.results.environment
    return environment is not None and environment.source_sha256 == source_sha256()

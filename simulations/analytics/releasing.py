"""One release: the job, the charge, the question, the answer, and what a simulation knows beside.

The server of the job charges the population's ledger before any phone is asked; whatever kills the
process after that, the window counts as released (`fedspeech.privacy.release_window`).
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
from pathlib import Path

from fedspeech import hash_chain
from fedspeech.errors import BudgetExhausted, FedspeechError, NoRoundRan
from fedspeech.files import remove_made, write_text
from fedspeech.job import Job
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.withholding import withhold
from fedspeech.round import ServerState
from server.rounds import RoundRecord
from server.rows import LEDGER
from simulations.analytics.answer import PAGE, PLAN, Analysis
from simulations.analytics.asked import Asked
from simulations.analytics.evaluating import counts_of
from simulations.analytics.page import render
from simulations.analytics.truth import truths
from simulations.engines.carrying import carrier
from simulations.engines.flower import require_engine
from simulations.progress import RunProgress
from simulations.results.environment import Engine
from simulations.results.run_folder import check_place, hold_alone, share_ledger
from simulations.run.environment import capture_environment
from simulations.run.preparing import require_carried
from simulations.scenario.writing import to_toml
from simulations.setup.embedding import cache_folder

JOB, SCENARIO, ENVIRONMENT = "job.json", "scenario.toml", "environment.json"
LOCK, PHONES, CHECKPOINTS, SIMULATION_ONLY = "run.lock", "phones", "checkpoints", "simulation_only"

OWN_LEDGER = (
    "no ledger of the population was named: this release is charged to one of its own, which knows "
    "of no training and no other question, and no other folder is refused the same question"
)


def release(
    asked: Asked,
    *,
    out: Path | None,
    workers: int | None,
    cache: Path | None,
    engine: Engine,
    ledger: Path | None,
    progress: RunProgress,
) -> Analysis:
    """Asks the phones once, and keeps the answer in a folder.

    Args:
      asked: the priced plan file and its phones.
      out: a new or empty folder; None: analytics/NAME-DATE below the current folder.
      workers: processes; None: one per core.
      cache: where arrays are kept; None: the user's cache.
      engine: what carries the messages. The answer does not depend on it.
      ledger: of the population; None: the plan file's, else one for this release alone.
      progress: what shows how far it is.

    Raises:
      AlreadyReleased: if a day of the window was asked about before.
      BudgetExhausted: if the population's budget does not cover the release.
      NoRoundRan: if too few phones came, with what it cost.
    """
    if engine != "inprocess":
        require_engine(simulation=engine == "flower")
    file = asked.release.file
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = _made(out or Path("analytics") / f"{file.name}-{stamp}")
    ledger = ledger or _own_ledger(asked)
    with hold_alone(folder / LOCK, "release"), progress:
        if ledger is None:
            progress.say(OWN_LEDGER)
        try:
            job = _prepared(asked, folder, cache, ledger)
            require_carried(job, engine)
        except BaseException:
            names = (LEDGER, PLAN, SCENARIO, ENVIRONMENT, JOB, LOCK)
            remove_made([folder / name for name in names], [folder])
            raise
        found: list[tuple[RoundRecord, ServerState]] = []
        carrying = carrier(engine, job, (folder / JOB).resolve(), workers or os.cpu_count() or 1)
        with progress.stage("ask", job.plan.rounds), carrying as carried:
            carried.run(
                (folder / JOB).resolve(),
                lambda record, state: found.append((record, state)),
                progress.say,
                resume="",
                known=0,
            )
        with progress.stage("answer"):
            analysis = _answer(asked, job, folder, found)
            analysis.save()
            write_text(folder / PAGE, render(analysis))
            # The server keeps no cell that readers do not see; and phones that answered once need
            # not remember it for another server, which the ledger would refuse.
            for left in (CHECKPOINTS, PHONES):
                shutil.rmtree(folder / left, ignore_errors=True)
    return analysis


def _made(folder: Path) -> Path:
    """A new folder, or an empty one."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FedspeechError(
            f"a release needs a new or empty folder, and {folder} holds files; choose another "
            "with `out`"
        )
    check_place(folder, "the folder of a release")
    hash_chain.forget_head(folder / LEDGER)  # of a release that stood here and was removed
    return folder


def _own_ledger(asked: Asked) -> Path | None:
    named = asked.release.file.ledger
    return Path(named) if named else None


def _prepared(asked: Asked, folder: Path, cache: Path | None, ledger: Path | None) -> Job:
    """Writes everything that stands before the first message; charges nothing."""
    release, scenario = asked.release, asked.experiment.scenario
    place = folder / LEDGER
    if ledger is not None:
        share_ledger(place, ledger)
    _require_unreleased(asked, place, release.query.release_window)
    write_text(folder / PLAN, release.file.to_toml())
    write_text(folder / SCENARIO, to_toml(scenario))
    environment = capture_environment(torch_threads=1)
    write_text(folder / ENVIRONMENT, environment.model_dump_json(indent=2) + "\n")
    job = asked.job(cache_folder(cache), folder.resolve() / SIMULATION_ONLY)
    # Once more: an evaluation's question names the adapter, which is read by now.
    _require_unreleased(asked, place, job.query.release_window)
    job = dataclasses.replace(job, durable_state=str((folder / PHONES).resolve()))
    job.save(folder / JOB)
    return job


def _require_unreleased(asked: Asked, ledger: Path, window: ReleaseWindow | None) -> None:
    """Refuses what the ledger would refuse, by the plan's name and before the work for it."""
    try:
        Ledger.require_first_round(ledger, asked.release.plan, window)
    except BudgetExhausted as error:
        raise type(error)(f"{asked.release.file.name}: {error}") from error


def _answer(
    asked: Asked, job: Job, folder: Path, found: list[tuple[RoundRecord, ServerState]]
) -> Analysis:
    """What the sums say, with what a simulation knows beside it."""
    release = asked.release
    query = job.query  # of an evaluation, the one that names the adapter
    assert isinstance(query, Analytics)
    account = Ledger.inspect(folder / LEDGER, job.run_id)
    record, state = found[-1]
    if state.completed < query.rounds:
        paid = f"{account.own_rounds_charged} of its rounds are charged"
        raise NoRoundRan(f"{release.file.name} has no answer: {record.reason}; {paid}")
    said = query.estimates(state.query, job.plan)
    # By noisy counts alone, so server and readers see the same cells.
    estimates = withhold(said, release.file.k_min, additive=query.additive)
    truth, untruncated = truths(query, job, estimates)
    return Analysis(
        path=folder,
        plan=release.file,
        estimates=estimates,
        guarantee=job.plan.guarantee(job.plan.rounds),
        population=account.guarantee(),
        reporting=record.reporting or 0,
        evaluation=counts_of(query, job.plan, estimates),
        noise_notice=account.noise_notice,
        truth=truth,
        untruncated=untruncated,
    )

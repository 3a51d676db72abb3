"""One release: the job, the charge, the question, the answer, and what a simulation knows beside.

The server of the job charges the population's ledger before any phone is asked; whatever kills the
process after that, the window counts as released (`fedspeech.privacy.release_window`). A release
that was killed goes on from its last checkpoint, under the charge that it has paid: seeded noise is
drawn again with the same bits, and noise of the operating system is not, so a round that was killed
after its charge has no answer then.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
from pathlib import Path

from clients.durable_state import go_back
from fedspeech import hash_chain
from fedspeech.errors import BudgetExhausted, FedspeechError, NoRoundRan, ScenarioError
from fedspeech.files import remove_made, write_text
from fedspeech.job import Job
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.withholding import withhold
from server.rows import LAST, LEDGER, ROUNDS
from server.state import load_checkpoint
from simulations.analytics.answer import ANSWER, PAGE, PLAN, Analysis
from simulations.analytics.asked import Asked
from simulations.analytics.evaluating import counts_of
from simulations.analytics.page import render
from simulations.analytics.truth import truths
from simulations.engines.carrying import carrier
from simulations.engines.flower import require_engine
from simulations.progress import RunProgress
from simulations.results.environment import Engine, Environment
from simulations.results.run_folder import check_place, hold_alone, share_ledger
from simulations.run.environment import capture_environment
from simulations.run.preparing import require_carried
from simulations.run.resume import changes
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
        return _asked(asked, job, folder, engine, workers, progress)


def resume(
    asked: Asked,
    folder: Path,
    *,
    workers: int | None,
    cache: Path | None,
    engine: Engine,
    progress: RunProgress,
) -> Analysis:
    """Goes on with a release that was killed or interrupted; charges nothing that is charged.

    Args:
      asked: what its folder says was asked, of the same phones.
      folder: of the release.
      workers: as for `release`.
      cache: likewise.
      engine: likewise.
      progress: likewise.

    Raises:
      FedspeechError: if it is complete or had not begun, or what it stood on has changed.
      NoRoundRan: if a round was lost, with what it cost.
    """
    with hold_alone(folder / LOCK, "release"), progress:
        if (folder / ANSWER).is_file():
            _forget_sums(folder)  # killed after its answer, it may have left them
            raise FedspeechError(f"the release in {folder} is complete; there is nothing to resume")
        if not (folder / JOB).is_file():
            raise FedspeechError(
                f"{folder} holds no release to go on with: no {JOB}, so nobody was asked and "
                "nothing charged; ask again with a new folder"
            )
        job = _job(asked, folder, cache)
        if (found := Job.load(folder / JOB).fingerprint) != job.fingerprint:
            raise ScenarioError(
                f"{folder} cannot go on: its plan and scenario now make another job than it began "
                f"with ({found[:12]} then, {job.fingerprint[:12]} now)"
            )
        job.save(folder / JOB)  # its arrays may stand in another cache now
        if not (folder / LAST).is_file():  # no round can have been charged
            return _asked(asked, job, folder, engine, workers, progress)
        before = Environment.model_validate_json((folder / ENVIRONMENT).read_text("utf-8"))
        changed = changes(before, capture_environment(torch_threads=1))
        replay = job.noise_entropy == "seeded" and not changed
        known = load_checkpoint(folder / LAST).next_round
        if replay:
            go_back(folder / PHONES, known, job.noise_entropy)
        elif changed:
            progress.say(f"{', '.join(changed)}: not what the release began with, so no replay")
        how = "replay" if replay else "next"
        return _asked(asked, job, folder, engine, workers, progress, how=how, known=known)


def _asked(
    asked: Asked,
    job: Job,
    folder: Path,
    engine: Engine,
    workers: int | None,
    progress: RunProgress,
    *,
    how: str = "",
    known: int = 0,
) -> Analysis:
    """Asks the phones, or goes on asking them, and keeps the answer."""
    place = (folder / JOB).resolve()
    carrying = carrier(engine, job, place, workers or os.cpu_count() or 1)
    with progress.stage("ask", job.plan.rounds), carrying as carried:
        carried.run(place, lambda record, state: None, progress.say, resume=how, known=known)
    with progress.stage("answer"):
        analysis = _answer(asked, job, folder)
        write_text(folder / PAGE, render(analysis))
        analysis.save()  # last: it says that nothing is left to do
        _forget_sums(folder)
    return analysis


def _forget_sums(folder: Path) -> None:
    """The server keeps no cell that readers do not see.

    And phones that answered once need not remember it for another server, which the ledger would
    refuse.
    """
    for left in (CHECKPOINTS, PHONES):
        shutil.rmtree(folder / left, ignore_errors=True)


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
    job = _job(asked, folder, cache)
    # Once more: an evaluation's question names the adapter, which is read by now.
    _require_unreleased(asked, place, job.query.release_window)
    job.save(folder / JOB)
    return job


def _job(asked: Asked, folder: Path, cache: Path | None) -> Job:
    """The job of a release, whose phones remember what they answered below its folder."""
    job = asked.job(cache_folder(cache), folder.resolve() / SIMULATION_ONLY)
    return dataclasses.replace(job, durable_state=str((folder / PHONES).resolve()))


def _require_unreleased(asked: Asked, ledger: Path, window: ReleaseWindow | None) -> None:
    """Refuses what the ledger would refuse, by the plan's name and before the work for it."""
    try:
        Ledger.require_first_round(ledger, asked.release.plan, window)
    except BudgetExhausted as error:
        raise type(error)(f"{asked.release.file.name}: {error}") from error


def _answer(asked: Asked, job: Job, folder: Path) -> Analysis:
    """What the sums say, with what a simulation knows beside it."""
    release = asked.release
    query = job.query  # of an evaluation, the one that names the adapter
    assert isinstance(query, Analytics)
    account = Ledger.inspect(folder / LEDGER, job.run_id)
    state = load_checkpoint(folder / LAST).state
    last = json.loads((folder / ROUNDS).read_text("utf-8").splitlines()[-1])
    if state.completed < query.rounds:
        paid = f"{account.own_rounds_charged} of its rounds are charged"
        raise NoRoundRan(f"{release.file.name} has no answer: {last['reason']}; {paid}")
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
        reporting=last["reporting"] or 0,
        evaluation=counts_of(query, job.plan, estimates),
        noise_notice=account.noise_notice,
        truth=truth,
        untruncated=untruncated,
    )

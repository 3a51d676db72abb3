"""`fedspeech resume`: a run that was killed, interrupted or out of disk goes on where it stood.

Whatever moment it stopped at, it goes on from its last checkpoint. Under seeded noise the
same machine, packages and code replay the round that it was in, and end with the bits of a run that
was never interrupted. Where that cannot be promised, or noise came from the operating
system, the interrupted round has failed: a charge stays, its index is spent.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from clients.durable_state import alone, go_back
from fedspeech.errors import FedspeechError, ScenarioError
from fedspeech.files import hold
from fedspeech.job import Job
from fedspeech.models.base import Base
from server.app import LOCK, LOCK_WAIT_S
from server.resuming import resume as resume_rounds
from simulations.callbacks.callback import Callback
from simulations.callbacks.configured import loggers
from simulations.progress import RunProgress
from simulations.results.environment import Engine, Environment
from simulations.results.run_folder import RunFolder, check_place, read_environment, read_summary
from simulations.run.preparing import Prepared, environment, prepared
from simulations.run.runner import Run
from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import PROVIDED, Scenario
from simulations.setup.definition import Experiment


def resume(
    path: Path,
    *,
    workers: int | None,
    cache: Path | None,
    engine: Engine | None = None,
    experiment: Experiment | None = None,
    progress: RunProgress | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Takes a run to its end and returns its folder.

    What a program handed over is handed over again: callbacks, and an `experiment` whose speech was
    in its memory.

    Raises:
      FedspeechError: if there is nothing to go on with, or what the run stood on has changed.
    """
    folder = RunFolder(path)
    if not folder.scenario.is_file():
        raise FedspeechError(f"{path} holds no run to go on with: it has no scenario.toml")
    with folder.hold(), progress or RunProgress() as progress:
        check_place(path, "a run folder")
        _wait_for_the_rest(folder)
        summary = read_summary(path)
        if summary is not None and summary.status == "complete" and folder.report.exists():
            raise FedspeechError(f"the run in {path} is complete; there is nothing to resume")
        scenario = read_scenario(str(folder.scenario))
        before = read_environment(path)
        engine = engine or (before.engine if before else "inprocess")
        progress.say(f"scenario {scenario.name}, resumed")
        parts = prepared(experiment or _again(scenario, folder), folder, progress, workers, cache)
        run = _begun(parts, before, engine, (*loggers(scenario.callbacks), *callbacks))
        run.to_the_end()
    return folder.path


def _again(scenario: Scenario, folder: RunFolder) -> Scenario | Experiment:
    """What the run is of; the folder keeps a base that a program handed over."""
    if scenario.base.source == PROVIDED and folder.base.exists():
        return Experiment(scenario=scenario, base=Base.load(folder.base))
    return scenario


def _wait_for_the_rest(folder: RunFolder) -> None:
    """Waits for workers, phones and servers of Flower's that a killed run may have left at work."""
    if (folder.path / LOCK).exists():
        server = hold(folder.path / LOCK, wait_s=LOCK_WAIT_S)
        if server is None:
            raise FedspeechError(f"a server of the killed run is still at work in {folder.path}")
        server.close()
    if folder.durable_state.is_dir():
        alone(folder.durable_state).close()


def _begun(
    parts: Prepared,
    before: Environment | None,
    engine: Engine,
    callbacks: Sequence[Callback],
) -> Run:
    """Takes up the run where it stood, or begins it where it had not."""
    folder, job, say = parts.folder, parts.built.job, parts.progress.say
    shutil.rmtree(job.simulation_only, ignore_errors=True)
    if not folder.checkpoint.is_file():
        say("it had not begun its first round")
        folder.write_environment(environment(engine))
        return Run(parts, engine, callbacks=callbacks)
    if (found := Job.load(folder.job).fingerprint) != job.fingerprint:
        raise ScenarioError(
            f"{folder.path} cannot go on: its scenario now makes another job than it began with "
            f"({found[:12]} then, {job.fingerprint[:12]} now); recordings or code have changed"
        )
    job.save(folder.job)  # the same job; its arrays and identities may stand in another cache now
    now = environment(engine)
    changed = changes(before, now)
    replay = job.noise_entropy == "seeded" and not changed
    resumed = resume_rounds(job, folder.path, replay=replay)
    if replay:
        go_back(folder.durable_state, resumed.checkpoint.next_round, job.noise_entropy)
    elif changed:
        say(
            f"{', '.join(changed)}: not what the run began with. The bits of an uninterrupted run "
            "are not promised, and the interrupted round is not replayed"
        )
        folder.write_environment(now)
    over = resumed.checkpoint.next_round
    say(
        f"goes on with round {over + 1} of {job.plan.rounds}"
        if over < job.plan.rounds
        else "all rounds are over"
    )
    return Run(parts, engine, resumed, callbacks)


def changes(before: Environment | None, now: Environment) -> list[str]:
    """Names what bits depend on and is not as it was."""
    if before is None:
        return ["environment.json is missing"]
    # Neither engine nor number of cores: results depend on neither.
    names = ("platform", "cpu", "python", "versions", "source_sha256")
    return [name for name in names if getattr(before, name) != getattr(now, name)]

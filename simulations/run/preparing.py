"""What stands before the first round: the built experiment, its job, and who pays for it."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedspeech import hash_chain
from fedspeech.errors import BudgetExhausted, FedspeechError, NoRoundRan, ScenarioError
from fedspeech.job import Job
from fedspeech.own_code import address_of, is_handed_over
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.source import source_sha256
from server.rows import LEDGER
from simulations.callbacks.audience import Audience
from simulations.callbacks.callback import Callback, RunInfo
from simulations.progress import RunProgress
from simulations.results.environment import Engine, Environment
from simulations.results.redaction import published_settings
from simulations.results.run_folder import RunFolder, check_place, flat, share_ledger
from simulations.run.environment import capture_environment
from simulations.scenario.schema import Scenario
from simulations.scenario.writing import to_toml
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import Accept, BuiltExperiment, anything, build_experiment


def environment(engine: Engine) -> Environment:
    """What a run of this process stands on."""
    torch.set_num_threads(1)
    return capture_environment(torch_threads=1, source_sha256=source_sha256(), engine=engine)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A built experiment, and where and how its run goes."""

    scenario: Scenario
    built: BuiltExperiment
    folder: RunFolder
    progress: RunProgress
    workers: int


def prepared(
    what: Scenario | Experiment,
    folder: RunFolder,
    progress: RunProgress,
    workers: int | None,
    cache: Path | None,
    accept: Accept = anything,
) -> Prepared:
    """Builds the experiment of a run; sends and charges nothing."""
    torch.set_num_threads(1)
    workers = workers or os.cpu_count() or 1
    cache = cache_folder(cache)
    check_place(cache, "the cache (`cache` or FEDSPEECH_CACHE names another)")
    with progress.stage("prepare"):
        built = build_experiment(
            what,
            cache=cache,
            simulation_only=folder.path.resolve() / "simulation_only",
            workers=workers,
            progress=progress.advance,
            accept=accept,
        )
    # Resolved, as nodes behind Flower's engines have other current folders.
    job = dataclasses.replace(built.job, durable_state=str(folder.durable_state.resolve()))
    built = dataclasses.replace(built, job=job)
    scenario = what if isinstance(what, Scenario) else what.scenario
    return Prepared(scenario, built, folder, progress, workers)


def require_first_round(ledger: Path, plan: PrivacyPlan) -> None:
    """Refuses a plan whose first round nobody can pay, before anything is prepared for it."""
    try:
        Ledger.require_first_round(ledger, plan)
    except BudgetExhausted as error:
        raise NoRoundRan(
            f"no round can run: {error}. Raise privacy.epsilon_budget, or lower what a round costs "
            "(fedspeech budget says by how much)"
        ) from error


def audience_of(callbacks: Sequence[Callback], prepared: Prepared, known: int) -> Audience:
    """The callbacks of a run of which some rounds may be over and told."""
    folder, job = prepared.folder, prepared.built.job
    released = job.noise_entropy == "os"
    settings = tomllib.loads(to_toml(prepared.scenario))
    info = RunInfo(
        name=prepared.scenario.name,
        folder=folder.path,
        key=folder.callbacks_key() if callbacks else "",
        rounds=job.plan.rounds,
        known=0 if released else known,
        settings=dict(flat("", published_settings(settings) if released else settings)),
        released=released,
    )
    return Audience(callbacks, prepared.progress.say, info)


def require_carried(job: Job, engine: Engine) -> None:
    """Refuses code that the nodes of an engine could not import.

    Raises:
      ScenarioError: if a program has handed over code, and nodes are other processes.
    """
    here = [address_of(part) for part in job.query.brought() if is_handed_over(part)]
    if here and engine != "inprocess":
        raise ScenarioError(
            f"{here[0]} is known in this process alone, and engine={engine!r} runs nodes in "
            "others: declare it as an entry point of an installed package, or take the engine "
            '"inprocess"'
        )


def prepare(
    what: Scenario | Experiment,
    *,
    out: Path,
    workers: int | None,
    cache: Path | None,
    ledger: Path | None = None,
    progress: RunProgress | None = None,
) -> None:
    """Writes an experiment's job and all it needs to a folder, for Flower's own engines.

    Raises:
      FedspeechError: if another job, or a run of one, is there.
    """
    if out.exists() and any(out.iterdir()):
        raise FedspeechError(f"a job needs a new or empty folder, and {out} holds files")
    out.mkdir(parents=True, exist_ok=True)
    hash_chain.forget_head(out / LEDGER)  # of a job that stood here and was removed
    if ledger is not None:
        share_ledger(out / LEDGER, ledger)
    with progress or RunProgress() as progress:
        try:
            with progress.stage("prepare"):
                built = build_experiment(
                    what,
                    cache=cache_folder(cache),
                    # No folder for exact norms of single phones: Flower's engines may run this job
                    # as a deployment.
                    simulation_only=None,
                    workers=workers or os.cpu_count() or 1,
                    progress=progress.advance,
                    accept=functools.partial(require_first_round, out / LEDGER),
                )
        except BaseException:
            if ledger is not None:
                (out / LEDGER).unlink()  # the link, which would be in the way of the next try
            raise
        # Everything beside the job and named from there, so that the folder can be carried around.
        arrays, identities = out / "arrays", out / "identities.key"
        shutil.copytree(built.job.arrays, arrays)
        shutil.copyfile(built.job.identities, identities)
        # `copyfile` copies no permissions, and this file stands for every phone's private key.
        identities.chmod(0o600)
        path = (out / "job.json").resolve()
        dataclasses.replace(
            built.job, arrays=arrays.name, identities=identities.name, durable_state="phones"
        ).save(path)
        progress.say(
            f"{path}: {built.job.plan.population:,} phones in {built.job.num_shards} shards; run\n"
            f"  flwr run . --stream --federation-config num-supernodes={built.job.num_shards} "
            f"-c 'job=\"{path}\"'"
        )

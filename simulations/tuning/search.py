"""Trials of many settings: run side by side, kept as they finish, gone on with after a kill.

A trial of the search is one setting under every seed. It is a trial of an Optuna study, on SQLite
in the tuning's folder; what one seed gave is written there the moment it is known, and by this
process alone. Which trials there are, what becomes of them and what they are compared with follows
from their numbers and never from who was faster, so neither workers nor kills change a result.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fedspeech.errors import ArgumentRefused
from fedspeech.extras import importing
from fedspeech.job import Job
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.training.workers import WorkerPool, worker_deaths_said
from simulations.progress import RunProgress
from simulations.tuning.evidence import Matrix
from simulations.tuning.space import Axis, Setting, Space, tidy
from simulations.tuning.trial import Curve, Hopeless, Outcome, Panel, run_trial

with importing("tuning"):
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
    from optuna.trial import FrozenTrial, TrialState

STUDY = "tune"
GENERATION = 6
"""Pareto trials that are chosen knowing the same others, whatever the workers."""
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, eq=False)
class Ground:
    """What all trials of one seed share.

    Attributes:
      job: of the scenario's own setting, as trials run it.
      base: mean accuracy before the first round.
    """

    seed: int
    job: Job
    panel: Panel
    base: float


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A setting that was tried.

    Attributes:
      guarantee: of all planned rounds of the scenario's plan under it.
    """

    number: int
    setting: Setting
    guarantee: Guarantee
    outcomes: tuple[Outcome, ...]

    @property
    def accuracy(self) -> float:
        """Mean over seeds of the mean over members."""
        return float(np.mean([np.mean(outcome.accuracies) for outcome in self.outcomes]))

    @property
    def stopped(self) -> str:
        """Why it did not go to its end under every seed; "" if it did."""
        reasons = {outcome.stopped for outcome in self.outcomes} - {""}
        return "budget" if "budget" in reasons else "".join(reasons)


def matrices(evaluated: Sequence[Evaluated]) -> list[Matrix]:
    """Per seed the accuracies of members and settings, shape (members, settings)."""
    return [
        np.array([found.outcomes[seed].accuracies for found in evaluated], dtype=np.float64).T
        for seed in range(len(evaluated[0].outcomes))
    ]


class Search:
    """The trials of one tuning, in a SQLite file; a context manager.

    Settings are priced by `plan`. Where a ledger is charged there is one worker, so that a spent
    budget leaves at most one trial half done.

    Raises:
      FedspeechError: if the store holds trials of other speech.
    """

    def __init__(
        self,
        store: Path,
        grounds: Sequence[Ground],
        plan: PrivacyPlan,
        space: Space,
        *,
        directions: Sequence[Direction],
        workers: int,
        progress: RunProgress,
        charge: Path | None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.grounds, self.space = tuple(grounds), space
        self._plan, self._progress, self._charge = plan, progress, charge
        self._workers = 1 if charge else workers
        self._pool: WorkerPool | None = None
        self._scratch = store.resolve().parent / "trials"
        self._prices: dict[tuple[float, float], Guarantee] = {}
        self._study = optuna.create_study(
            study_name=STUDY,
            storage=f"sqlite:///{store.resolve()}",
            directions=list(directions),
            sampler=optuna.samplers.RandomSampler(seed=0),  # asks nothing: see `suggestion`
            load_if_exists=True,
        )
        runs = {str(ground.seed): ground.job.run_id for ground in grounds}
        if self._study.user_attrs.setdefault("runs", runs) != runs:
            raise ArgumentRefused(
                f"the trials in {store} are of other speech or another base under the same "
                "settings; choose another `out`"
            )
        self._study.set_user_attr("runs", runs)

    def __enter__(self) -> Search:
        """Clears what killed trials left."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Ends the workers; what they were doing is lost if something went wrong."""
        if self._pool is not None:
            if kind is not None:
                self._pool.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def price(self, setting: Setting) -> Guarantee:
        """The guarantee of all planned rounds under a setting.

        Raises:
          ScenarioError: if the plan refuses the setting.
        """
        key = (setting.clip_norm, setting.noise_multiplier)
        if key not in self._prices:
            plan = setting.plan(self._plan)
            self._prices[key] = plan.guarantee(plan.rounds)
        return self._prices[key]

    def evaluate(
        self, settings: Sequence[Setting], peers: Sequence[Evaluated] = ()
    ) -> list[Evaluated]:
        """Tries distinct settings, side by side, unless they were tried before.

        A trial is compared on its way with those of the finished `peers` that are at least as
        private.

        Returns:
          One for each setting, in order; fewer where a budget ended the search.
        """
        prices = [self.price(setting) for setting in settings]
        trials = [
            (self._enter(one), one, price) for one, price in zip(settings, prices, strict=True)
        ]
        tasks = []
        for number, setting, price in trials:
            compared = [
                peer for peer in peers if peer.guarantee.epsilon_release <= price.epsilon_release
            ]
            for place, ground in enumerate(self.grounds):
                if str(ground.seed) not in self._trial(number).user_attrs:
                    curves = tuple(peer.outcomes[place].curve for peer in compared)
                    tasks.append((number, ground.seed, setting, curves))
        for (number, seed, setting, _), outcome in self._run(tasks):
            trial = optuna.trial.Trial(self._study, self._trial(number)._trial_id)
            trial.set_user_attr(str(seed), outcome.model_dump(mode="json"))
            if done := self._evaluated(number, setting, self.price(setting)):
                self._say(done)
            if outcome.stopped == "budget":
                break
        found = [done for trial in trials if (done := self._evaluated(*trial))]
        evaluated = [done for done in found if done.stopped != "budget"]
        for done in evaluated:
            self._tell(done)
        return evaluated

    def suggestion(self, number: int, known: Sequence[Evaluated], seed: int) -> Setting:
        """What Optuna's TPE sampler would try as trial `number`, knowing some trials.

        The sampler starts afresh from the trial's number, in memory: a pure function of its
        arguments, where a sampler that lived on would forget its state in a kill.
        """
        if number < len(self._study.trials):
            return self._setting(self._trial(number))
        # A factor far above any number of trials: no two pairs of seed and number draw alike.
        sampler = optuna.samplers.TPESampler(
            seed=seed * 1_000_003 + number, n_startup_trials=10, multivariate=True
        )
        study = optuna.create_study(directions=self._study.directions, sampler=sampler)
        study.add_trials([self._trial(found.number) for found in known])
        return self._setting(study.ask(self._distributions()))

    def _run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Runs trials of single seeds and yields each as it is done."""
        grounds = {ground.seed: ground for ground in self.grounds}
        if self._workers == 1 or len(tasks) == 1:
            for task in tasks:
                yield task, _run_task(grounds[task[1]], task, self._charge, self._scratch)
            return
        if self._pool is None:
            self._pool = WorkerPool(self._workers, _prepare, grounds, self._scratch)
        with worker_deaths_said("finished trials are kept, and the same command goes on"):
            futures = {self._pool.submit(_run_in_worker, task): task for task in tasks}
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()

    def _enter(self, setting: Setting) -> int:
        """The number of a setting's trial; a new one is written whole, in one transaction."""
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if self._setting(trial) == setting:
                return trial.number
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params={name: getattr(setting, name) for name in self._distributions()},
                distributions=self._distributions(),
            )
        )
        return len(trials)

    def _tell(self, found: Evaluated) -> None:
        """Closes a trial in the study, once."""
        # A search that goes on after a kill comes here again, and Optuna refuses a second verdict.
        if self._trial(found.number).state != TrialState.RUNNING:
            return
        if found.stopped:
            self._study.tell(found.number, state=TrialState.PRUNED)
            return
        values = [found.accuracy, found.guarantee.epsilon_release]
        self._study.tell(found.number, values[: len(self._study.directions)])

    def _evaluated(self, number: int, setting: Setting, guarantee: Guarantee) -> Evaluated | None:
        """A trial that is finished under every seed, or has met the end of its budget."""
        stored = self._trial(number).user_attrs
        outcomes = [
            Outcome.model_validate(stored[str(ground.seed)])
            for ground in self.grounds
            if str(ground.seed) in stored
        ]
        if len(outcomes) < len(self.grounds):
            return None
        return Evaluated(number, setting, guarantee, tuple(outcomes))

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _setting(self, trial: FrozenTrial | optuna.Trial) -> Setting:
        return self.space.at(**trial.params)

    def _distributions(self) -> dict[str, BaseDistribution]:
        space = self.space
        found: dict[str, BaseDistribution] = {
            name: _range(axis)
            for name in ("clip_norm", "noise_multiplier", "server_learning_rate")
            if (axis := getattr(space, name)) is not None
        }
        if space.local_epochs is not None:
            found["local_epochs"] = IntDistribution(space.local_epochs[0], space.local_epochs[-1])
        return found

    def _say(self, found: Evaluated) -> None:
        came = {
            "": f"{100 * found.accuracy:.1f}%",
            "hopeless": f"{100 * found.accuracy:.1f}%, hopeless and stopped",
            "budget": "the budget does not cover its rounds",
        }[found.stopped]
        self._progress.say(f"trial {found.number + 1}: {found.setting}: {came}")


Task = tuple[int, int, Setting, tuple[Curve, ...]]  # number, seed, setting, peers


def pareto(search: Search, trials: int, seed: int) -> list[Evaluated]:
    """Seeks high accuracy and small epsilon at once with Optuna's multi-objective TPE sampler.

    Ozaki et al. 2022 (doi:10.1613/jair.1.13188). The first trial is the scenario's own setting, if
    it lies in the range. Trials are chosen in generations of six that know the same others.
    """
    done: list[Evaluated] = []
    while len(done) < trials:
        before = len(done)
        settings = [
            _tidied(
                search.space,
                search.space.own
                if number == 0 and search.space.holds_own()
                else search.suggestion(number, done, seed),
            )
            for number in range(before, min(before + GENERATION, trials))
        ]
        finished = [other for other in done if not other.stopped]
        found = search.evaluate(settings, finished)
        done += {one.number: one for one in found if one.number >= before}.values()
        if len(found) < len(settings) or len(done) == before:
            break  # the budget is spent, or there is nothing else to try
    return done


def _tidied(space: Space, setting: Setting) -> Setting:
    """The same with four digits in what was drawn."""
    return space.at(
        tidy(setting.clip_norm),
        tidy(setting.noise_multiplier),
        tidy(setting.server_learning_rate) if space.server_learning_rate else None,
        setting.local_epochs if space.local_epochs else None,
    )


def _range(values: Axis) -> FloatDistribution:
    # Factors matter here, not differences; an axis without noise is 0, which has no logarithm.
    return FloatDistribution(values[0], values[-1], log=0 < values[0] < values[-1])


# What a worker process works on; a module variable because a process pool has no other place.
_GROUNDS: dict[int, tuple[Ground, Path]] = {}


def _prepare(grounds: dict[int, Ground], scratch: Path) -> None:
    _GROUNDS.update({seed: (ground, scratch) for seed, ground in grounds.items()})


def _run_in_worker(task: Task) -> Outcome:
    ground, scratch = _GROUNDS[task[1]]
    return _run_task(ground, task, None, scratch)


def _run_task(ground: Ground, task: Task, charge: Path | None, scratch: Path) -> Outcome:
    _, _, setting, peers = task
    job = setting.job(ground.job)
    hopeless = Hopeless(ground.base, job.plan.rounds, ground.panel.visibility, peers)
    return run_trial(job, ground.panel, hopeless, charge, scratch)

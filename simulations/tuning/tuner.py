"""One tuning from scenario to recommendation: prepare, trials, choice, page, ready scenario file.

Whatever stops it, what is finished is kept, and the same command with the same folder goes on.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fedspeech.errors import ArgumentRefused, BudgetExhausted, ScenarioError
from fedspeech.files import write_text
from fedspeech.job import Job
from fedspeech.source import source_sha256
from simulations.progress import RunProgress
from simulations.results.run_folder import flat
from simulations.scenario.corpora import EmbeddedCorpus, SentenceCorpus
from simulations.scenario.schema import Scenario
from simulations.scenario.writing import to_toml
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import BuiltExperiment, build_experiment
from simulations.tuning import recommending
from simulations.tuning.folder import give_up, open_folder
from simulations.tuning.page import render
from simulations.tuning.phrasing import recommendation, short
from simulations.tuning.results import Mode, Tuning
from simulations.tuning.search import Evaluated, Ground, Search, pareto
from simulations.tuning.space import Axis, Setting, Space
from simulations.tuning.trial import Panel

Population = Literal["synthetic", "declared public", "charged"]

SEEDS = 3
PARETO_TRIALS = 24


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for.

    Attributes:
      clip_norm: values; None: around the scenario's own; `noise_multiplier` likewise.
      server_learning_rate: values; None: not searched; `local_epochs` likewise.
      seeds: how many, from the scenario's own on; None: three, or one where trials are charged.
      public: the recordings were declared public.
      charge: the population's ledger; None: nothing is charged.
    """

    mode: Mode
    clip_norm: Axis | None = None
    noise_multiplier: Axis | None = None
    server_learning_rate: Axis | None = None
    local_epochs: Axis | None = None
    seeds: int | None = None
    trials: int = PARETO_TRIALS
    within: float = 0.005
    public: bool = False
    charge: Path | None = None


def tune(
    what: Scenario | Experiment,
    request: Request,
    *,
    out: Path | None,
    workers: int | None,
    cache: Path | None,
    progress: RunProgress | None = None,
) -> Path:
    """Tunes a scenario, or an experiment, around its own setting and returns the folder.

    `out` is a new folder, or one of the same tuning to go on with; None: runs/tune-NAME-DATE.
    Results do not depend on the number of `workers`; None: one per core.

    Raises:
      FedspeechError: naming what cannot be used.
    """
    scenario = what if isinstance(what, Scenario) else what.scenario
    population = _population(scenario, request)
    seeds = _seeds(scenario, request)
    space = Space.around(
        scenario, **{axis: getattr(request, axis) for axis in Setting.model_fields}
    )
    settings = _settings(scenario, request, space, seeds, population)
    if isinstance(what, Experiment):  # no path of the scenario names speech in memory
        settings["speech"] = json.dumps(what.speakers.sha256)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = out or Path("runs") / f"tune-{scenario.name}-{stamp}"
    new = not folder.exists()
    held = open_folder(folder, settings)
    workers = workers or os.cpu_count() or 1
    torch.set_num_threads(1)
    with held, progress or RunProgress() as progress:
        progress.say(f"tuning {scenario.name} ({request.mode}); {_rights(population)}")
        try:
            with progress.stage("prepare"):
                experiments = {}
                for seed in seeds:
                    experiments[seed] = build_experiment(
                        what.with_seed(seed),
                        cache=cache_folder(cache), simulation_only=None, workers=workers,
                        progress=progress.advance,
                    )  # fmt: skip
                tuning = _Tuning(scenario, request, space, experiments, population, folder)
        except BaseException:
            if new:  # nothing was tried: what is left would only be in the next one's way
                give_up(folder)
            raise
        try:
            tuning.search(workers, progress)
        except (KeyboardInterrupt, SystemExit):
            progress.say(f"stopped; what is finished is kept: the same with --out {folder} goes on")
            raise
        found = tuning.finish(settings, progress)
        progress.say("")
        for line in found.short:
            progress.say(line)
        for paragraph in found.words:
            progress.say("\n" + paragraph)
        progress.say("")
        if found.recommended:
            progress.say(f"scenario to run: {folder / 'recommended.toml'}")
        progress.say(f"report: {folder / 'tuning.html'}")
    return folder


class _Tuning:
    """The state of one tuning between its stages."""

    def __init__(
        self,
        scenario: Scenario,
        request: Request,
        space: Space,
        experiments: Mapping[int, BuiltExperiment],
        population: Population,
        folder: Path,
    ) -> None:
        self._scenario, self._request, self._space = scenario, request, space
        self._population, self._folder = population, folder
        self._built = experiments[scenario.seed]
        self._plan = self._built.job.plan
        self._grounds = [
            _ground(scenario.with_seed(seed), built, population)
            for seed, built in experiments.items()
        ]
        self._evaluated: list[Evaluated] = []
        # The plan refuses what it would refuse before anything is trained.
        for clip in {space.clip_norm[0], space.clip_norm[-1]}:
            for noise in {space.noise_multiplier[0], space.noise_multiplier[-1]}:
                space.at(clip, noise).plan(self._plan)

    def search(self, workers: int, progress: RunProgress) -> None:
        """Runs the trials.

        Raises:
          BudgetExhausted: if the budget covers none.
        """
        request, two = self._request, self._request.mode == "pareto"
        with (
            progress.stage("trials"),
            Search(
                self._folder / "study.db", self._grounds, self._plan, self._space,
                directions=("maximize", "minimize") if two else ("maximize",),
                workers=workers, progress=progress, charge=request.charge,
            ) as search,
        ):  # fmt: skip
            self._evaluated = (
                pareto(search, request.trials, self._scenario.seed)
                if two
                else search.evaluate(self._space.settings())
            )
        if not self._evaluated:
            raise BudgetExhausted(
                "the budget covers no trial at all; raise privacy.epsilon_budget, or search larger "
                "noise multipliers or fewer rounds"
            )

    def finish(self, settings: Mapping[str, str], progress: RunProgress) -> Tuning:
        """Chooses, and writes results, page and scenario file."""
        with progress.stage("report"):
            found = self._found(settings)
            said = {"short": short(found), "words": tuple(recommendation(found))}
            found = found.model_copy(update=said)
            self._write_scenario(found)
        times = {
            "seconds": sum(progress.seconds.values()),
            "cpu_seconds": sum(progress.cpu_seconds.values()),
        }
        found = found.model_copy(update=times)
        write_text(self._folder / "results.json", found.model_dump_json(indent=1) + "\n")
        write_text(self._folder / "tuning.html", render(found))
        return found

    def _found(self, settings: Mapping[str, str]) -> Tuning:
        request, plan, grounds = self._request, self._plan, self._grounds
        tried, choice = recommending.compare(
            self._evaluated,
            grounds,
            plan,
            within=request.within,
            seed=self._scenario.seed,
            minimum_phones=self._scenario.evaluation.min_segment_phones,
            notice=self._built.job.entropy().notice,
        )
        spent = [one.spent for found in self._evaluated for one in found.outcomes if one.spent]
        return Tuning(
            mode=request.mode,
            scenario=self._scenario.name,
            corpus=self._built.speakers.corpus.name,
            population=self._population,
            visibility=grounds[0].panel.visibility,
            measure=grounds[0].panel.task.accuracy,
            seeds=tuple(ground.seed for ground in grounds),
            members=sum(len(ground.panel.clips) for ground in grounds),
            base=sum(ground.base for ground in grounds) / len(grounds),
            phones=plan.population,
            rounds=plan.rounds,
            within=request.within,
            budget=plan.epsilon_budget if math.isfinite(plan.epsilon_budget) else None,
            rate_rule=self._space.rule,
            tried=tried,
            recommended=recommending.recommended(choice, self._evaluated, plan) if choice else None,
            contours=recommending.contours(self._space, plan) if request.mode == "grid" else (),
            # A ledger only grows, so the account with the most rounds is the latest.
            spent=max(spent, key=lambda held: held.guarantee.rounds, default=None),
            settings=dict(settings),
        )

    def _write_scenario(self, found: Tuning) -> None:
        """Writes the recommended scenario, as `fedspeech simulate --scenario` takes it."""
        path = self._folder / "recommended.toml"
        if found.chosen is None:
            path.unlink(missing_ok=True)
            return
        name = self._scenario.name
        said = {
            "name": f"{name}-tuned",
            "description": f"{name} as `fedspeech tune` recommends it.",
        }
        ready = found.chosen.scenario(self._scenario).with_absolute_paths().model_copy(update=said)
        comment = f"# Tuned by mode {found.mode}.\n# {_rights(found.population)}\n"
        write_text(path, comment + to_toml(ready))


def _ground(scenario: Scenario, built: BuiltExperiment, population: Population) -> Ground:
    """What all trials of one seed share.

    Where nobody's privacy is at stake, trials draw the same coins and the same noise keys, those of
    the scenario's own run, so that they differ in their settings and not in their luck; the budget
    is lifted, so that what lies beyond it can be shown; and sums are taken `ideal`ly, which gives
    the bits of the masked protocol. Where every round is charged, composition counts on fresh
    noise and fresh coins in every trial: nothing is shared, and noise is the operating system's.
    """
    task = built.evaluation()
    if population == "charged":
        job: Job = dataclasses.replace(built.job, noise_entropy="os")
        panel = Panel.of_public_speakers(built, task)
    else:
        job = dataclasses.replace(
            built.job,
            noise_entropy="seeded",
            repeats=built.job.run_id,
            plan=dataclasses.replace(
                built.job.plan, epsilon_budget=math.inf, secure_aggregation="ideal"
            ),
        )
        panel = Panel.of_held_out_phones(built, task)
    if not panel.clips:
        raise ScenarioError(
            "nobody can be evaluated: this scenario has no "
            + ("validation speakers" if population == "charged" else "phones that never train")
        )
    base = float(panel.accuracies(job.load_arrays().initial).mean())
    return Ground(seed=scenario.seed, job=job, panel=panel, base=base)


def _population(scenario: Scenario, request: Request) -> Population:
    """Whose privacy is at stake.

    Raises:
      ScenarioError: if it is somebody's and nothing says who pays.
    """
    if isinstance(scenario.corpus, EmbeddedCorpus | SentenceCorpus):
        if request.public or request.charge:
            raise ArgumentRefused(
                "this scenario makes its own speech: nobody's privacy is at stake, so neither "
                "`public` nor `charge` applies"
            )
        return "synthetic"
    if request.public and request.charge:
        raise ArgumentRefused("give either `public` or `charge`, not both")
    if request.public:
        return "declared public"
    if request.charge is None:
        raise ArgumentRefused(
            "tuning on people's recordings costs privacy: every trial trains on them again, and "
            "the choice between trials tells of them. Tune a synthetic scenario of the same size "
            "instead (free), or say `public` if these recordings are public, or name with `charge` "
            "the population's ledger, to which every trial's rounds are charged"
        )
    if scenario.privacy.mechanism == "none":
        raise ScenarioError(
            'privacy.mechanism is "none": without noise no budget covers a single round, so there '
            "is nothing to charge"
        )
    if not request.charge.parent.is_dir():
        raise ArgumentRefused(
            f"`charge` {request.charge}: there is no folder {request.charge.parent}"
        )
    return "charged"


def _rights(population: Population) -> str:
    """On what ground this tuning may look at results."""
    return {
        "synthetic": "The population is synthetic: tuning costs no privacy.",
        "declared public": "The population was declared public: "
        "tuning was not charged to any budget.",
        "charged": "The population is private: every trial's rounds are charged to its ledger.",
    }[population]


def _seeds(scenario: Scenario, request: Request) -> tuple[int, ...]:
    if request.charge is not None and request.seeds not in (None, 1):
        raise ArgumentRefused(
            f"`charge` goes with one seed, got `seeds` {request.seeds}: another seed draws another "
            "population from the same speakers, and a ledger is of one"
        )
    count = request.seeds or (1 if request.charge else SEEDS)
    return tuple(range(scenario.seed, scenario.seed + count))


def _settings(
    scenario: Scenario,
    request: Request,
    space: Space,
    seeds: tuple[int, ...],
    population: Population,
) -> dict[str, str]:
    """Everything that a result depends on, by name; a folder is gone on with under the same."""
    known: dict[str, Any] = {
        "mode": request.mode,
        "seeds": list(seeds),
        "population": population,
        **{axis.replace("_", " "): getattr(space, axis) for axis in Setting.model_fields},
        "ledger": str(request.charge.resolve()) if request.charge else None,
        # Trials of other code may have other bits, and one search must not mix the two.
        "source code": source_sha256()[:16],
        **dict(flat("scenario.", scenario.with_absolute_paths().model_dump(mode="json"))),
    }
    return {name: json.dumps(value) for name, value in known.items()}

"""The attacks of an audit from scenario to page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedspeech.audits.attack import Attack
from fedspeech.audits.canaries import first
from fedspeech.files import write_text
from simulations.audits.adapter_sizes import with_adapters
from simulations.audits.curves import Accuracy, best_of_each, curves
from simulations.audits.matrix import Kept, matrix, played_both
from simulations.audits.page import render
from simulations.audits.personal_files import read_back
from simulations.audits.playing import Played
from simulations.audits.results import Attacked, CanaryBound, Promise, Traffic
from simulations.audits.subject import Subject, subject_of, twice_spoken
from simulations.audits.views import PROTECTIONS, WATCHERS, View, promised, shown
from simulations.audits.wire import for_network, recorded, traffic
from simulations.evaluation.evaluator import Evaluator
from simulations.progress import RunProgress
from simulations.results.record import Record
from simulations.scenario.schema import Scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import Embedder, anonymizer_of, cache_folder
from simulations.setup.experiment import build_experiment

RESULTS, PAGE = "attacks.json", "audit.html"
_ROUNDS_ON_THE_WIRE = 2


def attack(
    what: Experiment | Scenario,
    attacks: Sequence[Attack],
    out: Path,
    *,
    cache: Path | None,
    workers: int | None,
    progress: RunProgress,
    bounds: tuple[CanaryBound, ...] = (),
) -> Attacked:
    """Attacks an experiment in all views, and writes results and page.

    Synthetic speakers speak twice as much for it; see `simulations.audits.subject`.

    Args:
      what: the experiment, or a scenario.
      attacks: in the order of tables.
      out: the audit's folder; cells that are there already are not played again.
      cache: where features are kept; None: the user's cache.
      workers: processes; None: one per core.
      progress: what shows how far it is.
      bounds: what canaries found, for the page.

    Raises:
      ScenarioError: if this scenario cannot be attacked; the message says why.
      ArgumentRefused: if the folder holds another audit.
    """
    experiment = what
    if isinstance(what, Scenario):
        experiment = Experiment.from_scenario(twice_spoken(what))
    assert isinstance(experiment, Experiment)
    make = _Maker(cache_folder(cache), workers or os.cpu_count() or 1, progress.advance)
    with progress.stage("prepare"):
        subject, evaluator = make(experiment)
    kept = Kept(out, subject)
    with progress.stage("rounds"):
        runs = played_both(subject)
        crossed = kept.or_made("traffic", _Crossed, lambda: _on_the_wire(subject))
    with progress.stage("attacks"):
        cells = matrix(subject, runs, attacks, kept, progress.advance)
    # The last release of the plan as it is, adapted by those who are attacked.
    with progress.stage("files"):
        files = kept.or_made("personal-files", _Files, lambda: _in_files(subject, runs))
    with progress.stage("curves"):
        best = best_of_each(cells, attacks)
        lines = curves(
            subject, runs, best, kept, evaluator.held_out_accuracy, progress.advance,
            lambda: _with_adapters(experiment.scenario, make),
        )  # fmt: skip
    plan = subject.job.plan
    found = Attacked(
        scenario=experiment.scenario.name,
        recorded=bool(getattr(experiment.scenario.corpus, "path", "")),
        phones=plan.population,
        candidates=len(subject.candidates),
        absent=len(subject.absent),
        public=len(subject.public),
        rounds=plan.rounds,
        cohort=plan.expected_cohort,
        mechanism=plan.mechanism,
        noise_multiplier=plan.noise_multiplier,
        delta=plan.delta,
        promises=_promises(subject, runs, evaluator.held_out_accuracy),
        cells=cells,
        curves=lines,
        traffic=crossed.kinds,
        bounds=bounds,
        files=files.says,
    )
    write_text(out / RESULTS, found.model_dump_json(indent=1) + "\n")
    write_text(out / PAGE, render(found))
    return found


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes what is attacked of an experiment."""

    cache: Path
    workers: int
    tell: Callable[[int, int], None]

    def __call__(self, experiment: Experiment) -> tuple[Subject, Evaluator]:
        """Builds it, and divides its phones and clips."""
        built = build_experiment(
            experiment, cache=self.cache, simulation_only=None, workers=self.workers,
            progress=self.tell,
        )  # fmt: skip
        embed = Embedder(built.base, built.adapter, self.cache, self.workers, self.tell,
                         anonymizer_of(experiment.scenario))  # fmt: skip
        return subject_of(experiment, built, embed), Evaluator(built, experiment.scenario)


def _with_adapters(scenario: Scenario, make: _Maker) -> Iterator[tuple[Subject, Accuracy]]:
    """The same phones with each adapter that fits them."""
    for changed in with_adapters(scenario):
        subject, evaluator = make(Experiment.from_scenario(changed))
        yield subject, evaluator.held_out_accuracy


def _promises(
    subject: Subject, runs: dict[bool, Played], accuracy: Accuracy
) -> tuple[Promise, ...]:
    """Epsilon and accuracy of every observer under every protection that was played."""
    reached = {noisy: accuracy(played.releases[-1]) for noisy, played in runs.items()}
    found = []
    for observer in WATCHERS:
        for protection in PROTECTIONS:
            view = View(observer=observer, protection=protection)
            if view.noisy in runs:
                epsilon = promised(subject.job.plan, view)
                found.append(
                    Promise(
                        observer=observer, protection=protection, epsilon=epsilon,
                        accuracy=reached[view.noisy],
                    )
                )  # fmt: skip
    return tuple(found)


class _Files(Record):
    """Whether adapters were read out of files."""

    says: str


def _in_files(subject: Subject, runs: dict[bool, Played]) -> _Files:
    view = View(observer="recipient", protection="both" if True in runs else "nothing")
    return _Files(says=read_back(subject, shown(view, subject, runs[view.noisy]).transcript))


class _Crossed(Record):
    """What crossed the network in the first rounds."""

    kinds: tuple[Traffic, ...]


def _on_the_wire(subject: Subject) -> _Crossed:
    """The first rounds of the plan as they are, masks included, over messages."""
    job = subject.built.job
    if job.plan.groups > 1:  # engines refuse them by name
        return _Crossed(kinds=())
    plan = first(job.plan, min(_ROUNDS_ON_THE_WIRE, job.plan.rounds))
    job = dataclasses.replace(job, plan=plan, noise_entropy="seeded")
    return _Crossed(
        kinds=tuple(
            Traffic(kind=kind, way=way, messages=count, smallest=smallest, largest=largest)
            for kind, way, count, smallest, largest in traffic(for_network(recorded(job)))
        )
    )

"""One run from scenario to report: prepare, rounds, personalize, export, report.

Whatever stops it (a spent budget, Ctrl-C, a failing node) leaves a run folder that can be read: the
ledger, a row per finished round, the last adapter, a summary that says "partial" and a report.
"""

from __future__ import annotations

import datetime
import functools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedspeech.corpora.corpus import group_skipped
from fedspeech.errors import FedspeechError, NoRoundRan
from fedspeech.evaluation.collapse import fell, moved_by_noise, noise_did_it
from fedspeech.models.adapters.files import save_adapter
from fedspeech.models.compute import notice as compute_notice
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import example_paragraph, paragraphs
from fedspeech.queries.training import AdapterTraining
from fedspeech.round import ServerState
from fedspeech.seeds import stream
from server.resuming import Resumed, start
from server.rounds import RoundRecord, stopped_early
from simulations.artifacts.exporting import export_files
from simulations.callbacks.callback import Callback
from simulations.callbacks.configured import loggers
from simulations.callbacks.figures import of_export, of_sections
from simulations.engines.carrying import carrier
from simulations.engines.flower import SuperLink, require_engine
from simulations.engines.in_process import InProcess
from simulations.evaluation.evaluator import Evaluator, StageChoice
from simulations.progress import RunProgress
from simulations.report.phrasing import drawn, price
from simulations.report.writing import write_report
from simulations.results.account import Account
from simulations.results.environment import Engine
from simulations.results.rows import RoundRow, ServerRound, SimulationRound
from simulations.results.run_folder import RunFolder, share_ledger
from simulations.results.spent import account_of, stated
from simulations.results.summary import Summary, Utility
from simulations.run.closing import closing_words, left_out, no_files, no_round
from simulations.run.left_by_shards import overflow_and_clipping, round_time, run_time
from simulations.run.preparing import (
    Prepared,
    audience_of,
    environment,
    prepared,
    require_carried,
    require_first_round,
)
from simulations.scenario.schema import Scenario
from simulations.scenario.stages import TRAINING, models_of, without_rounds
from simulations.scenario.writing import to_toml
from simulations.setup.definition import Experiment
from simulations.setup.heads import head_in_words


def simulate(
    what: Scenario | Experiment,
    *,
    out: Path | None,
    workers: int | None,
    cache: Path | None,
    engine: Engine = "inprocess",
    ledger: Path | None = None,
    progress: RunProgress | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Runs a scenario, or an experiment made of objects, and returns its run folder.

    Args:
      what: to run.
      out: a new or empty folder; None: runs/NAME-DATE below the current folder.
      workers: processes; None: one per core. Results do not depend on it.
      cache: where features are kept; None: the user's cache.
      engine: what carries the messages. Results do not depend on it.
      ledger: of the population, shared with its other runs; None: one for this run alone.
      progress: what shows how far it is; None: the terminal.
      callbacks: told of the run, beside the loggers that the scenario names.

    Raises:
      FedspeechError: naming what cannot be used; KeyboardInterrupt after the folder is in order.
    """
    if isinstance(what, Scenario):
        what = scenario = what.with_absolute_paths()
    else:
        scenario = what.scenario
    if engine != "inprocess":
        require_engine(simulation=engine == "flower")
    callbacks = (*loggers(scenario.callbacks), *callbacks)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = out or Path("runs") / f"{scenario.name}-{stamp}"
    folder = RunFolder.create(path)
    with folder.hold(), progress or RunProgress() as progress:
        try:
            if ledger is not None:
                share_ledger(folder.ledger, ledger)
            folder.write_scenario(to_toml(scenario))
            folder.write_environment(environment(engine))
            progress.say(f"scenario {scenario.name}: {scenario.description}".rstrip(": "))
            if isinstance(what, Experiment):
                for words in what.notices:
                    progress.say(words)
            accept = functools.partial(require_first_round, folder.ledger)
            parts = prepared(what, folder, progress, workers, cache, accept)
            run = Run(parts, engine, callbacks=callbacks)
        except BaseException:
            # Nothing was sent and nothing charged: what this run left would only be in the next
            # one's way. What was synthesized stays in the cache.
            folder.give_up()
            progress.say("stopped before the first round; nothing was sent and nothing is kept")
            raise
        run.to_the_end()
    return folder.path


def _why(error: BaseException) -> str:
    """Why a run stopped, for its summary: never a path of this machine."""
    match error:
        case KeyboardInterrupt():
            return "interrupted"
        case SystemExit():
            return "terminated"
        case FedspeechError():
            return str(error)
        case OSError(strerror=str(words)):
            return words
        case _:
            return f"an error of fedspeech itself ({type(error).__name__})"


class Run:
    """The state of one run between its stages.

    Args:
      resumed: where an interrupted run goes on; None: a new one begins.
      callbacks: told of the run.
    """

    def __init__(
        self,
        prepared: Prepared,
        engine: Engine = "inprocess",
        resumed: Resumed | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.stopped: str | None = None
        self._ended: str | None = None  # why fewer rounds ran than planned, if the run decided it
        self._scenario, self._built = prepared.scenario, prepared.built
        self._folder, self._progress = prepared.folder, prepared.progress
        self._workers, self._engine = prepared.workers, engine
        self._job = self._built.job
        require_carried(self._job, engine)
        self._plan = self._job.plan
        self._evaluator = Evaluator(self._built, self._scenario)
        self._found: dict[str, Any] = {}
        self._choice: StageChoice | None = None
        self._replay = resumed is None or resumed.replay
        # Job and base stand before the first checkpoint, which tells `resume` that they are there.
        if resumed is None:  # the rounds then go on from its first checkpoint, as any other run
            self._job.save(self._folder.job)
            self._built.base.save(self._folder.base)
            resumed = start(self._job, self._folder.path)
            self._rows: list[RoundRow] = []
        else:
            over = resumed.checkpoint.next_round - len(resumed.lost)
            self._rows = [*self._folder.keep_rows(over)]
        self._ledger, self._state = resumed.ledger, resumed.checkpoint.state
        self._audience = audience_of(callbacks, prepared, known=len(self._rows))

    def to_the_end(self) -> None:
        """Goes through the stages; whatever stops them, summary and report are written.

        Raises:
          NoRoundRan: after that, if no round was completed.
        """
        try:
            if self._trains:
                self.rounds()
            else:
                self._progress.say(without_rounds(self._scenario.stage))
            if self._state.completed or not self._trains:  # else the adapter is the base's own
                self.personalize()
                self.export()
        except BaseException as error:
            self.stopped = _why(error)
            raise
        finally:
            self.finish()
        if self._trains and not self._state.completed:
            raise NoRoundRan(no_round(self._summary("partial")))

    @property
    def _trains(self) -> bool:
        """Whether the stage of the product has federated rounds."""
        return self._scenario.stage >= TRAINING

    def rounds(self) -> None:
        """Runs the federated rounds."""
        say = self._progress.say
        say(f"{self._built.speakers.corpus.name}: {self._plan.population:,} phones federate, "
            f"{len(self._built.held_out)} are held out; adapter {self._built.adapter.name}, "
            f"{self._plan.dimension:,} parameters")  # fmt: skip
        if self._built.drawn_from:
            say(drawn(self._plan.population, self._built.drawn_from))
        for words in head_in_words(self._built.base):
            say(words)
        if self._built.sizing is not None:
            say(self._built.sizing.in_words)
        for rule, skipped in group_skipped(self._built.speakers.skipped).items():
            say(f"left out: {len(skipped)} x {rule} (fedspeech data check says which)")
        for words in self._built.speakers.notes:
            say(words)
        for line in self._prices():
            say(line)
        # Said now, and not after hours of training.
        for line in left_out(self._built.base, self._scenario.export.at_end):
            say(line)
        if hidden := self._ledger.example_guarantee():
            say(example_paragraph(hidden))
        if notice := self._job.entropy().notice:
            say(notice[0].upper() + notice[1:] + ". A simulator plays both sides.")
        if computed := compute_notice():
            say(computed[0].upper() + computed[1:] + ".")
        for words in self._ledger.notices:
            say(words)
        self._audience.start()
        with self._progress.stage("rounds", self._plan.rounds), self._carried() as engine:
            engine.run(
                self._folder.job.resolve(),
                self._on_round,
                say,
                resume="replay" if self._replay else "next",
                known=len(self._rows),
            )
        self._ledger.refresh()  # the server charges it, in whatever process it runs
        if self._rows and self._rows[-1].status == "refused":
            self._ended = f"budget reached before round {self._rows[-1].round}"
        elif stopped_early(self._job, self._state):
            self._ended = self._no_more_rounds()
        self.stopped = self._ended

    def _no_more_rounds(self) -> str:
        """Why no further round began, and which price is proven for a number so chosen."""
        assert self._job.early_stopping is not None
        rule, losses = self._job.early_stopping, self._state.public_losses
        planned = price(self._plan.guarantee(self._plan.rounds), "planned")
        return (
            f"the loss on public validation speakers fell no more in {rule.patience} rounds: "
            f"{losses[-1]:.4g} nats after round {len(self._rows)} of {self._plan.rounds}, "
            f"{min(losses):.4g} at its lowest. Rounds that never began cost nothing. The number of "
            "rounds follows from what phones said, so what is promised whatever number came out "
            f"is the plan's price: {planned}"
        )

    def _prices(self) -> Iterator[str]:
        """What the population has spent before, if it has, and what all rounds will cost."""
        ledger, left = self._ledger, self._plan.rounds - len(self._ledger.charges)
        planned = self._plan.guarantee(self._plan.rounds)
        if ledger.rounds_charged == len(ledger.charges):  # of this run alone
            yield paragraphs(planned)
            return
        before, after = ledger.guarantee(), ledger.guarantee(more_rounds=max(0, left))
        yield f"The population has spent, on its ledger so far: {price(before, 'charged')}."
        yield f"This run's plan alone, all rounds: {price(planned, 'planned')}."
        yield "Together, when all rounds of this run are charged too:\n" + paragraphs(after)

    def _carried(self) -> AbstractContextManager[InProcess | SuperLink]:
        """What carries the messages of the rounds."""
        return carrier(self._engine, self._job, self._folder.job.resolve(), self._workers)

    def _on_round(self, record: RoundRecord, state: ServerState) -> None:
        """Keeps the row of a finished round, then shows it."""
        self._state = state
        bytes_up, bytes_down = self._plan.bytes_per_phone(record.cohort)
        row = RoundRow(
            **dict(self._account(record.guarantee)),
            round=record.round + 1,
            status=record.status,
            reason=record.reason or None,
            server=ServerRound(
                cohort=record.cohort,
                reporting=record.reporting,
                wrap_warning=record.wrap_warning,
                signal_to_noise=record.signal_to_noise,
                accumulated_signal_to_noise=record.accumulated_signal_to_noise,
                clip_norm=record.clip_norm,
                **self._evaluator.validation(state.model),
            ),
            simulation_only=SimulationRound(
                held_out_accuracy=self._evaluator.held_out_accuracy(state.model),
                **overflow_and_clipping(self._job, record),
                time=round_time(self._job, record),
            ),
            seconds=record.seconds,
            bytes_up=bytes_up,
            bytes_down=bytes_down,
        )
        self._folder.append(row)
        self._rows.append(row)
        self._progress.round(row, self._plan.rounds)
        self._audience.round(row)

    def personalize(self) -> None:
        """Adapts every held-out phone and scores it, as far as the product's stage has models."""
        with self._progress.stage("personalize"):
            if self._trains:
                self._choice = self._evaluator.choose(self._state.model)
            self._found |= self._evaluator.personalization(self._state.model, self._choice)
        if not self._trains:
            models = models_of(self._scenario.stage)
            sections = (section.of_models(models) for section in self._found["sections"])
            self._found["sections"] = tuple(filter(None, sections))
        self._audience.stage("personalize", of_sections(self._summary("partial")))

    def export(self) -> None:
        """Exports the adapter; a refusal is a result too, and is said.

        Summary and report are on disk before: the interpreter that checks the files is native code,
        and whatever ends this process there takes nothing of the rounds with it.
        """
        if why := no_files(self._built.base, self._scenario.export.at_end):
            self._found["export_skipped"] = why
            return
        before, self.stopped = self.stopped, "the export had begun and had not ended"
        self._write_results("partial")
        with self._progress.stage("export"):
            self._found |= export_files(
                self._folder,
                self._built,
                self._scenario,
                self._summary("partial"),
                stated(self._ledger, self._rows, self._job),
                self._progress,
            )
        self.stopped = before
        self._audience.stage("export", of_export(self._summary("partial")))

    def finish(self) -> None:
        """Writes summary and report, whatever happened before; the smallest and dearest first."""
        status: Literal["complete", "partial"] = "complete" if self._whole else "partial"
        self._ledger.refresh()
        with self._progress.stage("report"):
            shutil.rmtree(self._job.simulation_only, ignore_errors=True)  # norms of single phones
            report = self._write_results(status)
        summary = self._summary(status)  # once more: it now holds the seconds of the report
        self._folder.write_summary(summary)
        # A partial run keeps it: resumed phones that forgot a round would answer it twice.
        if status == "complete":
            shutil.rmtree(self._folder.durable_state, ignore_errors=True)
        self._progress.say(closing_words(summary, report))
        self._audience.end(summary, stated(self._ledger, self._rows, self._job), self._rows)

    def _write_results(self, status: Literal["complete", "partial"]) -> Path:
        """Writes summary, adapter and report."""
        self._folder.write_summary(self._summary(status))
        self._save_adapter()
        return write_report(self._folder.path)

    @property
    def _whole(self) -> bool:
        """Whether every stage was gone through; rounds may end by budget or early stopping."""
        return "sections" in self._found and self.stopped in (None, self._ended)

    def _save_adapter(self) -> None:
        """Writes the adapter that ships with its configuration and model card."""
        shape = AdapterTraining.of(self._built.job.query).adapter
        notice = self._ledger.noise_notice
        words = [
            paragraphs(stated(self._ledger, self._rows, self._job)),
            *([notice.capitalize() + "."] if notice else []),
        ]
        hidden = self._ledger.example_guarantee()
        words += [example_paragraph(hidden)] if hidden else []
        save_adapter(
            self._folder.adapter,
            shape,
            shape.spec.unflatten(self._evaluator.shipped(self._state.model, self._choice)),
            base_sha256=self._built.base.sha256,
            vocabulary=self._built.task.labels,
            rounds=self._adapter_rounds,
            card="\n\n".join(["## Privacy", *words]),
        )

    def _summary(self, status: Literal["complete", "partial"]) -> Summary:
        """Everything known so far."""
        plan = self._plan
        bytes_up, bytes_down = plan.bytes_per_phone(round(plan.expected_in_sum))
        chosen = {"sections": (self._choice.section(),)} if self._choice else {}
        return Summary(
            **dict(self._account(self._ledger.guarantee())),
            scenario=self._scenario.name,
            corpus=self._built.speakers.corpus.name,
            seed=self._scenario.seed,
            # Without `--out`, `--corpus` and the like: a summary names no path of this machine.
            command=f"fedspeech simulate --scenario {self._scenario.name}",
            status=status,
            stopped=self.stopped,
            rounds=self._state.completed,
            rounds_planned=plan.rounds if self._trains else 0,
            phones=plan.population,
            voices=self._built.drawn_from,
            unit_note=self._built.partition.unit_note,
            participation=plan.participation_probability,
            start=self._choice.chosen if self._choice else self._start,
            start_chosen_by="public validation speakers"
            if self._choice
            else "nobody: it is the last one",
            adapter_rounds=self._adapter_rounds,
            adapter=self._built.adapter.name,
            parameters=plan.dimension,
            bytes_up=bytes_up,
            bytes_down=bytes_down,
            bytes_once=len(self._built.base.to_bytes()),
            recordings_sha256=self._built.speakers.sha256,
            utility=self._utility(),
            time=run_time(self._rows, self._job),
            examples_hidden=self._ledger.example_guarantee(),
            seconds=dict(self._progress.seconds),
            cpu_seconds=dict(self._progress.cpu_seconds),
            **(chosen | self._found),
        )

    @property
    def _start(self) -> Literal["base", "federated"]:
        """Where no public speaker chooses: the last adapter, the base's where nothing trains."""
        return "federated" if self._trains else "base"

    @property
    def _adapter_rounds(self) -> int:
        """Completed rounds behind the adapter that ships; 0: none was better than the base."""
        base = self._choice is not None and self._choice.chosen == "base"
        return 0 if base else self._state.completed

    def _utility(self) -> Utility | None:
        """What the server may know of its own success."""
        completed = [row.server for row in self._rows if row.status == "completed"]
        if not completed or not self._evaluator.validation_clips:
            return None
        base = self._evaluator.validation(self._built.job.load_arrays().initial)[
            "validation_accuracy"
        ]
        last, clips = completed[-1], self._evaluator.validation_clips
        federated, ratio = last.validation_accuracy, last.accumulated_signal_to_noise
        assert federated is not None
        by_noise: list[float] = []
        # Every draw is validated like a model, so none is made where there is no fall to explain.
        if ratio is not None and fell(base, federated, clips):
            by_noise = self._by_noise(ratio)
        return Utility(
            base=base,
            federated=federated,
            clips=clips,
            signal_to_noise=ratio,
            collapsed=bool(by_noise) and noise_did_it(base, federated, by_noise),
            by_noise=float(np.median(by_noise)) if by_noise else None,
        )

    def _by_noise(self, ratio: float) -> list[float]:
        """Accuracy on public validation speakers of bases that noise alone has moved."""
        initial = self._built.job.load_arrays().initial
        rng = stream(self._scenario.seed, "noise alone")
        models = moved_by_noise(initial, self._state.model, ratio, rng)
        return [self._evaluator.validation(model)["validation_accuracy"] for model in models]

    def _account(self, spent: Guarantee) -> Account:
        """What has been spent, in the words of results."""
        ledger, budget = self._ledger, self._plan.epsilon_budget
        return account_of(spent, ledger.noise_notice, budget, runs=ledger.runs_charged)

"""One run from scenario to report: prepare, rounds, personalise, export, report.

Whatever stops it (a spent budget, Ctrl-C, a failing node) leaves a run folder that can be read: the
ledger, a row per finished round, the last adapter, a summary that says "partial" and a report.
"""

from __future__ import annotations

import datetime
import math
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fedspeech.errors import FedspeechError
from fedspeech.evaluation.collapse import noise_drowned
from fedspeech.models.adapters.files import save_adapter
from fedspeech.privacy.guarantee import Guarantee as Spent
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import ServerState
from server.rounds import RoundRecord, run_rounds
from server.state import save_checkpoint
from simulations.build import World, build_world, default_cache
from simulations.data import group_skipped
from simulations.exporting import export_files
from simulations.grid import InProcessGrid
from simulations.judging import Judge
from simulations.progress import RunProgress
from simulations.report import write_report
from simulations.report.words import collapse, price
from simulations.results import (
    Guarantee,
    RoundRow,
    RunFolder,
    ServerRound,
    SimulatorRound,
    Summary,
    Utility,
    capture_environment,
)
from simulations.scenario import Scenario

CLIENT_APP = "clients.app:app"
PHONES_WORTH_WORKERS = 2000  # trained over all rounds: what one process does while others start
Seen = dict[str, Any]


def simulate(
    scenario: Scenario, *, out: Path | None, workers: int | None, cache: Path | None
) -> Path:
    """Runs a scenario and returns its run folder.

    Args:
      scenario: what to run.
      out: a new or empty folder; None: runs/NAME-DATE below the current folder.
      workers: processes; None: one per core. Results do not depend on it.
      cache: where features are kept; None: the user's cache.

    Raises:
      FedspeechError: naming what cannot be used; KeyboardInterrupt after the folder is in order.
    """
    workers = workers or os.cpu_count() or 1
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = out or Path("runs") / f"{scenario.name}-{stamp}"
    folder = RunFolder.create(path)
    torch.set_num_threads(1)
    with RunProgress() as progress:
        try:
            folder.write_scenario(scenario.to_toml())
            folder.write_environment(capture_environment(torch_threads=1))
            progress.say(f"scenario {scenario.name}: {scenario.description}")
            with progress.stage("prepare"):
                world = build_world(
                    scenario,
                    cache=cache or default_cache(),
                    eye=folder.path / "eye",
                    workers=workers,
                    progress=progress.advance,
                )
                run = _Run(scenario, world, folder, progress, workers)
        except BaseException:
            # Nothing was sent and nothing charged: what is left would only be in the next run's
            # way. What was synthesised stays in the cache.
            shutil.rmtree(path, ignore_errors=True)
            progress.say(f"stopped before the first round; nothing was sent, {path} is not kept")
            raise
        try:
            run.rounds()
            run.personalise()
            run.export()
        except BaseException as error:
            run.stopped = _why(error)
            raise
        finally:
            run.finish()
    return folder.path


def _why(error: BaseException) -> str:
    """Why a run stopped, for its summary: never a path of this machine."""
    match error:
        case KeyboardInterrupt():
            return "interrupted"
        case FedspeechError():
            return str(error)
        case OSError(strerror=str(words)):
            return words
        case _:
            return f"an error of fedspeech itself ({type(error).__name__})"


def prepare(scenario: Scenario, *, out: Path, workers: int | None, cache: Path | None) -> None:
    """Writes a scenario's job to `out/job.json`, for Flower's own engines."""
    out.mkdir(parents=True, exist_ok=True)
    with RunProgress() as progress:
        with progress.stage("prepare"):
            world = build_world(
                scenario,
                cache=cache or default_cache(),
                eye=None,
                workers=workers or os.cpu_count() or 1,
                progress=progress.advance,
            )
        path = (out / "job.json").resolve()
        world.job.save(path)
        progress.say(
            f"{path}: {world.job.plan.population:,} phones in {world.job.num_shards} shards; run\n"
            f"  flwr run . --stream --federation-config num-supernodes={world.job.num_shards} "
            f"-c 'job=\"{path}\"'"
        )


class _Run:
    """The state of one run between its stages."""

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        folder: RunFolder,
        progress: RunProgress,
        workers: int,
    ) -> None:
        self.stopped: str | None = None
        self._scenario, self._world, self._folder = scenario, world, folder
        self._progress, self._workers = progress, workers
        self._plan = world.job.plan
        self._judge = Judge(world, scenario)
        self._job_path = folder.path / "job.json"
        world.job.save(self._job_path)
        world.base.save(folder.path / "base.safetensors")
        self._ledger = Ledger.open(folder.ledger, self._plan, world.job.run_id, world.job.noise)
        self._state = ServerState.initial(world.job, world.job.load_arrays())
        self._rows: list[RoundRow] = []
        self._found: dict[str, Any] = {}

    def rounds(self) -> None:
        """Runs the federated rounds."""
        say = self._progress.say
        say(f"{self._world.corpus_name}: {self._plan.population:,} phones federate, "
            f"{len(self._world.unseen)} unseen; adapter {self._world.adapter.name}, "
            f"{self._plan.dimension:,} parameters")  # fmt: skip
        for group in group_skipped(self._world.skipped):
            say(f"left out: {group.count} x {group.rule} (fedspeech data check says which)")
        planned = self._plan.guarantee(self._plan.rounds)
        say(planned.words())
        if notice := self._world.job.entropy().notice:
            say(notice[0].upper() + notice[1:] + ". A simulator plays both sides.")
        config = {"job": str(self._job_path)}
        shards = self._world.job.num_shards
        # A run that is over before workers have started needs none; the bits are the same.
        trained = self._plan.rounds * self._plan.expected_cohort
        workers = self._workers if trained >= PHONES_WORTH_WORKERS else 1
        with (
            self._progress.stage("rounds", self._plan.rounds),
            InProcessGrid(CLIENT_APP, shards, config, workers) as grid,
        ):
            run_rounds(grid, self._world.job, self._ledger, self._state, self._on_round)
        if self._rows and self._rows[-1].status == "refused":
            self.stopped = f"budget reached before round {self._rows[-1].round}"

    def _on_round(self, record: RoundRecord, state: ServerState) -> None:
        """Keeps what a finished round left, then shows it."""
        self._state = state
        bytes_up, bytes_down = self._plan.bytes_per_phone(record.cohort)
        row = RoundRow(
            **self._guarantee(record.guarantee).model_dump(),
            round=record.round + 1,
            status=record.status,
            reason=record.reason or None,
            server=ServerRound(
                cohort=record.cohort,
                survivors=record.survivors,
                wrap_warning=record.wrap_warning,
                signal_to_noise=record.signal_to_noise,
                accumulated_signal_to_noise=record.accumulated_signal_to_noise,
                clip_norm=self._plan.clip_norm,
                **self._judge.validation(state.adapter),
            ),
            simulator=SimulatorRound(
                unseen_accuracy=self._judge.unseen_accuracy(state.adapter),
                **_what_only_a_simulator_sees(Path(self._world.job.eye), self._plan, record),
            ),
            seconds=record.seconds,
            bytes_up=bytes_up,
            bytes_down=bytes_down,
        )
        save_checkpoint(self._folder.checkpoints / "last.safetensors", state)
        self._folder.append(row)
        self._rows.append(row)
        self._progress.round(row, self._plan.rounds)

    def personalise(self) -> None:
        """Adapts every unseen phone and judges it."""
        with self._progress.stage("personalise"):
            self._found |= self._judge.personalisation(self._state.adapter)

    def export(self) -> None:
        """Exports the adapter; a refusal is a result too, and is said."""
        self._save_adapter()
        with self._progress.stage("export"):
            self._found |= export_files(
                self._folder,
                self._world.base,
                self._summary("partial"),
                self._ledger.guarantee(),
                licences=self._world.licences,
                speech=self._world.speech,
            )

    def finish(self) -> None:
        """Writes summary and report, whatever happened before; the smallest and dearest first."""
        status: Literal["complete", "partial"] = "complete" if self._whole else "partial"
        with self._progress.stage("report"):
            shutil.rmtree(self._world.job.eye, ignore_errors=True)  # norms of single phones
            self._folder.write_summary(self._summary(status))
            self._save_adapter()
            report = write_report(self._folder.path)
        summary = self._summary(status)
        self._folder.write_summary(summary)
        self._progress.say(closing_words(summary, report))

    @property
    def _whole(self) -> bool:
        """Whether every stage was gone through; a spent budget is an end like another."""
        budget = bool(self._rows) and self._rows[-1].status == "refused"
        return "accuracy" in self._found and (self.stopped is None or budget)

    def _save_adapter(self) -> None:
        """Writes the last completed round's adapter with its configuration and model card."""
        adapter = self._world.adapter
        save_adapter(
            self._folder.adapter,
            adapter,
            adapter.spec.unflatten(self._state.adapter),
            base_sha256=self._world.base.sha256,
            vocabulary=self._world.vocabulary,
            rounds=self._state.completed,
            card="## Privacy\n\n" + self._ledger.guarantee().words(),
        )

    def _summary(self, status: Literal["complete", "partial"]) -> Summary:
        """Everything known so far."""
        plan = self._plan
        bytes_up, bytes_down = plan.bytes_per_phone(round(plan.expected_cohort))
        return Summary(
            **self._guarantee(self._ledger.guarantee()).model_dump(),
            scenario=self._scenario.name,
            corpus=self._world.corpus_name,
            seed=self._scenario.seed,
            command=f"fedspeech simulate --scenario {self._scenario.name}",
            status=status,
            stopped=self.stopped,
            rounds=self._state.completed,
            rounds_planned=plan.rounds,
            phones=plan.population,
            participation=plan.participation_probability,
            best_round=self._state.completed,
            adapter=self._world.adapter.name,
            parameters=plan.dimension,
            bytes_up=bytes_up,
            bytes_down=bytes_down,
            bytes_once=len(self._world.base.to_bytes()),
            utility=self._utility(),
            seconds=dict(self._progress.seconds),
            cpu_seconds=dict(self._progress.cpu_seconds),
            **self._found,
        )

    def _utility(self) -> Utility | None:
        """What the server may know of its own success."""
        completed = [row.server for row in self._rows if row.status == "completed"]
        if not completed or not self._judge.validation_clips:
            return None
        base = self._judge.validation(self._world.job.load_arrays().initial)["validation_accuracy"]
        last, clips = completed[-1], self._judge.validation_clips
        federated, ratio = last.validation_accuracy, last.accumulated_signal_to_noise
        assert federated is not None
        return Utility(
            base=base,
            federated=federated,
            clips=clips,
            signal_to_noise=ratio,
            collapsed=ratio is not None and noise_drowned(ratio, base, federated, clips),
        )

    def _guarantee(self, spent: Spent) -> Guarantee:
        """What has been spent, in the words of results."""
        return guarantee_of(spent, self._plan, self._world.job.entropy().notice)


def guarantee_of(spent: Spent, plan: PrivacyPlan, noise_notice: str | None) -> Guarantee:
    """What a plan's rounds cost, as result files have it."""
    return Guarantee(
        epsilon_release=spent.epsilon_release,
        epsilon_server=spent.epsilon_server,
        delta=spent.delta,
        unit=spent.unit,
        relation_release=spent.relation_release,
        relation_server=spent.relation_server,
        mode=plan.mechanism,
        secure_sum=plan.secure_aggregation,
        secure_sum_server=plan.server if plan.secure_aggregation == "masked" else None,
        trust=spent.trust,
        accountant=spent.accountant,
        noise_notice=noise_notice,
        rounds_charged=spent.rounds,
        no_sampling_because=spent.reason,
        quota=plan.quota,
        budget_release=plan.epsilon_budget if math.isfinite(plan.epsilon_budget) else None,
    )


def _what_only_a_simulator_sees(folder: Path, plan: PrivacyPlan, record: RoundRecord) -> Seen:
    """Collects what shards left of a round: share of clipped deltas, coordinates that wrapped."""
    files = sorted(folder.glob(f"round-{record.round:05d}-shard-*.npz"))
    if not files:
        return {}
    exact = np.zeros(plan.padded_dimension, dtype=np.int64)
    norms = []
    for file in files:
        with np.load(file) as left:
            exact += left["exact_sum"]
            norms.append(left["delta_norms"])
        file.unlink()
    half = plan.modulus // 2
    lengths = np.concatenate(norms)
    return {
        "true_wraps": int(((exact < -half) | (exact >= half)).sum()),
        "share_clipped": float((lengths > plan.clip_norm).mean()) if len(lengths) else None,
    }


def closing_words(summary: Summary, report: Path) -> str:
    """The last lines of a run: what came of it, at which price, and where to look."""
    lines = []
    if (found := summary.accuracy) and found.federated and found.personalised and found.control:
        lines.append(
            f"accuracy on {found.base.phones} phones never trained on: "
            f"base {found.base.mean:.1%}, federated {found.federated.mean:.1%}, "
            f"personalised {found.personalised.mean:.1%} "
            f"(control, another phone's clips: {found.control.mean:.1%})"
        )
    if collapsed := collapse(summary):
        lines.append(collapsed)
    lines.append(f"{price(summary, 'charged')}; who must be honest: {summary.trust}")
    if summary.noise_notice:
        lines.append(summary.noise_notice)
    if summary.export:
        lines.append(f"file for the phone: {report.parent / summary.export.file}")
    if summary.export_refused:
        lines.append(f"export refused: {summary.export_refused}")
    if summary.stopped:
        lines.append(f"stopped: {summary.stopped}")
    lines.append(f"report: {report}")
    return "\n".join(lines)

"""One trial: the rounds of one setting under one seed, evaluated on the way and at the end.

The rounds are those of `fedspeech simulate`, over the same Flower app, with participation limit and
drop-outs. What follows them in a run (personalizing, export, report) is left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import BudgetExhausted
from fedspeech.evaluation.metric import Visibility
from fedspeech.evaluation.personalization import phone_accuracies
from fedspeech.extras import importing
from fedspeech.job import Job
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import ServerState
from fedspeech.tasks.evaluation import TaskEvaluation
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector
from server.rounds import RoundRecord, run_rounds
from simulations.engines.in_process import InProcessGrid
from simulations.results.account import Account
from simulations.results.record import Record, Share
from simulations.results.spent import account_of
from simulations.setup.experiment import BuiltExperiment

with importing("tuning"):
    import optuna

CLIENT_APP = "clients.app:app"
MARKS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the planned rounds at which a trial is evaluated."""

HOPELESS_LOSS: dict[Visibility, float] = {"simulation_only": 0.05, "server": 0.2}
"""A trial that is so far below the base at half its rounds teaches nothing worth the rest. Public
speakers may be unlike the phones that train, so what they lose says less."""

# What `PercentilePruner` keeps: a trial is stopped in the lowest quarter of its peers.
KEPT_PERCENTILE = 75.0
MIN_PEERS = 4

Curve = Mapping[int, float]


class Outcome(Record):
    """What came of a trial.

    Attributes:
      curve: rounds to mean accuracy, at the marks that were reached.
      adapter_sha256: of the last adapter's float32 bytes, hex.
      stopped: "" if it went to its end; "hopeless"; "budget", where the charge was refused.
      signal_to_noise: of the sum of all decoded means; None without noise.
      spent: what the ledger held afterwards; None where nothing is charged.
    """

    accuracies: tuple[Share, ...]
    curve: dict[int, Share]
    adapter_sha256: str
    stopped: Literal["", "hopeless", "budget"] = ""
    signal_to_noise: float | None = None
    spent: Account | None = None


@dataclass(frozen=True, eq=False)
class Panel:
    """Phones or public speakers on whose examples the trials of one seed are compared.

    Attributes:
      visibility: "simulation_only": held-out phones; "server": public validation speakers, all that
        may choose where the speech that trains is private and every release is charged.
    """

    visibility: Visibility
    task: TaskEvaluation[Any]
    clips: tuple[LocalDataset, ...]
    segments: tuple[Mapping[str, str], ...]

    @classmethod
    def of_held_out_phones(cls, built: BuiltExperiment, task: TaskEvaluation[Any]) -> Panel:
        """Phones that never train, on the examples that a run's report evaluates them by."""
        return cls(
            visibility="simulation_only",
            task=task,
            clips=tuple(phone.judged for phone in built.held_out),
            segments=tuple(phone.phone.segments for phone in built.held_out),
        )

    @classmethod
    def of_public_speakers(cls, built: BuiltExperiment, task: TaskEvaluation[Any]) -> Panel:
        """Public validation speakers."""
        clips, speakers = built.job.load_arrays().validation, built.partition.validation
        ends = np.cumsum([0, *(len(speaker.utterances) for speaker in speakers)])
        return cls(
            visibility="server",
            task=task,
            clips=tuple(clips.take(np.arange(*pair)) for pair in itertools.pairwise(ends)),
            segments=tuple(speaker.segments for speaker in speakers),
        )

    def accuracies(self, vector: FloatVector) -> NDArray[np.float64]:
        """Share of its examples that each member's phone answers rightly, shape (n,)."""
        correct = [self.task.mistakes(vector, own) == 0 for own in self.clips]
        return phone_accuracies(correct).astype(np.float64)


@dataclass(frozen=True)
class Hopeless:
    """When a trial is not worth its remaining rounds, by two of Optuna's pruners.

    `ThresholdPruner`: from half its rounds on, worse than the base itself by `HOPELESS_LOSS`.
    `PercentilePruner`: then also in the lowest quarter, at the same round, of finished trials that
    are at least as private; such a trial is on no Pareto front. Both read the figure that chooses
    between settings and nothing else, and peers are named by the caller, so that no verdict depends
    on which worker was faster.

    Attributes:
      base: accuracy before the first round, on the same members.
      peers: curves of finished trials of the same seed to compare with.
    """

    base: float
    rounds: int
    visibility: Visibility = "simulation_only"
    peers: tuple[Curve, ...] = ()

    def __call__(self, curve: Curve) -> bool:
        """Whether to stop a trial with this curve so far."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        half = math.ceil(self.rounds / 2)
        study = optuna.create_study(direction="maximize")
        study.add_trials([_trial(peer, finished=True) for peer in self.peers if peer])
        pruners = (
            optuna.pruners.ThresholdPruner(
                lower=self.base - HOPELESS_LOSS[self.visibility], n_warmup_steps=half
            ),
            optuna.pruners.PercentilePruner(
                KEPT_PERCENTILE, n_startup_trials=MIN_PEERS, n_warmup_steps=half
            ),
        )
        trial = _trial(curve, finished=False)
        return any(pruner.prune(study, trial) for pruner in pruners)


def marks(rounds: int) -> tuple[int, ...]:
    """Rounds after which a trial is evaluated, the last one included."""
    return tuple(sorted({math.ceil(share * rounds) for share in MARKS}))


def run_trial(
    job: Job, panel: Panel, hopeless: Hopeless, ledger: Path | None, scratch: Path | None = None
) -> Outcome:
    """Runs a job's rounds and evaluates them.

    `ledger` is charged for each round before phones are asked for it. Where it is None, nobody's
    privacy is at stake, and an account that prices nothing stands in for it. `scratch` is an
    existing folder for what a trial leaves if it is killed; None: the system's.
    """
    with tempfile.TemporaryDirectory(prefix="trial-", dir=scratch) as folder:
        path = Path(folder) / "job.json"
        job.save(path)
        file, priced = ledger, job.plan
        if file is None:
            file, priced = Path(folder) / "ledger.jsonl", _without_promise(job.plan)
        account = Ledger.open(
            file, priced, job.run_id, job.noise_entropy, "tuning",
            example_cost=job.example_cost, scratch=ledger is None,
        )  # fmt: skip
        watch = _Watch(job, panel, hopeless)
        try:
            # All rounds or none: half a trial would be paid for and compared with nothing.
            account.require_budget(0, job.plan.rounds)
            with InProcessGrid(CLIENT_APP, job.num_shards, {"job": str(path)}) as grid:
                run_rounds(grid, job, account, watch.state, watch.on_round)
        except BudgetExhausted:
            watch.stopped = "budget"
        except _Enough:
            watch.stopped = "hopeless"
        spent = None
        if ledger:
            spent = account_of(
                account.guarantee(), account.noise_notice, job.plan.epsilon_budget,
                runs=account.runs_charged,
            )  # fmt: skip
    return watch.outcome().model_copy(update={"spent": spent})


def _without_promise(plan: PrivacyPlan) -> PrivacyPlan:
    """What an account of rounds on nobody's speech prices: nothing, and at once."""
    return dataclasses.replace(
        plan, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf
    )


class _Enough(Exception):
    """A trial that is not worth its remaining rounds."""


class _Watch:
    def __init__(self, job: Job, panel: Panel, hopeless: Hopeless) -> None:
        self.state = ServerState.initial(job, job.load_arrays())
        self.stopped: Literal["", "hopeless", "budget"] = ""
        self._panel, self._hopeless = panel, hopeless
        self._marks = marks(job.plan.rounds)
        self._curve: dict[int, float] = {}
        self._signal: float | None = None

    def on_round(self, record: RoundRecord, state: ServerState) -> None:
        """Evaluates at the marks; refused rounds end the trial, abandoned ones are part of it."""
        self.state = state
        if record.status == "refused":
            self.stopped = "budget"
            return
        if record.accumulated_signal_to_noise is not None:
            self._signal = record.accumulated_signal_to_noise
        done = record.round + 1
        if done in self._marks:
            self._curve[done] = float(self._panel.accuracies(state.model).mean())
            if done < self._marks[-1] and self._hopeless(self._curve):
                raise _Enough

    def outcome(self) -> Outcome:
        return Outcome(
            accuracies=tuple(map(float, self._panel.accuracies(self.state.model))),
            curve=self._curve,
            adapter_sha256=hashlib.sha256(self.state.model.tobytes()).hexdigest(),
            stopped=self.stopped,
            signal_to_noise=self._signal,
        )


def _trial(curve: Curve, *, finished: bool) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if finished else optuna.trial.TrialState.RUNNING,
        value=curve[max(curve)] if finished else None,
        intermediate_values=dict(curve),
    )

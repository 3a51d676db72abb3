"""`fedspeech export --dry-run-round FILE`: one federated round trained in the exported file.

The phones of the run train through the file's `train` signature instead of torch; what follows is
the round of `fedspeech.round`: the user's clip and noise, sum, server step. The same round is run
with torch beside it. Nothing of either is published or kept, and the run's own ledger is not
touched: a round that is released costs what a round of the run costs. So what is printed is how the
file differs from torch, never what phones said: no size of a cohort, no norm of a delta.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedspeech.errors import ExportRefused
from fedspeech.extras import require
from fedspeech.job import Job
from fedspeech.privacy.examples import ExamplePrivacy
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.phrasing import scientific_up
from fedspeech.queries.training import AdapterTraining, TrainingFunction
from fedspeech.round import ServerState, run_round
from fedspeech.training.cohort import train_cohort
from fedspeech.training.own_trainer import OwnTrainer
from fedspeech.vectors import Delta, FloatVector
from simulations.artifacts.loaded_run import FinishedRun, batch_clips, run_of, trained_model
from simulations.console import Console, Printed
from simulations.report.phrasing import epsilon
from simulations.setup.definition import Experiment
from tflite_export.files import read_model

EXAMPLE_CLIP_NORM = 1.0
EXAMPLE_NOISE_MULTIPLIER = 1.0


@dataclass(frozen=True, kw_only=True)
class RoundCheck(Printed):
    """One round, trained in the file and in torch.

    Attributes:
      file: its name.
      largest_delta_difference: of any coordinate of any phone's delta; file against torch.
      integers_changed: share of the opened sum's integers that differ.
      example_epsilon: of one clip under `train_dp`, for a phone that trains once; apart from the
        phone's own epsilons.
      example_delta: at which delta.
      example_clip_norm, example_noise_multiplier: of `train_dp`.
      clip_norm: of the user: what follows in both cases.
    """

    file: str = ""
    largest_delta_difference: float
    integers_changed: float
    example_epsilon: float
    example_delta: float
    example_clip_norm: float
    example_noise_multiplier: float
    clip_norm: float

    def record(self) -> dict[str, float]:
        """Every figure as plain data."""
        return {name: value for name, value in vars(self).items() if name != "file"}

    def print(self, console: Console) -> None:
        """Prints what came of the round."""
        console.print(
            f"one more round trained in {self.file}: deltas within "
            f"{self.largest_delta_difference:.1e} of torch's; "
            f"{self.integers_changed:.2%} of the sum's integers differ, each by what rounding "
            f"tips\nwith train_dp (clip norm {self.example_clip_norm:g}, noise multiplier "
            f"{self.example_noise_multiplier:g}): epsilon {epsilon(self.example_epsilon)} for one "
            f"clip (zero-out, delta {scientific_up(self.example_delta, 1)}, one round), against "
            "whoever sees the phone's own delta\n"
            f"the user's clip norm of {self.clip_norm:g} and the round's noise followed in all "
            "cases; nothing was published, the run's ledger was not charged. The differences above "
            "are exact figures of phones' own deltas, which only a simulation sees and no epsilon "
            "covers",
            soft_wrap=True,
        )


class _Kept:
    """A training function that remembers the deltas it gave."""

    def __init__(self, train: TrainingFunction) -> None:
        self._train = train
        self.vectors: list[FloatVector] = []

    def __call__(self, *arguments: object) -> list[Delta]:
        deltas = list(self._train(*arguments))  # type: ignore[arg-type]
        self.vectors = [delta.vector for delta in deltas]
        return deltas


def run_on_device(content: bytes, job: Job, adapter: FloatVector) -> RoundCheck:
    """Runs one round three times: in torch, in a personal file, in the file with `train_dp`.

    Sums are taken without masks, which changes no integer. The round starts from the global
    adapter, shape (d,).

    Raises:
      ExportRefused: if the file cannot train as the job says.
    """
    trainer = AdapterTraining.of(job.query).trainer
    if isinstance(trainer, OwnTrainer):
        raise ExportRefused(
            f"the run's phones train by {trainer.trainer}, and the file by this library's own "
            "steps: a round in the file would be another round"
        )
    from tflite_export.on_device import OnDeviceTraining, example_guarantee

    # Seeded noise, so that both rounds meet the same coins and noise.
    plan = dataclasses.replace(job.plan, secure_aggregation="ideal")
    # No folder for exact norms of phones either: a dry run keeps nothing of them.
    job = dataclasses.replace(job, noise_entropy="seeded", plan=plan, simulation_only="")
    arrays = job.load_arrays()
    query = AdapterTraining.of(job.query)
    state = ServerState.initial(job, dataclasses.replace(arrays, initial=adapter))
    private = _hiding_examples(job)
    cost = private.example_cost(max_participations=1)
    assert cost is not None
    plain = dataclasses.replace(query, example_privacy=None)
    hidden = OnDeviceTraining(content, job.base_sha256, example_privacy=private.example_privacy)
    kept = [
        _Kept(train_cohort),
        _Kept(OnDeviceTraining(content, job.base_sha256)),
        _Kept(hidden),
    ]
    sums = []
    for train, asked in zip(kept, (plain, plain, private), strict=True):
        # A ledger of its own: a dry run publishes nothing, so the run's population pays nothing.
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "ledger.jsonl"
            ledger = Ledger.open(path, job.plan, job.run_id, job.noise_entropy, scratch=True)
            under = dataclasses.replace(job, query=asked)
            trained = dataclasses.replace(asked, trainer=train)
            sums.append(run_round(trained, state, under, arrays, ledger, 0)[1])
    by_torch, by_file = (np.stack(train.vectors) for train in kept[:2])
    return RoundCheck(
        largest_delta_difference=float(np.abs(by_torch - by_file).max()),
        integers_changed=float((sums[0] != sums[1]).mean()),
        example_epsilon=example_guarantee(cost).epsilon,
        example_delta=cost.delta,
        example_clip_norm=cost.clip_norm,
        example_noise_multiplier=cost.noise_multiplier,
        clip_norm=job.plan.clip_norm,
    )


def _hiding_examples(job: Job) -> AdapterTraining:
    """The query if it hides examples; else one that does, with what a step of its file can hold."""
    query = AdapterTraining.of(job.query)
    if query.example_cost(max_participations=1) is not None:
        return query
    privacy = ExamplePrivacy(
        noise_multiplier=EXAMPLE_NOISE_MULTIPLIER,
        clip_norm=EXAMPLE_CLIP_NORM,
        delta=job.plan.delta,
    )
    training = dataclasses.replace(query.training, max_examples=batch_clips(job))
    return dataclasses.replace(query, example_privacy=privacy, training=training)


def check_round(file: Path, run: Path | None, experiment: Experiment | None = None) -> RoundCheck:
    """Trains one round of a run in its personal file; publishes and charges nothing.

    Raises:
      MissingExtra: if LiteRT is not installed.
      ExportRefused: if the file cannot train as the run did.
      ScenarioError: if the phones' arrays are not in the cache any more, or it is of sentences.
    """
    require("tflite")
    finished = FinishedRun.open(run or run_of(file), experiment=experiment)
    finished.require_words("dry_run_round")
    trained = trained_model(finished.folder, finished.base)
    adapter = trained.adapter.spec.flatten(trained.parameters)
    found = run_on_device(read_model(file), finished.job, adapter)
    return dataclasses.replace(found, file=file.name)

"""A run folder opened again: its model, its card, and what files of it are compared on."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Corpus, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import ArgumentRefused, FedspeechError, ScenarioError
from fedspeech.evaluation.metric import ACCURACY
from fedspeech.job import Job
from fedspeech.models.adapters.files import load_adapter
from fedspeech.models.base import Base
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.phrasing import example_paragraph
from fedspeech.queries.training import AdapterTraining
from fedspeech.tasks.kws import Kws
from simulations.evaluation.evaluator import Evaluator
from simulations.results.run_folder import RunFolder, read
from simulations.results.spent import account, stated, with_account
from simulations.results.summary import Summary
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import MADE_FOR_TASK, Scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder, parity_speech
from simulations.setup.experiment import build_experiment
from simulations.setup.speakers import (
    SpeakerSplit,
    open_speakers,
    public_spec,
    without_pretraining_speakers,
)

if TYPE_CHECKING:  # they import LiteRT and TensorFlow, which help and rounds do without
    from tflite_export.calibration import Calibration
    from tflite_export.card import Card, TaskOnCard
    from tflite_export.evidence import HeldOut
    from tflite_export.family import Family
    from tflite_export.weights import Trained


JUDGED_CLIPS = 3_000
"""Held-out clips that files are judged on. Where 99 % agree, one in twenty such samples shows less
than 98.7 %."""


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run folder and what its files are compared on; the scenario's corpus may have moved."""

    folder: RunFolder
    scenario: Scenario
    summary: Summary
    base: Base
    voices: SpeakerSplit
    job: Job
    experiment: Experiment | None = None

    @classmethod
    def open(
        cls, run: Path, corpus: Path | None = None, experiment: Experiment | None = None
    ) -> FinishedRun:
        """Reads a run folder; its corpus is opened or drawn again, nothing is trained.

        `corpus` is where the recordings lie now; None: where they lay. An `experiment` whose speech
        is in the memory of this program is not opened again.

        Raises:
          FedspeechError: if the folder is no run folder or lacks a part, or the recordings are not
            those of the run: what is said of the one is not true of the others.
        """
        folder, summary = RunFolder(run), read(run).summary
        if summary is None:
            raise FedspeechError(
                f"{run} has no summary.json: its run was killed before it could end; "
                f"`fedspeech resume {run}` takes it there"
            )
        try:
            base = Base.load(folder.base)
        except (OSError, ValueError) as error:
            raise FedspeechError(f"{run} lacks a usable base: {error}") from error
        # JSON's quoting is TOML's for such a string.
        changes = [f"corpus.path={json.dumps(str(corpus))}"] if corpus else []
        scenario = read_scenario(str(folder.scenario), changes)
        # As when the base was yet to be made: its speakers were then drawn like all others.
        made = scenario.base.source in MADE_FOR_TASK
        voices = experiment.speakers if experiment else open_speakers(scenario, base, made=made)
        voices = without_pretraining_speakers(voices, base)
        _require_same_recordings(run, scenario, summary, voices)
        return cls(folder, scenario, summary, base, voices, Job.load(folder.job), experiment)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """What the run's population has spent by now, this run and others.

        Raises:
          LedgerDamaged: if the ledger is gone, does not check, or does not hold the run.
        """
        return account(self.folder, self.job, self.summary)

    @functools.cached_property
    def accounted(self) -> Summary:
        """The summary with what the ledger says today; a later run may have spent more."""
        return with_account(self.summary, self.ledger)

    def require_words(self, function: str) -> None:
        """Refuses a run whose model does not spot words.

        Raises:
          ScenarioError: naming the function that knows words only.
        """
        try:
            Kws.known(self.base)
        except ValueError:
            raise ScenarioError(
                f"{function} takes files that spot words; this run is of sentences"
            ) from None

    @property
    def speech(self) -> NDArray[np.float32]:
        """Public utterances, or their features, on which files are held against the model."""
        voices = self.voices
        return parity_speech(self.base, voices.public_corpus, voices.partition.validation)

    def family(
        self, trained: Trained, personal: str | None = None, recordings: Path | None = None
    ) -> Family:
        """The files of this run's model and everything that they are compared on.

        `personal` names the phone whose own adapter it is; what that learned from is left out. The
        integer files are calibrated on `recordings`, where such a folder is given.

        Raises:
          ExportRefused: if no files are made of the run's task, they need other recordings than
            that, or the run has too little to judge them.
        """
        from tflite_export.families import family_of
        from tflite_export.family import Material

        family, voices = family_of(self.voices.task.name, self.base), self.voices
        if recordings and not family.own_recordings:
            raise ArgumentRefused(
                f"`calibration`: files of the task {family.task.name} are calibrated on the run's "
                f"own public utterances, not on {recordings}; leave it out"
            )
        phones = [
            self._judged(phone) if phone.phone_id == personal else phone
            for phone in voices.partition.held_out
        ]
        partition = dataclasses.replace(voices.partition, held_out=tuple(phones))
        judged = dataclasses.replace(voices, partition=partition)
        material = Material(
            speech=self.speech,
            held_out=lambda: held_out_clips(self.base, judged, JUDGED_CLIPS),
            calibration=lambda: calibration(self.base, voices, self.scenario, recordings),
            batch_clips=batch_clips(self.job),
        )
        return family.of(trained, material)

    def _judged(self, phone: Phone) -> Phone:
        """A phone with the clips that it is judged by only."""
        settings = self.scenario.personalization
        most = max(*settings.shots, settings.headline_shots)
        takes = self.voices.task.split(phone, most, seed=self.scenario.seed, reserve=most)
        return dataclasses.replace(phone, utterances=takes.judged)

    def trained(self, adapter: str = "global") -> tuple[Trained, Card]:
        """The "global" adapter, or one held-out phone's own by its pseudonym, with its card.

        Raises:
          FedspeechError: if there is no such phone, the folder's adapter cannot be used, or no
            files are made of the run's task.
        """
        from tflite_export.families import family_of

        trained = trained_model(self.folder, self.base)
        # Not the summary as it stands: later runs on a shared ledger have spent more since.
        rows = read(self.folder.path).rows
        summary, spent = self.accounted, stated(self.ledger, rows, self.job)
        voices = self.voices
        task = family_of(voices.task.name, self.base).task
        if adapter == "global":
            return trained, model_card(trained, task, summary, spent, voices.licenses)
        # Phones that never trained: what each adapts to is made again from the scenario.
        names = sorted(phone.phone_id for phone in voices.partition.held_out)
        if adapter not in names:
            raise ArgumentRefused(
                f"`adapter` is global or one of the {len(names)} held-out phones of the run, such "
                f"as {', '.join(names[:3])}; got {adapter!r}"
            )
        built = build_experiment(
            self.experiment or self.scenario,
            cache=cache_folder(),
            simulation_only=None,
            workers=1,
            progress=lambda *_: None,
        )
        spec = trained.adapter.spec
        own, accuracies = Evaluator(built, self.scenario).personal(
            spec.flatten(trained.parameters), adapter
        )
        trained = dataclasses.replace(trained, parameters=spec.unflatten(own))
        return trained, model_card(
            trained, task, summary, spent, voices.licenses, adapter, accuracies
        )


def _require_same_recordings(
    run: Path, scenario: Scenario, summary: Summary, voices: SpeakerSplit
) -> None:
    """Refuses recordings on which the run was not made.

    Raises:
      FedspeechError: naming the folder and the way out.
    """
    if voices.sha256 == summary.recordings_sha256:
        return
    place = getattr(scenario.corpus, "path", "")
    raise ArgumentRefused(
        f"{place or summary.corpus} holds other recordings than {run} was made on "
        f"({voices.sha256[:12]} now, {summary.recordings_sha256[:12]} then): its figures are not "
        "of them; name the folder of the run's own with `corpus`"
    )


def run_of(file: Path) -> Path:
    """The run folder in which a file lies.

    Raises:
      FedspeechError: if it lies in none, or there is no such file.
    """
    if not file.is_file():
        raise FedspeechError(f"there is no file {file}")
    for folder in file.resolve().parents:
        if (folder / "job.json").is_file():
            return folder
    raise FedspeechError(
        f"{file} lies in no run folder: name the run that it came of, as in "
        f"`fedspeech export RUN --verify {file}`"
    )


def card_of(file: Path) -> dict[str, Any]:
    """The card inside a file of the family.

    Raises:
      ExportRefused: if there is no such file or it carries no card.
    """
    from tflite_export.adapter_file import read_adapter
    from tflite_export.files import model_bytes, read_file
    from tflite_export.flatbuffer import read_card
    from tflite_export.interchange.executorch_file import ExecutorchModel
    from tflite_export.interchange.onnx_file import OnnxModel
    from tflite_export.interpreter import TfliteModel

    content = read_file(file)
    if file.suffix == ".safetensors":
        return read_adapter(content).card
    if file.suffix == ".onnx":
        return OnnxModel(content).card
    if file.suffix == ".pte":
        return ExecutorchModel(content).card
    return read_card(TfliteModel(model_bytes(content, file.name)).content)


def held_out_clips(base: Base, voices: SpeakerSplit, most: int | None = None) -> HeldOut:
    """Clips of held-out phones, on whom nothing is trained, decided or calibrated.

    `most` keeps about so many, the same number of every phone; None keeps all.
    """
    from tflite_export.evidence import HeardClips, HeldOut

    phones = voices.partition.held_out
    # The same number of every phone, so that no talkative one decides.
    each = None if most is None else max(1, most // len(phones))
    clips = [
        (phone.phone_id, clip)
        for phone in phones
        for clip in _spread(phone.utterances, each or len(phone.utterances))
    ]
    return HeldOut(
        source=voices.corpus.name,
        waveforms=HeardClips(base, voices.corpus, [clip for _, clip in clips]),
        labels=base.vocabulary.encode([clip.word for _, clip in clips]),
        users=np.array([user for user, _ in clips]),
    )


def calibration(
    base: Base, voices: SpeakerSplit, scenario: Scenario, own: Path | None = None
) -> Calibration:
    """Clips of what the base was trained on, as if recorded like the run's, or of `own` recordings.

    Raises:
      ExportRefused: if the base's training speakers cannot be found again, or the own recordings
        are too few or a phone's.
    """
    from tflite_export.calibration import Calibration, synthetic_public

    phones = (*voices.partition.federated, *voices.partition.held_out)
    if own is not None:
        # By what is in the sound: a folder may hold a phone's clip under another name.
        forbidden = {voices.corpus.fingerprint(clip) for clip in utterances_of(phones)}
        return Calibration.of_recordings(base, open_corpus(own), forbidden)
    corpus: Corpus
    if base.provenance.get("corpus") == "synthetic" or not isinstance(
        scenario.corpus, FolderCorpus
    ):
        corpus = synthetic_public(base, scenario.lexicon)
    else:  # as `fedspeech pretrain --corpus` made it: recorded speakers, synthetic negatives
        pretraining = Scenario(name="pretrain", seed=int(base.provenance["seed"]))
        corpus = JoinedCorpus(
            open_corpus(
                Path(scenario.corpus.path),
                max_unusable_share=scenario.corpus.max_unusable_share,
            ),
            SyntheticCorpus(public_spec(pretraining, Vocabulary(Kws.known(base)))),
        )
    clips = Calibration.of(base, corpus, {who for phone in phones for who in phone.people})
    tally = getattr(voices.corpus, "tally", None)  # of recordings; the synthesizer has no files
    return clips.recorded_at(tally.rates_hz, base.encoder.rate_hz) if tally else clips


def trained_model(folder: RunFolder, base: Base) -> Trained:
    """The base with the folder's adapter."""
    from tflite_export.weights import Trained

    try:
        # Bound by hash: on another encoder the same numbers compute something else, unnoticed.
        adapter, parameters = load_adapter(folder.adapter, base)
    except ValueError as error:
        raise FedspeechError(str(error)) from error
    return Trained(base=base, adapter=adapter, parameters=parameters)


def model_card(
    trained: Trained,
    task: TaskOnCard,
    summary: Summary,
    spent: Guarantee,
    licenses: Mapping[str, str],
    phone: str | None = None,
    accuracies: dict[str, float] | None = None,
) -> Card:
    """The card of a run's adapter: accuracy by segment, or of the one phone whose own it is."""
    from tflite_export.card import Card, SegmentAccuracy

    metrics = []
    if phone and accuracies:
        metrics = [SegmentAccuracy(segment="phone", value=phone, phones=1, accuracy=accuracies)]
    elif (accuracy := summary.section(ACCURACY)).whole:
        cells = {("all", "all"): accuracy.by_model()} | {
            (segment.name, segment.value): found
            for segment, found in accuracy.by_segment(accuracy.names[0]).items()
        }
        metrics = [
            SegmentAccuracy(
                segment=segment,
                value=value,
                phones=found["base"].phones or 0,
                accuracy={model: metric.value for model, metric in found.items()},
            )
            for (segment, value), found in cells.items()
        ]
    return Card.of(
        trained,
        task=task,
        privacy=spent,
        noise_notice=summary.noise_notice,
        example_level=example_paragraph(summary.examples_hidden)
        if summary.examples_hidden
        else None,
        metrics=tuple(metrics),
        metrics_visibility="simulation_only",
        data_licenses=dict(licenses),
        phone=phone,
    )


def batch_clips(job: Job) -> int:
    """Clips that one training step may hold, as the phones of the run took it."""
    query = AdapterTraining.of(job.query)
    if query.example_privacy is not None:  # any number of them may be in a step by their coins
        return query.training.max_examples
    return min(query.training.batch_size, query.training.max_examples)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items, evenly spread over all."""
    if count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]

"""The files for the phone, made and checked from what stands in a run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fedspeech.corpora.corpus import Corpus
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import Phone
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.corpora.takes import split_takes
from fedspeech.errors import ExportRefused, FedspeechError, LedgerDamaged, ScenarioError
from fedspeech.job import Job
from fedspeech.models.adapters.files import load_adapter
from fedspeech.models.base import Base
from fedspeech.privacy.guarantee import Guarantee
from simulations.build import (
    Voices,
    World,
    build_world,
    default_cache,
    open_voices,
    parity_speech,
    public_spec,
    without_teachers,
)
from simulations.judging import Judge
from simulations.report import write_report
from simulations.results import ExportedFile, FamilyFile, RunFolder, Summary, read
from simulations.scenario import FolderCorpus, Scenario, read_scenario

if TYPE_CHECKING:  # they import LiteRT and TensorFlow's world, which help and rounds do without
    from tflite_export.calibration import Calibration
    from tflite_export.card import Card
    from tflite_export.evidence import Evidence, HeldOut
    from tflite_export.family import Exported
    from tflite_export.weights import Trained

RUN_FORMATS = ("float", "streaming", "personal", "adapter")
"""What a run exports by itself: what equals the trained model logit by logit, so that few clips
show it. Files with fewer bits are judged on every held-out clip: `fedspeech export RUN`."""

RUN_HELD_OUT_CLIPS = 64


def export_files(
    folder: RunFolder, world: World, summary: Summary, spent: Guarantee
) -> dict[str, Any]:
    """Exports a run's adapter in the formats that phones want first.

    Args:
      folder: of the run.
      world: of the run.
      summary: what the card says of accuracy.
      spent: what the card says of privacy.

    Returns:
      The summary's fields `export`, `export_family` and `export_refused`.

    Raises:
      FedspeechError: if the folder holds no usable adapter for this base.
    """
    from tflite_export.evidence import Evidence
    from tflite_export.family import export_family

    trained = _trained(folder, world.base)
    held_out = held_out_clips(world.voices, RUN_HELD_OUT_CLIPS)
    card = _card(trained, summary, spent, world.licences)
    try:
        exported = export_family(
            Evidence(trained, world.speech, held_out),
            card,
            RUN_FORMATS,
            folder=folder.export,
            batch_clips=_batch_clips(world.job),
        )
    except ExportRefused as error:
        return {"export": None, "export_family": (), "export_refused": str(error)}
    return _found(exported, len(world.speech))


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run folder and what its files are compared on.

    Attributes:
      folder: of the run.
      scenario: of the run, its corpus perhaps moved.
      summary: of the run.
      base: of the run.
      voices: who speaks in it.
      job: of the run.
    """

    folder: RunFolder
    scenario: Scenario
    summary: Summary
    base: Base
    voices: Voices
    job: Job

    @classmethod
    def open(cls, run: Path, corpus: Path | None = None) -> FinishedRun:
        """Reads a run folder; its corpus is opened or drawn again, nothing is trained.

        Args:
          run: the folder.
          corpus: where the recordings lie now; None: where they lay.

        Raises:
          FedspeechError: if the folder is no run folder or lacks a part.
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
        changes = [f"corpus.path={json.dumps(str(corpus))}"] if corpus else []
        scenario = read_scenario(str(folder.scenario), changes)
        voices = without_teachers(open_voices(scenario), base)
        return cls(folder, scenario, summary, base, voices, Job.load(folder.job))

    def evidence(self, trained: Trained, personal: str | None = None) -> Evidence:
        """Everything that files of this run are compared on.

        Args:
          trained: the run's base with one of its adapters.
          personal: the phone whose own adapter it is; what that learned from is left out.
        """
        from tflite_export.evidence import Evidence

        speech = parity_speech(self.voices.public_corpus, self.voices.partition.validation)
        phones = [
            self._judged(phone) if phone.phone_id == personal else phone
            for phone in self.voices.partition.unseen
        ]
        partition = dataclasses.replace(self.voices.partition, unseen=tuple(phones))
        voices = dataclasses.replace(self.voices, partition=partition)
        return Evidence(trained, speech, held_out_clips(voices))

    def _judged(self, phone: Phone) -> Phone:
        """A phone with the clips that it is judged by only."""
        settings = self.scenario.personalisation
        most = max(*settings.takes, settings.headline_takes)
        takes = split_takes(
            phone, self.voices.vocabulary.targets, most, seed=self.scenario.seed, reserve=most
        )
        return dataclasses.replace(phone, utterances=takes.judged)

    def trained(self, adapter: str = "global") -> tuple[Trained, Card]:
        """The global adapter, or one unseen phone's own, with its card.

        Args:
          adapter: "global" or a phone's pseudonym.

        Raises:
          FedspeechError: if there is no such phone, or the folder's adapter cannot be used.
        """
        trained = _trained(self.folder, self.base)
        spent = self.job.plan.guarantee(_rounds_charged(self.folder.ledger))
        voices = self.voices
        licences = {corpus.name: corpus.licence for corpus in (voices.corpus, voices.public_corpus)}
        if adapter == "global":
            return trained, _card(trained, self.summary, spent, licences)
        names = sorted(phone.phone_id for phone in voices.partition.unseen)
        if adapter not in names:
            raise ScenarioError(
                f"--adapter is global or one of the {len(names)} unseen phones of the run, such as "
                f"{', '.join(names[:3])}; got {adapter!r}"
            )
        world = build_world(
            self.scenario, cache=default_cache(), eye=None, workers=1, progress=lambda *_: None
        )
        spec = trained.adapter.spec
        own, accuracies = Judge(world, self.scenario).personal(
            spec.flatten(trained.parameters), adapter
        )
        trained = dataclasses.replace(trained, parameters=spec.unflatten(own))
        return trained, _card(trained, self.summary, spent, licences, adapter, accuracies)


def export_run(
    run: Path,
    out: Path | None,
    *,
    adapter: str = "global",
    formats: Sequence[str] = (),
    corpus: Path | None = None,
) -> None:
    """`fedspeech export RUN`: exports an adapter of a finished or interrupted run.

    Needs the run folder, and the recordings if the run was on recordings.

    Args:
      run: the folder.
      out: where the files go; default RUN/export, and RUN/export/PHONE for a phone's own adapter.
      adapter: "global" or an unseen phone's pseudonym.
      formats: which files; none means all.
      corpus: where the run's recordings lie now, if they were moved.

    Raises:
      FedspeechError: if the folder is no run folder or lacks a part.
      ExportRefused: naming the checks that failed and their figures; what passed is published.

    What is written to RUN/export also goes into the run's summary and report.
    """
    from tflite_export.family import FORMATS, export_family
    from tflite_export.verification import INTEGER_KINDS

    formats = formats or FORMATS
    finished = FinishedRun.open(run, corpus)
    trained, card = finished.trained(adapter)
    personal = None if adapter == "global" else adapter
    target = out or finished.folder.export / (personal or "")
    evidence = finished.evidence(trained, personal)
    exported = export_family(
        evidence,
        card,
        formats,
        folder=target,
        calibration=calibration(finished.base, finished.voices, finished.scenario)
        if set(formats) & set(INTEGER_KINDS)
        else None,
        batch_clips=_batch_clips(finished.job),
    )
    show(exported, Console())
    if personal is None and out is None:
        found = _found(exported, len(evidence.speech))
        finished.folder.write_summary(finished.summary.model_copy(update=found))
        write_report(run)
    if exported.refused:
        raise ExportRefused(
            "not published: "
            + "; ".join(f"{kind}: {why}" for kind, why in exported.refused.items())
        )


def verify_file(file: Path, run: Path | None, corpus: Path | None = None) -> None:
    """`fedspeech export --verify FILE`: checks a file against its run and prints every figure.

    Args:
      file: of the family.
      run: the run that it came of; None: the run folder in which it lies.
      corpus: where the run's recordings lie now, if they were moved.

    Raises:
      ExportRefused: naming the check that failed and its figure.
    """
    from tflite_export.verification import verify

    finished = FinishedRun.open(run or run_of(file), corpus)
    phone = card_of(file).get("phone")
    trained, _ = finished.trained(phone or "global")
    found = verify(file, finished.evidence(trained, phone))
    table = Table(box=None, pad_edge=False, title=f"{found.file} ({found.kind}): passed")
    for name in ("check", "figure", "allowed", "over"):
        table.add_column(name, justify="left" if name in ("check", "over") else "right")
    for check in found.checks:
        table.add_row(
            check.name, f"{check.figure:.4g}", f"{check.rule} {check.limit:g}", check.over
        )
    console = Console()
    console.print(table)
    counted = ", ".join(f"{count} {name}" for name, count in found.operators.items())
    console.print(f"{found.size_bytes:,} bytes, SHA-256 {found.sha256}", highlight=False)
    if counted:
        console.print(f"builtin operators only: {counted}", highlight=False)


def card_of(file: Path) -> dict[str, Any]:
    """The card inside a file of the family.

    Raises:
      ExportRefused: if there is no such file or it carries no card.
    """
    from tflite_export.adapter_file import read_adapter
    from tflite_export.flatbuffer import read_card
    from tflite_export.interpreter import TfliteModel

    content = model_bytes(file)
    if file.suffix == ".safetensors":
        return read_adapter(content).card
    return read_card(TfliteModel(content).content)


def model_bytes(file: Path) -> bytes:
    """The bytes of a file, or of the model in a C array.

    Raises:
      ExportRefused: if there is no such file, or no array in it.
    """
    from tflite_export.c_array import from_c_array

    try:
        content = file.read_bytes()
    except OSError as error:
        raise ExportRefused(f"cannot read the exported file {file}: {error}") from error
    if file.suffix == ".cc":
        content = from_c_array(content.decode("utf-8", errors="replace"))
    return content


def run_of(file: Path) -> Path:
    """The run folder in which a file lies.

    Raises:
      FedspeechError: if it lies in none.
    """
    for folder in file.resolve().parents:
        if (folder / "job.json").is_file():
            return folder
    raise FedspeechError(
        f"{file} lies in no run folder: name the run that it came of, as in "
        f"`fedspeech export RUN --verify {file}`"
    )


def held_out_clips(voices: Voices, most: int | None = None) -> HeldOut:
    """Clips of unseen phones, on whom nothing is trained, decided or calibrated.

    Args:
      voices: who speaks.
      most: keeps about so many, the same number of every phone; None keeps all.
    """
    from tflite_export.evidence import HeldOut

    phones = voices.partition.unseen
    each = None if most is None else max(1, most // len(phones))
    clips = [
        (phone.phone_id, clip)
        for phone in phones
        for clip in _spread(phone.utterances, each or len(phone.utterances))
    ]
    return HeldOut(
        source=voices.corpus.name,
        waveforms=voices.corpus.waveforms([clip for _, clip in clips]),
        labels=np.array([voices.vocabulary.label(clip.word) for _, clip in clips], dtype=np.int64),
        users=np.array([user for user, _ in clips]),
    )


def calibration(base: Base, voices: Voices, scenario: Scenario) -> Calibration:
    """Clips of what the base was trained on; see `tflite_export.calibration`.

    Raises:
      ExportRefused: if the base's training speakers cannot be found again.
    """
    from tflite_export.calibration import Calibration, synthetic_public

    phones = (*voices.partition.federated, *voices.partition.unseen)
    corpus: Corpus
    if base.provenance.get("corpus") == "synthetic" or not isinstance(
        scenario.corpus, FolderCorpus
    ):
        corpus = synthetic_public(base, scenario.lexicon)
    else:  # as `fedspeech pretrain --corpus` made it: recorded speakers, synthetic negatives
        pretraining = Scenario(name="pretrain", seed=int(base.provenance["seed"]))
        corpus = JoinedCorpus(
            open_corpus(Path(scenario.corpus.path)),
            SyntheticCorpus(public_spec(pretraining, base.vocabulary)),
        )
    return Calibration.of(base, corpus, {phone.speaker_id for phone in phones})


def show(exported: Exported, console: Console) -> None:
    """Prints what was published and what was not."""
    from tflite_export.family import FILES

    table = Table(box=None, pad_edge=False, title=f"{exported.folder}")
    for name in ("file", "KB", "same answer", "accuracy drop", "checks"):
        table.add_column(name, justify="left" if name == "file" else "right")
    for found in exported.verified:
        row = _family_file(found)
        table.add_row(
            found.file,
            f"{found.size_bytes / 1000:.1f}",
            "" if row.agreement is None else f"{row.agreement:.2%}",
            "" if row.accuracy_drop is None else f"{100 * row.accuracy_drop:+.2f} points",
            str(len(found.checks)),
        )
    for kind in exported.refused:
        table.add_row(FILES[kind], "", "", "refused", "")
    console.print(table)


def _found(exported: Exported, speech_inputs: int) -> dict[str, Any]:
    """A family as fields of the summary."""
    from tflite_export.family import FILES
    from tflite_export.parity import MAX_LOGIT_DIFFERENCE

    family = [_family_file(found) for found in exported.verified]
    family += [
        FamilyFile(kind=kind, file=FILES[kind], refused=why)
        for kind, why in exported.refused.items()
    ]
    by_kind = {found.kind: found for found in exported.verified}
    whole = by_kind.get("float")
    refused = "; ".join(f"{FILES[kind]}: {why}" for kind, why in exported.refused.items())
    return {
        "export_refused": refused or None,
        "export_family": tuple(family),
        "export": None
        if whole is None
        else ExportedFile(
            file=str(Path("export") / whole.file),
            size_bytes=whole.size_bytes,
            parity_max_abs=max(
                check.figure for check in whole.checks if check.name.endswith("largest difference")
            ),
            parity_limit=MAX_LOGIT_DIFFERENCE,
            argmax_agreement=whole.figure("same answer") or 0.0,
            inputs=2 * speech_inputs,
            speech_inputs=speech_inputs,
            sha256=whole.sha256,
        ),
    }


def _family_file(found: Any) -> FamilyFile:
    """One verified file as a record."""
    agreement = found.figure("agreement")
    return FamilyFile(
        kind=found.kind,
        file=found.file,
        size_bytes=found.size_bytes,
        agreement=found.figure("same answer") if agreement is None else agreement,
        accuracy_drop=next(
            (check.figure for check in found.checks
             if check.name.endswith("accuracy drop") and "worst" not in check.name),
            None,
        ),
    )  # fmt: skip


def _trained(folder: RunFolder, base: Base) -> Trained:
    """The base with the folder's adapter."""
    from tflite_export.weights import Trained

    try:
        adapter, parameters = load_adapter(folder.adapter, base.sha256)
    except ValueError as error:
        raise FedspeechError(str(error)) from error
    return Trained(base=base, adapter=adapter, parameters=parameters)


def _card(
    trained: Trained,
    summary: Summary,
    spent: Guarantee,
    licences: dict[str, str] | Any,
    phone: str | None = None,
    accuracies: dict[str, float] | None = None,
) -> Card:
    """The card of a run's adapter: accuracy by segment, or of the one phone whose own it is."""
    from tflite_export.card import Card, SegmentAccuracy

    metrics = []
    if phone and accuracies:
        metrics = [SegmentAccuracy(segment="phone", value=phone, phones=1, accuracy=accuracies)]
    elif summary.accuracy:
        cells = {("all", "all"): summary.accuracy}
        for segment, values in summary.segments.items():
            cells |= {(segment, value): cell.accuracy for value, cell in values.items()}
        metrics = [
            SegmentAccuracy(
                segment=segment,
                value=value,
                phones=found.base.phones,
                accuracy={
                    name: part["mean"] for name, part in found.model_dump(exclude_none=True).items()
                },
            )
            for (segment, value), found in cells.items()
        ]
    return Card.of(
        trained,
        privacy=spent,
        noise_notice=summary.noise_notice,
        example_level=summary.example_level.words if summary.example_level else None,
        metrics=tuple(metrics),
        metrics_eye="simulator",
        data_licences=dict(licences),
        phone=phone,
    )


def _batch_clips(job: Job) -> int:
    """Clips of one training step, as the phones of the run took it."""
    return min(job.training.batch_size, job.training.max_examples)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items, evenly spread over all."""
    if count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _rounds_charged(ledger: Path) -> int:
    """Rounds that a run's own ledger has charged, recovered ones included; opens nothing.

    Raises:
      LedgerDamaged: if a line cannot be read.
    """
    charged = 0
    for number, line in enumerate(ledger.read_bytes().splitlines(), start=1):
        try:
            charged += json.loads(line)["kind"] in ("charge", "recovered")
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerDamaged(f"{ledger}, line {number} is damaged: {error}") from error
    return charged

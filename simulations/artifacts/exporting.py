"""The files for the phone: made and checked at the end of a run, or from its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ExportRefused
from fedspeech.extras import require
from fedspeech.models.base import Base
from fedspeech.privacy.guarantee import Guarantee
from simulations.artifacts.detection import PublicStreams, streaming_rates
from simulations.artifacts.loaded_run import (
    FinishedRun,
    batch_clips,
    card_of,
    held_out_clips,
    model_card,
    run_of,
    trained_model,
)
from simulations.console import Console, Printed, table
from simulations.progress import RunProgress
from simulations.report.writing import write_report
from simulations.results.exported import ExportedFile, FamilyFile
from simulations.results.run_folder import RunFolder
from simulations.results.summary import Summary
from simulations.scenario.schema import Scenario
from simulations.scenario.stages import require_stage
from simulations.setup.definition import Experiment
from simulations.setup.experiment import BuiltExperiment
from simulations.setup.speakers import SpeakerSplit
from tflite_export.needed import extra_of

if TYPE_CHECKING:  # LiteRT, which help and rounds do without
    from tflite_export.card import Card
    from tflite_export.checks import Check
    from tflite_export.family import Family
    from tflite_export.publishing import Exported
    from tflite_export.verification import Verification
    from tflite_export.weights import Trained

# Enough for what equals the model logit by logit; `fedspeech export RUN` takes thousands.
RUN_HELD_OUT_CLIPS = 64


def export_files(
    folder: RunFolder,
    built: BuiltExperiment,
    scenario: Scenario,
    summary: Summary,
    spent: Guarantee,
    progress: RunProgress,
) -> dict[str, Any]:
    """Exports a run's adapter in the formats that phones want first.

    The card says the accuracy of `summary` and the privacy of `spent`.

    Returns:
      The summary's fields `export`, `export_family`, `export_refused`, `export_skipped` and
      `listening`.

    Raises:
      FedspeechError: if the folder holds no usable adapter for this base.
    """
    from tflite_export.families import family_of
    from tflite_export.family import Material
    from tflite_export.publishing import export_family

    try:
        kind = family_of(built.task.name, built.base)
        trained = trained_model(folder, built.base)
        material = Material(
            speech=built.speech,
            held_out=lambda: held_out_clips(built.base, built.speakers, RUN_HELD_OUT_CLIPS),
            batch_clips=batch_clips(built.job),
        )
        family = kind.of(trained, material)
        card = model_card(trained, family.task, summary, spent, built.speakers.licenses)
        streams = PublicStreams(
            built.base, built.speakers, scenario.lexicon, scenario.listening, scenario.seed, trained
        )
        exported = export_family(
            family, card, family.run_kinds, folder=folder.export, progress=progress.file,
            detection=streams.recipe,
        )  # fmt: skip
    except ExportRefused as error:
        return {
            "export": None, "export_family": (), "export_refused": str(error),
            "export_skipped": None,
        }  # fmt: skip
    found = _found(exported, family)
    return found | _listened(exported, built.base, built.speakers, built.job.seed)


@dataclass(frozen=True, eq=False)
class Export(Printed):
    """What was published of an adapter, and what was not.

    Attributes:
      exported: the published files with their figures, and why others were refused.
      family: of the adapter's files.
      card: of the adapter.
    """

    exported: Exported
    family: Family
    card: Card

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.exported.folder

    @property
    def files(self) -> dict[str, Path]:
        """Kind of file, such as "float" or "int8", to the published file."""
        return {found.kind: self.folder / found.file for found in self.exported.verified}

    @property
    def refused(self) -> dict[str, str]:
        """Kind of file to the checks that it failed."""
        return dict(self.exported.refused)

    def __repr__(self) -> str:
        """The kinds of files."""
        refused = f", refused={sorted(self.refused)}" if self.refused else ""
        return f"Export({str(self.folder)!r}, files={sorted(self.files)}{refused})"

    def print(self, console: Console) -> None:
        """Prints what was published and what was not, and whose adapter it is."""
        from tflite_export.card import STAGES

        rows = []
        for found in self.exported.verified:
            row = _family_file(found)
            rows.append(
                (
                    found.file,
                    f"{found.size_bytes / 1000:.1f}",
                    "" if row.agreement is None else f"{row.agreement:.2%}",
                    "" if row.accuracy_drop is None else f"{100 * row.accuracy_drop:+.2f} points",
                    str(len(found.checks)),
                )
            )
        rows += [(self.family.files[kind], "", "", "refused", "") for kind in self.refused]
        header = ("file", "KB", "same answer", "accuracy drop", "checks")
        console.print(table(header, rows, right=header[1:], title=str(self.folder)))
        console.print(f"stage: {self.card.stage}, {STAGES[self.card.stage]}")


class PartlyRefused(ExportRefused):
    """Some files failed their checks and are not published; `export` has the others."""

    def __init__(self, export: Export) -> None:
        """Names the files and the checks that they failed."""
        super().__init__(
            "not published: " + "; ".join(f"{kind}: {why}" for kind, why in export.refused.items())
        )
        self.export = export


def export_run(
    run: Path,
    out: Path | None,
    *,
    adapter: str = "global",
    formats: Sequence[str] = (),
    corpus: Path | None = None,
    calibration_audio: Path | None = None,
    listening_hours: float | None = None,
    experiment: Experiment | None = None,
    progress: RunProgress | None = None,
) -> Export:
    """Exports an adapter of a finished or interrupted run.

    Files go to `out`; None: RUN/export, or RUN/export/PHONE for a phone's own adapter. What is
    written to RUN/export also goes into the run's summary and report. Detection recipes are chosen
    on `listening_hours`; None: as many as the scenario says. An `experiment` is handed over where
    the run's speech is in a program's memory.

    Raises:
      FedspeechError: if the folder is no run folder or lacks a part, or an extra is missing.
      PartlyRefused: naming the checks that failed and their figures; what passed is published.
    """
    finished = FinishedRun.open(run, corpus, experiment)
    if adapter != "global":  # a phone's own
        require_stage(finished.scenario.name, finished.scenario.stage, "personalize")
    require(extra_of(finished.base))
    from tflite_export.publishing import export_family

    trained, card = finished.trained(adapter)
    personal = None if adapter == "global" else adapter
    target = out or finished.folder.export / (personal or "")
    family = finished.family(trained, personal, calibration_audio)
    formats = formats or family.at_hand
    with progress or RunProgress() as progress, progress.stage("export", len(formats)):
        exported = export_family(
            family, card, formats, folder=target, progress=progress.file,
            detection=_streams(finished, listening_hours, trained).recipe,
        )  # fmt: skip
    # One phone's own adapter is no result of the run, and files elsewhere are not its files.
    if personal is None and out is None:
        found = _with_earlier(finished.accounted, _found(exported, family), target)
        found |= _listened(exported, finished.base, finished.voices, finished.scenario.seed)
        finished.folder.write_summary(finished.accounted.model_copy(update=found))
        write_report(run)
    export = Export(exported, family, card)
    # Raised last: what passed is published and recorded whatever became of the others.
    if export.refused:
        raise PartlyRefused(export)
    return export


@dataclass(frozen=True, eq=False)
class Verified(Printed):
    """A file that does what its run's model does.

    Attributes:
      listed: the check that the run lists this file.
      found: every figure of the file.
    """

    listed: Check
    found: Verification

    @property
    def checks(self) -> tuple[Check, ...]:
        """What was measured and what was allowed."""
        return (self.listed, *self.found.checks)

    def __repr__(self) -> str:
        """The file and the number of checks."""
        return f"Verified({self.found.file!r}, {len(self.checks)} checks passed)"

    def print(self, console: Console) -> None:
        """Prints every figure."""
        rows, found = [], self.found
        for check in self.checks:
            limit, figure = check.in_words()
            rows.append((check.name, figure, f"{check.rule} {limit}", check.over))
        header = ("check", "figure", "allowed", "over")
        title = f"{found.file} ({found.kind}): passed"
        console.print(table(header, rows, right=header[1:3], title=title))
        counted = ", ".join(f"{count} {name}" for name, count in found.operators.items())
        console.print(f"{found.size_bytes:,} bytes, SHA-256 {found.sha256}")
        if counted:
            console.print(f"builtin operators only: {counted}")


def verify_file(
    file: Path, run: Path | None, corpus: Path | None = None, experiment: Experiment | None = None
) -> Verified:
    """Checks a file against its run.

    `run` is the run that it came of; None: the run folder in which it lies.

    Raises:
      ExportRefused: naming the check that failed and its figure.
    """
    from tflite_export.card import require_listed
    from tflite_export.files import read_file
    from tflite_export.verification import verify

    finished = FinishedRun.open(run or run_of(file), corpus, experiment)
    sha256 = hashlib.sha256(read_file(file)).hexdigest()
    phone = card_of(file).get("phone")
    # A file may have been copied out of its run; the run still lists its hash.
    published = (file.resolve().parent, finished.folder.export / (phone or ""))
    listed = require_listed(file, sha256, published)
    trained, _ = finished.trained(phone or "global")
    return Verified(listed, verify(file, finished.family(trained, phone)))


def _found(exported: Exported, family: Family) -> dict[str, Any]:
    from tflite_export.checks import logit_difference, same_answer

    whole = next((found for found in exported.verified if found.kind == "float"), None)
    file = None
    if whole is not None:
        file = ExportedFile(
            file=f"export/{whole.file}",
            size_bytes=whole.size_bytes,
            parity_max_abs=logit_difference(whole.checks) or 0.0,
            parity_limit=family.logit_limit,
            argmax_agreement=same_answer(whole.checks) or 0.0,
            inputs=family.num_inputs,
            speech_inputs=family.num_speech_inputs,
            sha256=whole.sha256,
        )
    refused = {family.files[kind]: (kind, why) for kind, why in exported.refused.items()}
    return {
        "export": file,
        "export_family": (
            *(_family_file(found) for found in exported.verified),
            *(FamilyFile(kind=of, file=name, refused=why) for name, (of, why) in refused.items()),
        ),
        "export_refused": "; ".join(f"{name}: {why}" for name, (_, why) in refused.items()) or None,
        "export_skipped": None,
    }


def _streams(finished: FinishedRun, hours: float | None, trained: Trained) -> PublicStreams:
    """What the recipes of a finished run's files are chosen on."""
    scenario = finished.scenario
    settings = scenario.listening
    if hours is not None:
        settings = settings.model_validate({**settings.model_dump(), "hours": hours})
    return PublicStreams(
        finished.base, finished.voices, scenario.lexicon, settings, scenario.seed, trained
    )


def _listened(exported: Exported, base: Base, voices: SpeakerSplit, seed: int) -> dict[str, Any]:
    """The summary's field `listening`, where a streaming file was made."""
    for found in exported.verified:
        if found.kind == "streaming":
            return {"listening": streaming_rates(exported.folder / found.file, base, voices, seed)}
    return {}


def _with_earlier(before: Summary, found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Adds what an earlier export published and this one left in place."""
    made = {entry.kind for entry in found["export_family"]}
    # An export removes files of another model, so those that are still there are of this one.
    kept = tuple(
        entry
        for entry in before.export_family
        if entry.kind not in made and entry.size_bytes and (folder / entry.file).is_file()
    )
    # The figures of the float file go with it.
    whole = before.export if any(entry.kind == "float" for entry in kept) else None
    return found | {
        "export_family": (*kept, *found["export_family"]),
        "export": found["export"] or whole,
    }


def _family_file(found: Any) -> FamilyFile:
    from tflite_export.checks import same_answer

    return FamilyFile(
        kind=found.kind,
        file=found.file,
        size_bytes=found.size_bytes,
        agreement=same_answer(found.checks),
        accuracy_drop=found.figure(" accuracy drop"),
    )

"""The files of a sentence recognizer: made and checked at the end of a run, or from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from simulations.artifacts.loaded_run import FinishedRun
from simulations.console import Console
from simulations.progress import RunProgress
from simulations.report.writing import write_report
from simulations.results.exported import ExportedFile, FamilyFile, exported_fields
from simulations.setup.embedding import parity_speech

if TYPE_CHECKING:  # TensorFlow's world, which help and rounds do without
    from tflite_export.card import Card
    from tflite_export.verification import Verification
    from tflite_export.weights import Trained


def export_sentence_files(
    trained: Trained,
    card: Card,
    speech: NDArray[np.float32],
    folder: Path,
    progress: RunProgress,
) -> dict[str, Any]:
    """Exports files for sentences; returns fields of the summary."""
    from tflite_export.checks import logit_difference, same_answer
    from tflite_export.sentence_verification import MAX_LOGIT_DIFFERENCE
    from tflite_export.sentences import FILES, export_sentences, judged_half

    try:
        exported = export_sentences(trained, card, speech, folder, progress.file)
    except ExportRefused as error:
        return {"export": None, "export_family": (), "export_refused": str(error)}
    family = [
        FamilyFile(
            kind=kind,
            file=found.file,
            size_bytes=found.size_bytes,
            agreement=same_answer(found.checks),
        )
        for kind, found in exported.verified.items()
    ]
    whole, judged = exported.verified.get("float"), len(judged_half(speech))
    file = (
        None
        if whole is None
        else ExportedFile(
            file=f"export/{whole.file}",
            size_bytes=whole.size_bytes,
            parity_max_abs=logit_difference(whole.checks) or 0.0,
            parity_limit=MAX_LOGIT_DIFFERENCE,
            argmax_agreement=same_answer(whole.checks) or 0.0,
            inputs=judged,
            speech_inputs=judged,
            sha256=whole.sha256,
        )
    )
    return exported_fields(file, family, exported.refused, FILES)


def export_run_of_sentences(finished: FinishedRun, out: Path | None) -> None:
    """Exports a run's adapter of sentences again, into its own folder or another."""
    from tflite_export.card import STAGES

    trained, card = finished.trained()
    speech, target = _speech(finished), out or finished.folder.export
    with RunProgress() as progress, progress.stage("export"):
        found = export_sentence_files(trained, card, speech, target, progress)
    if out is None:
        finished.folder.write_summary(finished.accounted.model_copy(update=found))
        write_report(finished.folder.path)
    console = Console()
    console.print(f"stage: {card.stage}, {STAGES[card.stage]}", highlight=False)
    for file in found["export_family"]:
        answer = (
            "" if file.agreement is None else f", same label in {file.agreement:.2%} of windows"
        )
        size = "" if file.size_bytes is None else f": {file.size_bytes / 1000:.1f} KB"
        console.print(f"{file.file}{size}{answer}", highlight=False)
    if found["export_refused"]:
        raise ExportRefused(f"not published: {found['export_refused']}")


def verify_sentence_file(file: Path, finished: FinishedRun) -> Verification:
    """Checks a file for sentences against its run.

    Raises:
      ExportRefused: naming the check that failed and its figure.
    """
    from tflite_export.sentence_verification import verify_sentences
    from tflite_export.sentences import judged_half

    trained, _ = finished.trained()
    return verify_sentences(file, trained, judged_half(_speech(finished)))


def _speech(finished: FinishedRun) -> NDArray[np.float32]:
    """Public sentences of a run, each of them once: those that calibrate judge nothing."""
    voices = finished.voices
    return parity_speech(finished.base, voices.public_corpus, voices.partition.validation)

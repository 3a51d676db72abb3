"""The files of a sentence recogniser: made and checked at the end of a run, or from its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fedspeech.errors import ExportRefused
from simulations.build import parity_speech
from simulations.finished import FinishedRun
from simulations.report import write_report
from simulations.results import ExportedFile, FamilyFile

if TYPE_CHECKING:  # TensorFlow's world, which help and rounds do without
    from tflite_export.card import Card
    from tflite_export.weights import Trained


def export_sentence_files(
    trained: Trained, card: Card, speech: NDArray[np.float32], folder: Path
) -> dict[str, Any]:
    """Exports files for sentences; returns fields of the summary."""
    from tflite_export.sentences import FILES, MAX_LOGIT_DIFFERENCE, export_sentences

    try:
        exported = export_sentences(trained, card, speech, folder)
    except ExportRefused as error:
        return {"export": None, "export_family": (), "export_refused": str(error)}
    family = [
        FamilyFile(
            kind=kind,
            file=FILES[kind],
            size_bytes=(folder / FILES[kind]).stat().st_size,
            agreement=exported.figure(kind, "same label of a window"),
        )
        for kind in exported.verified
    ]
    family += [
        FamilyFile(kind=kind, file=FILES[kind], refused=why)
        for kind, why in exported.refused.items()
    ]
    refused = "; ".join(f"{FILES[kind]}: {why}" for kind, why in exported.refused.items())
    whole = None
    if "float" in exported.verified:
        content = (folder / FILES["float"]).read_bytes()
        whole = ExportedFile(
            file=f"export/{FILES['float']}",
            size_bytes=len(content),
            parity_max_abs=exported.figure("float", "largest logit difference") or 0.0,
            parity_limit=MAX_LOGIT_DIFFERENCE,
            argmax_agreement=exported.figure("float", "same label of a window") or 0.0,
            inputs=len(speech) // 2,
            speech_inputs=len(speech) // 2,
            sha256=hashlib.sha256(content).hexdigest(),
        )
    return {"export": whole, "export_family": tuple(family), "export_refused": refused or None}


def export_run_of_sentences(finished: FinishedRun, out: Path | None) -> None:
    """Exports a run's adapter of sentences again, into its own folder or another."""
    trained, card = finished.trained()
    voices = finished.voices
    speech = parity_speech(voices.public_corpus, voices.partition.validation)
    found = export_sentence_files(trained, card, speech, out or finished.folder.export)
    if out is None:
        finished.folder.write_summary(finished.summary.model_copy(update=found))
        write_report(finished.folder.path)
    console = Console()
    for file in found["export_family"]:
        answer = (
            "" if file.agreement is None else f", same label in {file.agreement:.2%} of windows"
        )
        size = "" if file.size_bytes is None else f": {file.size_bytes / 1000:.1f} KB"
        console.print(f"{file.file}{size}{answer}", highlight=False)
    if found["export_refused"]:
        raise ExportRefused(f"not published: {found['export_refused']}")

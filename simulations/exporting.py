"""The file for the phone, made from what stands in a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fedspeech.corpora.partition import by_group
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import ExportRefused, FedspeechError, LedgerDamaged
from fedspeech.job import Job
from fedspeech.models.adapters.files import load_adapter
from fedspeech.models.base import Base
from fedspeech.privacy.guarantee import Guarantee
from simulations.build import parity_speech, public_spec
from simulations.results import ExportedFile, RunFolder, Summary, read
from simulations.scenario import read_scenario


def export_files(
    folder: RunFolder,
    base: Base,
    summary: Summary,
    spent: Guarantee,
    *,
    licences: Mapping[str, str],
    speech: NDArray[np.float32],
    out: Path | None = None,
) -> dict[str, Any]:
    """Exports the folder's adapter; returns the summary's fields `export` and `export_refused`.

    Args:
      folder: of the run.
      base: of the run.
      summary: what the card says of accuracy.
      spent: what the card says of privacy.
      licences: corpus to licence, for the card.
      speech: clips for parity, shape (n, clip_samples).
      out: where to; default the folder's own place.

    Raises:
      FedspeechError: if the folder holds no usable adapter for this base.
    """
    # Here, because they import TensorFlow's world, which help and rounds do without.
    from tflite_export.card import Card, SegmentAccuracy
    from tflite_export.export import export_float
    from tflite_export.parity import MAX_LOGIT_DIFFERENCE

    try:
        adapter, parameters = load_adapter(folder.adapter, base.sha256)
    except ValueError as error:
        raise FedspeechError(str(error)) from error
    metrics = []
    if summary.accuracy:
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
    card = Card.of(
        base,
        adapter,
        parameters,
        privacy=spent,
        noise_notice=summary.noise_notice,
        metrics=tuple(metrics),
        metrics_eye="simulator",
        data_licences=dict(licences),
    )
    try:
        exported = export_float(
            base, adapter, parameters, card=card, speech=speech, folder=out or folder.export
        )
    except ExportRefused as error:
        return {"export": None, "export_refused": str(error)}
    found = exported.verification
    return {
        "export_refused": None,
        "export": ExportedFile(
            file=str(Path("export") / exported.model.name),
            size_bytes=found.size_bytes,
            parity_max_abs=found.worst.max_logit_difference,
            parity_limit=MAX_LOGIT_DIFFERENCE,
            argmax_agreement=min(check.argmax_agreement for check in found.checks),
            inputs=found.worst.inputs,
            speech_inputs=found.worst.speech_inputs,
            sha256=found.sha256,
        ),
    }


def export_run(run: Path, out: Path | None) -> None:
    """`fedspeech export`: exports the adapter of a finished or interrupted run again.

    Needs the run folder alone: base, adapter, job and scenario stand in it, and the speech for
    parity is synthetic.

    Raises:
      FedspeechError: if the folder is no run folder or lacks a part.
      ExportRefused: naming the check that failed and its figure.
    """
    folder, results = RunFolder(run), read(run)
    if results.summary is None:
        raise FedspeechError(
            f"{run} has no summary.json: its run was killed before it could end; "
            f"`fedspeech resume {run}` takes it there"
        )
    try:
        base = Base.load(folder.base)
    except (OSError, ValueError) as error:
        raise FedspeechError(f"{run} lacks a usable base: {error}") from error
    scenario = read_scenario(str(folder.scenario))
    plan = Job.load(folder.job).plan
    corpus = SyntheticCorpus(public_spec(scenario, base.vocabulary))
    partition = by_group(corpus, seed=scenario.seed)
    target = out or folder.export
    found = export_files(
        folder,
        base,
        results.summary,
        plan.guarantee(_rounds_charged(folder.ledger)),
        licences={results.summary.corpus: "see the corpus", corpus.name: corpus.licence},
        speech=parity_speech(corpus, partition.validation),
        out=target,
    )
    if found["export_refused"]:
        raise ExportRefused(f"export refused: {found['export_refused']}")
    exported = found["export"]
    Console().print(
        f"{target / Path(exported.file).name}: {exported.size_bytes / 1000:.0f} KB, largest logit "
        f"difference {exported.parity_max_abs:.1e} (limit {exported.parity_limit:.0e}), same "
        f"answer on {exported.argmax_agreement:.0%} of {exported.inputs} inputs, "
        f"{exported.speech_inputs} of them speech",
        highlight=False,
        soft_wrap=True,
    )


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

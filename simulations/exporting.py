"""The file for the phone, made from what stands in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.models.adapters.files import load_adapter
from fedspeech.models.base import Base
from simulations.results import ExportedFile, RunFolder, Summary


def export_files(
    folder: RunFolder,
    base: Base,
    summary: Summary,
    *,
    licences: Mapping[str, str],
    speech: NDArray[np.float32],
    out: Path | None = None,
) -> dict[str, Any]:
    """Exports the folder's adapter; returns the summary's fields `export` and `export_refused`.

    Args:
      folder: of the run.
      base: of the run.
      summary: what the card says of accuracy and privacy.
      licences: corpus to licence, for the card.
      speech: clips for parity, shape (n, clip_samples).
      out: where to; default the folder's own place.
    """
    # Here, because they import TensorFlow's world, which help and rounds do without.
    from tflite_export.card import Card, PrivacyStatement, SegmentAccuracy
    from tflite_export.export import export_float
    from tflite_export.parity import MAX_LOGIT_DIFFERENCE

    adapter, parameters = load_adapter(folder.adapter, base.sha256)
    spent = summary.guarantee().model_dump(exclude={"quota", "budget_release", "budget_server"})
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
        privacy=PrivacyStatement(**spent, rounds=summary.rounds),
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

"""The files of a sentence recognizer: converted, checked, published.

exported = export_sentences(trained, card, waveforms, folder)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.files import write_whole
from tflite_export.blueprint import Blueprint
from tflite_export.calibration import observe_features
from tflite_export.card import CARD_FILE, Card, file_list, files_table, require_identity
from tflite_export.converter import Converter
from tflite_export.family import Progress
from tflite_export.flatbuffer import embed_card
from tflite_export.front_end import write_golden_vectors
from tflite_export.sentence_verification import verify_sentence_content
from tflite_export.verification import Verification
from tflite_export.weights import Trained, network

FloatArray = NDArray[np.float32]

FILES = {
    "float": "model_float.tflite",
    "int8": "model_int8.tflite",
    "personal": "model_personal.tflite",
}


@dataclass(frozen=True)
class ExportedSentences:
    """What was published.

    Attributes:
      verified: kind to what was checked on the published bytes.
      refused: kind to why it was not published.
    """

    verified: Mapping[str, Verification]
    refused: Mapping[str, str]


def export_sentences(
    trained: Trained,
    card: Card,
    waveforms: FloatArray,
    folder: Path,
    progress: Progress = lambda *_: None,
) -> ExportedSentences:
    """Converts, checks and writes the three files; one that fails is not written.

    Args:
      trained: the model.
      card: `Card.of` the same model.
      waveforms: public sentences, none twice, (n, samples), or their features; see `judged_half`.
      folder: where the files go; made if it is missing.
      progress: what is told before each file.

    Raises:
      ExportRefused: if the card speaks of another model, there are fewer than two sentences, or not
        one file passed; nothing is written then.
    """
    require_identity(card.to_json(), trained)
    if len(waveforms) < 2:
        raise ExportRefused(
            f"one sentence calibrates and another judges: at least 2 needed, got {len(waveforms)}"
        )
    arrays = network(trained)
    merged = arrays.merged()
    ranges = observe_features(merged, trained.base.features(waveforms[::2]))
    blueprints = {
        "float": Blueprint(graph="sentence", network=merged),
        "int8": Blueprint(graph="sentence", network=merged, precision="int8", ranges=ranges),
        "personal": Blueprint(
            graph="personal-sentence", network=arrays, base_sha256=trained.base.sha256
        ),
    }
    calibrated = {"corpus": "every second public sentence", "sentences": len(waveforms[::2])}
    contents: dict[str, bytes] = {}
    verified: dict[str, Verification] = {}
    refused: dict[str, str] = {}
    with Converter() as converter:
        for done, (kind, blueprint) in enumerate(blueprints.items()):
            progress(FILES[kind], done, len(blueprints))
            inside = card.inside(kind, calibrated if kind == "int8" else None)
            try:
                plain = converter.convert(blueprint)
                content = embed_card(plain, inside.to_json(), inside.to_markdown())
                verified[kind] = verify_sentence_content(
                    content, FILES[kind], trained, judged_half(waveforms)
                )
            except ExportRefused as error:
                refused[kind] = str(error)
                continue
            contents[kind] = content
    if not contents:
        raise ExportRefused("; ".join(f"{FILES[kind]}: {why}" for kind, why in refused.items()))
    folder.mkdir(parents=True, exist_ok=True)
    write_golden_vectors(folder, trained)
    for kind in FILES:
        if kind not in contents:
            (folder / FILES[kind]).unlink(missing_ok=True)
    figures = {
        "files": {
            found.file: [asdict(check) for check in found.checks] for found in verified.values()
        },
        "refused": refused,
    }
    files = file_list(asdict(found) for found in verified.values())
    listed = {**card.to_json(), "files": files}
    write_whole(folder / CARD_FILE, json.dumps(listed, indent=2, sort_keys=True).encode())
    text = card.to_markdown() + "\n" + files_table(files)
    write_whole(folder / "card.md", text.encode())
    write_whole(folder / "parity.json", json.dumps(figures, indent=2).encode())
    for kind, content in contents.items():
        write_whole(folder / FILES[kind], content)
    return ExportedSentences(verified, refused)


def judged_half(waveforms: FloatArray) -> FloatArray:
    """The public sentences that files are held against; the others calibrate the integer file."""
    return waveforms[1::2]

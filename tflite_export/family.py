"""Publishes the files of one trained model, or refuses the ones that fail.

    evidence = Evidence(trained, speech, held_out)
    exported = export_family(evidence, card, FORMATS, calibration=calibration, folder=folder)

A file is converted, gets its card, is checked as the bytes that would be published, and only then
written. One that fails is not written, and no other stands in its way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.files import write_whole
from fedspeech.privacy.phrasing import paragraphs
from tflite_export.adapter_file import write_adapter
from tflite_export.blueprint import Blueprint, GraphName
from tflite_export.c_array import to_c_array
from tflite_export.calibration import Calibration, observe
from tflite_export.card import CARD_FILE, Card, file_list, files_table, require_identity
from tflite_export.converter import Converter
from tflite_export.evidence import Evidence
from tflite_export.flatbuffer import embed_card
from tflite_export.front_end import write_golden_vectors
from tflite_export.interpreter import TfliteModel
from tflite_export.verification import INTEGER_KINDS, Verification, verify_content
from tflite_export.weights import network

FILES = {
    "float": "model_float.tflite",
    "fp16": "model_fp16.tflite",
    "dynamic": "model_dynamic.tflite",
    "int8": "model_int8.tflite",
    "streaming": "model_streaming.tflite",
    "streaming-int8": "model_streaming_int8.tflite",
    "personal": "model_personal.tflite",
    "adapter": "adapter.safetensors",
    "cc": "model_int8.cc",
}
FORMATS = tuple(FILES)
PARITY_FILE = "parity.json"
CARD_TEXT_FILE = "card.md"
CALIBRATION_FILE = "calibration.json"
C_NAME = "fedspeech_model_int8"
DEFAULT_BATCH_CLIPS = 16

_UNCHANGED_PROBES = 32

Progress = Callable[[str, int, int], None]
"""Called before each file with its name, the files that are done and how many there will be."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was published.

    Attributes:
      folder: where.
      verified: figures of the published bytes, in the order of the formats asked for.
      refused: format to why it was not published.
      cpu_seconds: "convert" and "verify", over all files.
    """

    folder: Path
    verified: tuple[Verification, ...]
    refused: Mapping[str, str]
    cpu_seconds: Mapping[str, float]


def export_family(
    evidence: Evidence,
    card: Card,
    formats: Sequence[str],
    *,
    folder: Path,
    calibration: Calibration | None = None,
    batch_clips: int = DEFAULT_BATCH_CLIPS,
    progress: Progress = lambda *_: None,
) -> Exported:
    """Converts, checks and publishes.

    Where there is a model, the card and the figures beside it are there too, and speak of it: they
    are written first. Files of an earlier export that are not made again stay if they are of this
    model and as they were published, and are taken away if not.

    Args:
      evidence: the trained model and what its files are compared on.
      card: `Card.of` the same model.
      formats: which files; keys of `FILES`.
      folder: where the files go; made if it is missing.
      calibration: for the full-integer files.
      batch_clips: clips of one training step of the personal file.
      progress: what is told before each file.

    Raises:
      ExportRefused: if the card speaks of another model, there is no format of a name, or no
        calibration where one is needed; and if not one file passed. Nothing is written then.
    """
    require_identity(card.to_json(), evidence.trained)
    if unknown := sorted(set(formats) - set(FILES)):
        raise ExportRefused(
            f"there is no format {', '.join(unknown)}; there are {', '.join(FORMATS)}"
        )
    if calibration is None and (needing := [kind for kind in formats if kind in INTEGER_KINDS]):
        raise ExportRefused(f"calibration: {', '.join(needing)} cannot be made without one")
    contents, verified, refused = {}, [], {}
    seconds = {"convert": 0.0, "verify": 0.0}
    with Converter() as converter:
        maker = Maker(evidence, card, calibration, batch_clips, converter)
        for done, kind in enumerate(formats):
            progress(FILES[kind], done, len(formats))
            started = time.process_time()
            try:
                content = maker.make(kind)
                made = time.process_time()
                seconds["convert"] += made - started
                verified.append(verify_content(content, FILES[kind], evidence))
                seconds["verify"] += time.process_time() - made
            except ExportRefused as error:
                refused[kind] = str(error)
                continue
            contents[FILES[kind]] = content
    seconds["convert"] += converter.cpu_seconds
    if not contents:
        raise ExportRefused("; ".join(f"{FILES[kind]}: {why}" for kind, why in refused.items()))
    cpu_seconds = {name: round(value, 3) for name, value in seconds.items()}
    kept = _kept(folder, card, formats)
    folder.mkdir(parents=True, exist_ok=True)
    write_golden_vectors(folder, evidence.trained)
    _publish(folder, card, calibration, contents, verified, kept, refused, cpu_seconds)
    return Exported(
        folder=folder, verified=tuple(verified), refused=refused, cpu_seconds=cpu_seconds
    )


class Maker:
    """Makes the bytes of single files, card included."""

    def __init__(
        self,
        evidence: Evidence,
        card: Card,
        calibration: Calibration | None,
        batch_clips: int,
        converter: Converter,
    ) -> None:
        """Gathers the arrays."""
        self._converter = converter
        self._evidence, self._card, self._batch_clips = evidence, card, batch_clips
        self._network = network(evidence.trained)
        self._merged = self._network.merged()
        self._calibration = calibration
        self._ranges: Mapping[str, tuple[float, float]] | None = None

    def make(self, kind: str) -> bytes:
        """Makes one file; its outputs are the same bits with and without the card.

        Raises:
          ExportRefused: if an operation has no builtin counterpart, the process that converts dies,
            or the card changes an output.
        """
        if kind == "adapter":
            return write_adapter(self._evidence.trained, self._card.inside(kind))
        plain = self._converter.convert(self.blueprint(kind))
        used = self._calibration if kind in INTEGER_KINDS else None
        card = self._card.inside(kind, used.to_json() if used else None)
        # The text would be a tenth of firmware that nobody reads it in.
        text = "" if kind == "cc" else card.to_markdown()
        content = embed_card(plain, card.to_json(), text)
        _require_unchanged(plain, content, self._evidence)
        if kind != "cc":
            return content
        return to_c_array(content, C_NAME, self._firmware_notes(content)).encode()

    def blueprint(self, kind: str) -> Blueprint:
        """Chooses graph and precision."""
        merged = self._merged
        match kind:
            case "float" | "fp16" | "dynamic":
                return Blueprint(graph="keyword", network=merged, precision=kind)
            case "int8":
                return self._integer("keyword")
            case "streaming":
                return Blueprint(graph="streaming", network=merged)
            case "streaming-int8":
                return self._integer("streaming")
            case "cc":
                return self._integer("firmware")
            case _:
                return Blueprint(
                    graph="personal",
                    network=self._network,
                    base_sha256=self._evidence.trained.base.sha256,
                    batch_clips=self._batch_clips,
                )

    def _integer(self, graph: GraphName) -> Blueprint:
        """The full-integer form of a graph."""
        return Blueprint(graph=graph, network=self._merged, precision="int8", ranges=self._seen())

    def _seen(self) -> Mapping[str, tuple[float, float]]:
        """Ranges of the layers on the calibration clips."""
        if self._ranges is None:
            assert self._calibration is not None
            self._ranges = observe(self._merged, self._calibration.waveforms)
        return self._ranges

    def _firmware_notes(self, content: bytes) -> list[str]:
        """What whoever compiles the array must know."""
        spec = self._card.frontend
        return [
            f"Keyword model, int8: {len(content)} bytes of TensorFlow Lite.",
            f"input: log-mel, float32 (1, {self._merged.heard_frames}, {spec.num_mels}), of which "
            f"the first {self._card.context_frames} were heard before the clip, as the front "
            "end of the card computes it; standardized and quantized inside",
            f"output: logits, float32 (1, {len(self._card.labels)})",
            f"labels: {', '.join(self._card.labels)}",
            f"base: SHA-256 {self._card.base_sha256}",
            paragraphs(self._card.privacy),
            *self._card.notices,
        ]


def _publish(
    folder: Path,
    card: Card,
    calibration: Calibration | None,
    contents: Mapping[str, bytes],
    verified: Sequence[Verification],
    kept: Sequence[dict[str, Any]],
    refused: Mapping[str, str],
    cpu_seconds: Mapping[str, float],
) -> None:
    """Writes card, figures and list of calibration clips, then the files."""
    entries = [*kept, *(dataclasses.asdict(entry) for entry in verified)]
    entries.sort(key=lambda entry: FORMATS.index(entry["kind"]))
    named = {entry["file"] for entry in entries}
    for name in set(FILES.values()) - named:
        (folder / name).unlink(missing_ok=True)
    files = file_list(entries)
    if not any(entry["kind"] in INTEGER_KINDS for entry in entries):
        (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    if calibration is not None and any(entry.kind in INTEGER_KINDS for entry in verified):
        listed = {**calibration.to_json(), "list": [list(clip) for clip in calibration.clips]}
        write_whole(folder / CALIBRATION_FILE, _json(listed))
    text = card.to_markdown() + "\n" + files_table(files)
    write_whole(folder / CARD_TEXT_FILE, text.encode())
    write_whole(folder / CARD_FILE, _json({**card.to_json(), "files": files}))
    figures = {
        "files": entries,
        "refused": dict(refused),
        "cpu_seconds": dict(cpu_seconds),
    }
    write_whole(folder / PARITY_FILE, _json(figures))
    for name, content in contents.items():
        write_whole(folder / name, content)


def _kept(folder: Path, card: Card, formats: Sequence[str]) -> list[dict[str, Any]]:
    """Figures of files of this model that an earlier export left and this one does not make."""
    try:
        before = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        figures = json.loads((folder / PARITY_FILE).read_text(encoding="utf-8"))
        now = json.loads(json.dumps(card.to_json()))
        now["files"] = before["files"]
        if before != now:
            return []
        return [
            entry
            for entry in figures["files"]
            if entry["kind"] not in formats
            and FILES.get(entry["kind"]) == entry["file"]
            and _sha256(folder / entry["file"]) == entry["sha256"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # there was none, or it is not of this family


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_unchanged(plain: bytes, carded: bytes, evidence: Evidence) -> None:
    """Refuses a file whose outputs changed a single bit when the card was embedded."""
    before, after = (_outputs(TfliteModel(content), evidence) for content in (plain, carded))
    if not all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)):
        raise ExportRefused("card: embedding it must leave every output as it was")


def _outputs(model: TfliteModel, evidence: Evidence) -> list[NDArray[np.float32]]:
    """Outputs of the signatures that take a clip, a hop or a frame, on a few probes each."""
    step = len(evidence.probes) // _UNCHANGED_PROBES
    clips, features = evidence.probes[::step], evidence.log_mel[::step]
    spec = evidence.trained.base.frontend
    takes: dict[str, Callable[[], NDArray[np.float32]]] = {
        "waveform": lambda: clips,
        "infer": lambda: clips,
        "log_mel": lambda: features,
        "hop": lambda: clips[:, : spec.hop_samples],
        "frame": lambda: features[:, 0],
    }
    names = sorted(set(takes) & set(model.signatures))
    return [model.run_each(name, takes[name]()) for name in names]


def _json(value: Any) -> bytes:
    """Renders JSON for people and programs."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

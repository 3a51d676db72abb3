"""The files of a keyword model: whole clips, a stream, one that trains, the adapter, firmware."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from fedspeech.evaluation.detection_recipe import DetectionRecipe
from fedspeech.privacy.phrasing import paragraphs
from tflite_export.adapter_file import write_adapter
from tflite_export.blueprint import Blueprint, GraphName, Ranges
from tflite_export.calibration import Calibration, observe
from tflite_export.card import Card, TaskOnCard
from tflite_export.checks import AtWork, Check
from tflite_export.converter import Converter, carrying, convert_with_card
from tflite_export.evidence import Evidence, repeated
from tflite_export.family import DEFAULT_BATCH_CLIPS, Family, Material
from tflite_export.files import json_bytes, to_c_array
from tflite_export.front_end import GOLDEN_FILE, golden_vectors
from tflite_export.interchange import keyword_files
from tflite_export.interchange.executorch_file import ExecutorchModel
from tflite_export.interchange.onnx_file import OnnxModel
from tflite_export.interpreter import TfliteModel
from tflite_export.keyword_checks import INTEGER_KINDS, keyword_checks
from tflite_export.micro.blueprint import micro_blueprint, wake_word_blueprint
from tflite_export.micro.esphome import manifest
from tflite_export.micro.runtime import measured
from tflite_export.micro.sources import SOURCES, MicroFile, micro_sources
from tflite_export.parity import MAX_LOGIT_DIFFERENCE
from tflite_export.weights import Trained, network

OUTPUT_NOTICE = (
    "The output is one logit per label, in the order of the labels; softmax gives scores that sum "
    "to one."
)
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
    "micro": "model_micro.tflite",
    "esphome": "model_esphome.tflite",
    **keyword_files.FILES,
}
MICRO = ("micro", "esphome")
CALIBRATION_FILE = "calibration.json"
C_NAME = "fedspeech_model_int8"
MANIFEST = "model_esphome.json"
MICRO_ARRAY, MICRO_C_NAME = "model_micro.cc", "fedspeech_model_micro"


def _input(frontend: FrontendSpec, context_frames: int) -> str:
    before = context_frames * frontend.hop_samples
    features = frontend.kind or ("cepstra" if frontend.cepstra else "log-mel")
    return (
        f"One clip of {frontend.clip_samples} samples at {frontend.rate_hz} Hz, full scale 1, "
        f"after the {before} samples heard before it: {before + frontend.clip_samples} "
        f"together, or their {context_frames + frontend.frames_per_clip} frames of {features}. "
        "What was heard earlier has no influence. Where a recording begins, zeros stand before it."
    )


KEYWORDS = TaskOnCard(name="kws", title="Keyword model", output=OUTPUT_NOTICE, input=_input)


class KeywordFamily(Family):
    """See `family.Family`.

    Args:
      evidence: the trained model and what its files are compared on.
      calibration: reads the representative dataset of the full-integer files.
      batch_clips: clips of one training step of the personal file.
    """

    task = KEYWORDS
    files = FILES
    # What equals the trained model logit by logit, so that few clips show it. Files with fewer bits
    # are judged on thousands of held-out clips, which takes longer than a run should.
    run_kinds = ("float", "streaming", "personal", "adapter")
    beside: ClassVar = {
        GOLDEN_FILE: tuple(FILES),
        CALIBRATION_FILE: INTEGER_KINDS,
        **dict.fromkeys((*SOURCES, MICRO_ARRAY), ("micro",)),
        MANIFEST: ("esphome",),
    }
    firmware = ("cc", *MICRO)
    extras: ClassVar = {**keyword_files.EXTRAS, **dict.fromkeys(MICRO, "micro")}
    own_recordings = True
    logit_limit = MAX_LOGIT_DIFFERENCE

    def __init__(
        self,
        evidence: Evidence,
        calibration: Callable[[], Calibration] | None = None,
        batch_clips: int = DEFAULT_BATCH_CLIPS,
    ) -> None:
        self.evidence, self._read, self._batch_clips = evidence, calibration, batch_clips
        self.trained = evidence.trained
        self.num_inputs, self.num_speech_inputs = len(evidence.probes), len(evidence.speech)
        self._network = network(self.trained)
        self._micro: dict[str, bytes] = {}
        self._merged = self._network.merged()
        self._float: bytes | None = None

    @classmethod
    def of(cls, trained: Trained, material: Material) -> Self:
        """See `family.Family.of`."""
        evidence = Evidence(trained, repeated(material.speech), material.held_out())
        return cls(evidence, material.calibration, material.batch_clips)

    def lacking(self, kind: str) -> str:
        """See `family.Family.lacking`; a front end that no graph holds decides too."""
        esphome = self.trained.base.built_in.frontend.kind is not None
        if esphome and kind not in ("esphome", "adapter"):
            return (
                "the base hears through ESPHome's front end, which no graph holds; its files are "
                "esphome and adapter"
            )
        if kind == "esphome" and not esphome:
            return (
                "ESPHome has a front end of its own; train a base behind it: fedspeech pretrain "
                "--encoder esphome"
            )
        return super().lacking(kind)

    def prepare(self, kinds: Sequence[str]) -> None:
        """See `family.Family.prepare`."""
        needing = [kind for kind in kinds if kind in INTEGER_KINDS]
        if needing and self._read is None:
            raise ExportRefused(f"calibration: {', '.join(needing)} cannot be made without one")
        if needing:
            _ = self.calibration

    def make(self, kind: str, card: Card, converter: Converter) -> bytes:
        """See `family.Family.make`."""
        if kind in ("personal", "adapter") and self.trained.merged() is not self.trained:
            raise ExportRefused(
                f"adapter {self.trained.adapter.name}: the file that trains on the phone holds no "
                "derivatives of convolutions, which factors inside the encoder need; what was "
                "trained is merged into the other files. The adapters head, affine and bottleneck "
                "go on learning on the phone"
            )
        if lacks := self.lacking(kind):
            raise ExportRefused(f"{kind}: {lacks}")
        if kind in keyword_files.FILES:
            return keyword_files.make_interchange(
                kind, self._merged, card.inside(kind), lambda: self._whole(converter)
            )
        if kind == "float":
            return carrying(self._whole(converter), card.inside(kind))
        if kind == "adapter":
            return write_adapter(self.trained, card.inside(kind))
        if kind not in self.firmware:
            return super().make(kind, card, converter)
        inside = card.inside(kind, self.calibrated_on(kind))
        # The card's text would be a tenth of firmware that nobody reads it in.
        content = convert_with_card(self.blueprint(kind), inside, converter, text=False)
        if kind in MICRO:
            self._micro[kind] = content
            return content
        return to_c_array(content, C_NAME, self._firmware_notes(card, len(content))).encode()

    def _whole(self, converter: Converter) -> bytes:
        """The float file before it has a card, from which others are cut; converted once."""
        if self._float is None:
            self._float = converter.convert(self.blueprint("float"))
        return self._float

    def calibrated_on(self, kind: str) -> dict[str, Any] | None:
        """See `family.Family.calibrated_on`."""
        return self.calibration.to_json() if kind in INTEGER_KINDS else None

    def blueprint(self, kind: str) -> Blueprint:
        """See `family.Family.blueprint`."""
        match kind:
            case "float" | "fp16" | "dynamic":
                return Blueprint(graph="keyword", network=self._merged, precision=kind)
            case "int8":
                return self._integer("keyword")
            case "streaming":
                return Blueprint(graph="streaming", network=self._merged)
            case "streaming-int8":
                return self._integer("streaming")
            case "cc":
                return self._integer("firmware")
            case "micro":
                return micro_blueprint(self._merged, self.calibration.waveforms)
            case "esphome":
                return wake_word_blueprint(self._merged, self.calibration.waveforms)
            case _:
                return Blueprint(
                    graph="personal",
                    network=self._network,
                    base_sha256=self.trained.base.sha256,
                    batch_clips=self._batch_clips,
                )

    def checks(self, kind: str, model: TfliteModel) -> Iterator[Check | AtWork]:
        """See `family.Family.checks`."""
        return keyword_checks(kind, model, self.evidence)

    def whole_checks(self, model: OnnxModel | ExecutorchModel) -> Iterator[Check]:
        """See `family.Family.whole_checks`."""
        return keyword_files.whole_checks(model, self.evidence)

    def write_beside(self, name: str, detection: Mapping[str, Any] | None) -> bytes:
        """See `family.Family.write_beside`."""
        if name == GOLDEN_FILE:
            return golden_vectors(self.trained, with_logits=True)
        recipe = None if detection is None else DetectionRecipe.of_json(detection)
        if name in SOURCES:
            base = self.trained.base
            spec, labels = base.built_in.frontend, base.vocabulary.labels
            return micro_sources(self._measured, spec, labels, recipe)[name]
        if name == MANIFEST:
            word, arena = self.trained.base.vocabulary.labels[0], measured(self._micro["esphome"])
            return manifest(word, FILES["esphome"], arena.arena_bytes, recipe)
        if name == MICRO_ARRAY:
            return to_c_array(self._micro["micro"], MICRO_C_NAME, ["See model_micro.h."]).encode()
        clips = [list(clip) for clip in self.calibration.clips]
        return json_bytes({**self.calibration.to_json(), "list": clips})

    @cached_property
    def _measured(self) -> MicroFile:
        return measured(self._micro["micro"])

    @cached_property
    def calibration(self) -> Calibration:
        """The representative dataset of the full-integer files, read once."""
        assert self._read is not None, "prepare refuses kinds that need one"
        return self._read()

    def _integer(self, graph: GraphName) -> Blueprint:
        return Blueprint(graph=graph, network=self._merged, precision="int8", ranges=self._ranges)

    @cached_property
    def _ranges(self) -> Ranges:
        return observe(self._merged, self.calibration.waveforms)

    def _firmware_notes(self, card: Card, size_bytes: int) -> list[str]:
        """What whoever compiles the array must know."""
        spec = self.trained.base.built_in.frontend
        return [
            f"Keyword model, int8: {size_bytes} bytes of TensorFlow Lite.",
            f"input: log-mel, float32 (1, {self._merged.heard_frames}, {spec.num_mels}), "
            f"of which the first {card.context_frames} were heard before the clip, as the front "
            "end of the card computes it; standardized and quantized inside",
            f"output: logits, float32 (1, {len(card.labels)})",
            f"labels: {', '.join(card.labels)}",
            f"base: SHA-256 {card.base_sha256}",
            paragraphs(card.privacy),
            *card.notices,
        ]

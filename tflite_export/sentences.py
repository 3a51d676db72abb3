"""The files of a sentence recognizer: one in float, one in integers, one that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from fedspeech.errors import ExportRefused
from tflite_export.arrays import FloatArray, Network
from tflite_export.blueprint import Blueprint
from tflite_export.calibration import observe_features
from tflite_export.card import TaskOnCard
from tflite_export.checks import Check
from tflite_export.family import Family, Material
from tflite_export.front_end import GOLDEN_FILE, golden_vectors
from tflite_export.interpreter import TfliteModel
from tflite_export.sentence_checks import MAX_LOGIT_DIFFERENCE, sentence_checks
from tflite_export.weights import Trained, network

FRAMES_NOTICE = (
    "The output is one logit per label for every window of 40 ms: the CTC blank, then characters. "
    "Transcripts are searched for outside the file."
)
FILES = {
    "float": "model_float.tflite",
    "int8": "model_int8.tflite",
    "personal": "model_personal.tflite",
}
SENTENCES = TaskOnCard(
    name="asr",
    title="Sentence model",
    output=FRAMES_NOTICE,
    input=lambda frontend, _: (
        f"Frames of {frontend.num_features} features, one every {frontend.hop_ms:g} ms."
    ),
)


class SentenceFamily(Family):
    """See `family.Family`.

    Args:
      trained: the model.
      sentences: public, none twice, waveforms (n, samples) or their features.

    Attributes:
      judged: the sentences that files are compared on; the others calibrate.

    Raises:
      ExportRefused: if there are fewer than two sentences.
    """

    task = SENTENCES
    files = FILES
    run_kinds = tuple(FILES)
    beside: ClassVar = {GOLDEN_FILE: tuple(FILES)}
    own_recordings = False
    logit_limit = MAX_LOGIT_DIFFERENCE

    def __init__(self, trained: Trained, sentences: FloatArray) -> None:
        if len(sentences) < 2:
            raise ExportRefused(
                "one sentence calibrates and another judges: at least 2 needed, got "
                f"{len(sentences)}"
            )
        self.trained = trained
        # A file is never judged by what the ranges of its integers were taken from.
        self._calibrating, self.judged = sentences[::2], sentences[1::2]
        self.num_inputs = self.num_speech_inputs = len(self.judged)
        self._network = network(trained)

    @classmethod
    def of(cls, trained: Trained, material: Material) -> Self:
        """See `family.Family.of`."""
        return cls(trained, material.speech)

    def calibrated_on(self, kind: str) -> dict[str, Any] | None:
        """See `family.Family.calibrated_on`."""
        if kind != "int8":
            return None
        return {"corpus": "every second public sentence", "sentences": len(self._calibrating)}

    def checks(self, kind: str, model: TfliteModel) -> Iterator[Check]:
        """See `family.Family.checks`."""
        return sentence_checks(kind, model, self.trained, self.judged)

    def write_beside(self, name: str, detection: Mapping[str, Any] | None) -> bytes:
        """See `family.Family.write_beside`."""
        del name, detection
        return golden_vectors(self.trained, with_logits=False)

    def blueprint(self, kind: str) -> Blueprint:
        """See `family.Family.blueprint`."""
        match kind:
            case "float":
                return Blueprint(graph="sentence", network=self._merged)
            case "int8":
                features = self.trained.base.built_in.features(self._calibrating)
                ranges = observe_features(self._merged, features)
                return Blueprint(
                    graph="sentence", network=self._merged, precision="int8", ranges=ranges
                )
            case _:
                return Blueprint(
                    graph="personal-sentence",
                    network=self._network,
                    base_sha256=self.trained.base.sha256,
                )

    @cached_property
    def _merged(self) -> Network:
        return self._network.merged()

"""The files of a sentence recognizer: one in float, one in integers, one that trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from tflite_export.arrays import Network
from tflite_export.blueprint import Blueprint
from tflite_export.calibration import observe_features
from tflite_export.card import Card, TaskOnCard
from tflite_export.carded import convert_with_card
from tflite_export.checks import Check
from tflite_export.converter import Converter
from tflite_export.family import Family, Material
from tflite_export.front_end import GOLDEN_FILE, golden_vectors
from tflite_export.interpreter import TfliteModel
from tflite_export.sentence_checks import MAX_LOGIT_DIFFERENCE, sentence_checks
from tflite_export.weights import Trained, network

FloatArray = NDArray[np.float32]

FRAMES_NOTICE = (
    "The output is one logit per label for every window of 40 ms: the CTC blank, then characters. "
    "Transcripts are searched for outside the file."
)
FILES = {
    "float": "model_float.tflite",
    "int8": "model_int8.tflite",
    "personal": "model_personal.tflite",
}


def _input(frontend: FrontendSpec, context_frames: int) -> str:
    """What a file that writes sentences takes."""
    del context_frames
    return f"Frames of {frontend.num_features} features, one every {frontend.hop_ms:g} ms."


SENTENCES = TaskOnCard(name="asr", title="Sentence model", output=FRAMES_NOTICE, input=_input)


class SentenceFamily(Family):
    """See `family.Family`.

    Attributes:
      judged: the public sentences that files are held against; the others calibrate.
    """

    task = SENTENCES
    files = FILES
    run_kinds = tuple(FILES)
    beside: ClassVar = {GOLDEN_FILE: tuple(FILES)}
    own_recordings = False
    logit_limit = MAX_LOGIT_DIFFERENCE

    def __init__(self, trained: Trained, sentences: FloatArray) -> None:
        """Divides the sentences.

        Args:
          trained: the model.
          sentences: public, none twice, waveforms (n, samples) or their features.

        Raises:
          ExportRefused: if there are fewer than two.
        """
        if len(sentences) < 2:
            raise ExportRefused(
                "one sentence calibrates and another judges: at least 2 needed, got "
                f"{len(sentences)}"
            )
        self._trained = trained
        # A file is never judged by what the ranges of its integers were taken from.
        self._calibrating, self.judged = sentences[::2], sentences[1::2]
        self._network = network(trained)

    @classmethod
    def of(cls, trained: Trained, material: Material) -> Self:
        """See `family.Family.of`."""
        return cls(trained, material.speech)

    @property
    def trained(self) -> Trained:
        """The model that every file has to equal."""
        return self._trained

    @property
    def num_inputs(self) -> int:
        """How many sentences judge."""
        return len(self.judged)

    @property
    def num_speech_inputs(self) -> int:
        """How many sentences judge: all of them are speech."""
        return len(self.judged)

    def prepare(self, kinds: Sequence[str]) -> None:
        """Reads nothing: the sentences that calibrate are here."""

    def make(self, kind: str, card: Card, converter: Converter) -> bytes:
        """See `family.Family.make`."""
        used = {"corpus": "every second public sentence", "sentences": len(self._calibrating)}
        card = card.inside(kind, used if kind == "int8" else None)
        return convert_with_card(self._blueprint(kind), card, converter)

    def checks(self, kind: str, model: TfliteModel) -> Iterator[Check]:
        """See `family.Family.checks`."""
        return sentence_checks(kind, model, self._trained, self.judged)

    def write_beside(self, name: str) -> bytes:
        """See `family.Family.write_beside`."""
        del name
        return golden_vectors(self._trained, with_logits=False)

    def _blueprint(self, kind: str) -> Blueprint:
        """Chooses graph and precision."""
        match kind:
            case "float":
                return Blueprint(graph="sentence", network=self._merged)
            case "int8":
                features = self._trained.base.features(self._calibrating)
                ranges = observe_features(self._merged, features)
                return Blueprint(
                    graph="sentence", network=self._merged, precision="int8", ranges=ranges
                )
            case _:
                return Blueprint(
                    graph="personal-sentence",
                    network=self._network,
                    base_sha256=self._trained.base.sha256,
                )

    @cached_property
    def _merged(self) -> Network:
        """The arrays with the adapter's affine parts folded into its head."""
        return self._network.merged()

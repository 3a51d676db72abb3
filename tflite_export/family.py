"""What a task brings so that its trained models become files.

    family = family_of(task.name, base).of(trained, material)
    exported = export_family(family, card, family.run_kinds, folder=folder)
    verify(folder / family.files["float"], family)

A task whose models shall run on phones has one class of this shape, and one line in `families.py`.
Nobody else in this package asks for the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.extras import lacking
from tflite_export.blueprint import Blueprint
from tflite_export.calibration import Calibration
from tflite_export.card import Card, TaskOnCard
from tflite_export.checks import AtWork, Check
from tflite_export.converter import Converter, convert_with_card
from tflite_export.evidence import HeldOut
from tflite_export.interchange.executorch_file import ExecutorchModel
from tflite_export.interchange.onnx_file import OnnxModel
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import Trained

DEFAULT_BATCH_CLIPS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What a run has for files to be made of and judged on; a family takes what its task needs.

    Attributes:
      speech: public utterances, none twice: waveforms (n, samples), float32, or their features.
      held_out: reads clips of people on whom nothing was trained, decided or calibrated.
      calibration: reads the representative dataset of full-integer files; None: there is none.
      batch_clips: clips of one training step, as the phones of the run take it.
    """

    speech: NDArray[np.float32] = field(repr=False)
    held_out: Callable[[], HeldOut]
    calibration: Callable[[], Calibration] | None = None
    batch_clips: int = DEFAULT_BATCH_CLIPS


class Family(ABC):
    """The files of one trained model, each of one kind.

    Attributes:
      task: what the card says of the task.
      files: kind to name of the file, in the order of publication.
      run_kinds: what a run exports by itself.
      beside: name of a file beside the models to the kinds that need it.
      firmware: kinds that no phone runs, whose inputs may be integers of eight bits.
      extras: kind to the extra of fedspeech that it needs beside those of every file.
      own_recordings: whether brought recordings can calibrate the integer files.
      logit_limit: largest difference of a logit from the trained model's, of files in float.
      trained: the model that every file has to equal.
      num_inputs: how many inputs a file in float is compared on.
      num_speech_inputs: how many of them are speech.
    """

    task: ClassVar[TaskOnCard]
    files: ClassVar[Mapping[str, str]]
    run_kinds: ClassVar[tuple[str, ...]]
    beside: ClassVar[Mapping[str, tuple[str, ...]]]
    firmware: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[Mapping[str, str]] = {}
    own_recordings: ClassVar[bool]
    logit_limit: float

    trained: Trained
    num_inputs: int
    num_speech_inputs: int

    @property
    def at_hand(self) -> tuple[str, ...]:
        """The kinds that need no extra which is not installed."""
        return tuple(kind for kind in self.files if not self.lacking(kind))

    def lacking(self, kind: str) -> str:
        """Names the extra that a kind needs and that is not installed; "" if there is none."""
        return lacking(self.extras[kind]) if kind in self.extras else ""

    @classmethod
    @abstractmethod
    def of(cls, trained: Trained, material: Material) -> Self:
        """The family of a run's model.

        Raises:
          ExportRefused: if the material is not enough to judge a file.
        """

    def prepare(self, kinds: Sequence[str]) -> None:  # noqa: B027  # nothing to read is the default
        """Reads what files of these kinds are made of, before any is converted.

        Raises:
          ExportRefused: if a kind cannot be made; names it.
        """

    def make(self, kind: str, card: Card, converter: Converter) -> bytes:
        """Makes the bytes of one file, with its own form of the family's card inside.

        Raises:
          ExportRefused: if the graph cannot be converted, or the card changes an output.
        """
        inside = card.inside(kind, self.calibrated_on(kind))
        return convert_with_card(self.blueprint(kind), inside, converter)

    @abstractmethod
    def blueprint(self, kind: str) -> Blueprint:
        """Graph and precision of a kind of model."""

    @abstractmethod
    def calibrated_on(self, kind: str) -> dict[str, Any] | None:
        """What the card of a full-integer file says of its calibration; None for other kinds."""

    @abstractmethod
    def checks(self, kind: str, model: TfliteModel) -> Iterator[Check | AtWork]:
        """Everything that a model of a kind must pass; before what takes long, what it is.

        Raises:
          ExportRefused: if there is no such kind, or a check fails; names it and its figure.
        """

    def whole_checks(self, model: OnnxModel | ExecutorchModel) -> Iterator[Check]:
        """Everything that a file for another runtime than LiteRT must pass.

        Raises:
          ExportRefused: if the family has none, or a check fails; names it and its figure.
        """
        raise ExportRefused(f"{self.task.name}: no file of the family is for another runtime")

    @abstractmethod
    def write_beside(self, name: str, detection: Mapping[str, Any] | None) -> bytes:
        """The bytes of a file beside the models.

        Args:
          name: a key of `beside`.
          detection: recipe of the model that needs it, as the card has it; None: it has none.
        """

"""What an exported file hears in a recording, and by which recipe.

A file listens by the detection recipe of the card beside it. Whoever names a threshold has that one
for all words; a file without a recipe has `DEFAULT_THRESHOLD` and the durations of
`ListeningRules`. A run folder stands for its model in torch, and has the recipe of the whole model
in the card of its export.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.files import UnusableError
from fedspeech.corpora.long_recordings import blocks_of
from fedspeech.errors import ArgumentRefused, CorpusError, ExportRefused
from fedspeech.evaluation.detection_recipe import DetectionRecipe
from fedspeech.evaluation.streaming import (
    DEFAULT_THRESHOLD,
    Detector,
    ListeningRules,
    poisson_interval,
)
from simulations.artifacts.model_listening import ModelListener
from simulations.console import Console, Printed
from simulations.results.run_folder import RunFolder
from tflite_export.files import read_model

if TYPE_CHECKING:  # LiteRT, which help does without
    from tflite_export.listening import Listener

FloatArray = NDArray[np.float32]

CARD_FILE = "card.json"
WHOLE_MODEL = "model_float.tflite"


@dataclass(frozen=True, kw_only=True)
class Detecting:
    """How detections are made of a file's scores.

    Attributes:
      rules: smoothing, cooldown and the words' offsets.
      threshold: of the highest word.
      origin: where these come from, in words.
    """

    rules: ListeningRules
    threshold: float
    origin: str

    @classmethod
    def of(
        cls, file: Path, threshold: float | None, smoothing_ms: int | None, cooldown_ms: int | None
    ) -> Detecting:
        """What is asked for, and the recipe of the card for the rest.

        Raises:
          ArgumentRefused: naming a duration that is no whole number of hops.
        """
        recipe, hop_ms = recipe_of(file), FrontendSpec().hop_ms
        if file.is_dir():
            hop_ms = open_listener(file).spec.hop_ms
        asked = _hops(hop_ms, smoothing_ms=smoothing_ms, cooldown_ms=cooldown_ms)
        if recipe is None or threshold is not None:
            rules = ListeningRules.every(hop_ms) if recipe is None else recipe.rules
            return cls(
                rules=_with(rules, offsets=(), **asked),
                threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
                origin="asked for" if threshold is not None else "the card has no detection recipe",
            )
        origin = f"the card's recipe for {recipe.rate:g} false accepts an hour"
        return cls(
            rules=_with(recipe.rules, **asked),
            threshold=recipe.threshold,
            origin=origin + (", with other durations" if asked else ""),
        )

    def in_words(self, hop_ms: float) -> str:
        """Durations and origin."""
        return (
            f"smoothing {self.rules.smoothing_hops * hop_ms:g} ms, cooldown "
            f"{self.rules.cooldown_hops * hop_ms:g} ms; {self.origin}"
        )


def _with(rules: ListeningRules, **changed: Any) -> ListeningRules:
    return dataclasses.replace(rules, **changed)


def recipe_of(file: Path) -> DetectionRecipe | None:
    """The recipe that the card beside a file has for exactly these bytes; None if it has none."""
    if file.is_dir():
        file = RunFolder(file).export / WHOLE_MODEL
    try:
        card = json.loads((file.parent / CARD_FILE).read_text(encoding="utf-8"))
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        found = next(entry for entry in card["files"].values() if entry["sha256"] == sha256)
        return DetectionRecipe.of_json(found["detection"])
    # A card of another maker, or of none, says nothing of detections.
    except (OSError, StopIteration, AttributeError, KeyError, TypeError, ValueError):
        return None


def _hops(hop_ms: float, **given_ms: int | None) -> dict[str, int]:
    """Durations as hops, by the field of the rules; those that are not given are left out."""
    hops = {}
    for name, value in given_ms.items():
        if value is None:
            continue
        if value % hop_ms:
            raise ArgumentRefused(f"`{name}` must be a multiple of {hop_ms:g} ms, got {value}")
        hops[name.replace("_ms", "_hops")] = int(value // hop_ms)
    return hops


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections(Printed):
    """What a file heard in one recording.

    Attributes:
      recording: name of its file.
      heard: (seconds from the start, word, smoothed probability) of every detection, in order.
      seconds: of the recording.
      threshold: smoothed probability from which the word with the highest one is detected.
      rules: how scores become detections, in words.
    """

    recording: str
    heard: tuple[tuple[float, str, float], ...]
    seconds: float
    threshold: float
    rules: str

    @property
    def per_hour(self) -> float:
        """Detections per hour: false accepts, if nobody says a word."""
        return len(self.heard) * 3600 / self.seconds

    @property
    def per_hour_interval(self) -> tuple[float, float]:
        """Exact interval of 95 % of that rate (Garwood 1936, Biometrika 28, 437)."""
        return poisson_interval(len(self.heard), self.seconds / 3600)

    def record(self) -> dict[str, Any]:
        """Every figure as plain data."""
        return {
            "recording": self.recording,
            "seconds": self.seconds,
            "threshold": self.threshold,
            "rules": self.rules,
            "detections": [
                {"second": second, "word": word, "score": score}
                for second, word, score in self.heard
            ],
            "per_hour": self.per_hour,
            "per_hour_interval": self.per_hour_interval,
        }

    def print(self, console: Console) -> None:
        """Prints every detection with its time."""
        for second, word, score in self.heard:
            console.print(f"{second:9.2f} s  {word:12s} {score:.3f}", highlight=False)
        low, high = self.per_hour_interval
        console.print(
            f"{len(self.heard)} detections in {self.seconds:.2f} s at threshold "
            f"{self.threshold:g} ({self.rules}): {self.per_hour:.2f} an hour ({low:.2f} to "
            f"{high:.2f}), all of them false where nobody says a word",
            highlight=False,
            soft_wrap=True,
        )


def listen_to(file: Path, wav: Path, detecting: Detecting) -> Detections:
    """Streams one recording of any length.

    Raises:
      FedspeechError: if the file cannot listen or the recording cannot be read.
    """
    listener = open_listener(file)
    hop_ms = listener.spec.hop_ms
    detector = Detector(detecting.rules, np.array([detecting.threshold]))
    heard: list[tuple[float, str, float]] = []
    hops = 0
    # From a stream that has heard nothing: the file was opened for this recording.
    for logits in logits_of(listener, wav):
        (marks,), words, scores = detector.feed(logits)
        heard += [
            ((hops + int(hop) + 1) * hop_ms / 1000, listener.labels[words[hop]], float(scores[hop]))
            for hop in np.flatnonzero(marks)
        ]
        hops += len(logits)
    if not hops:
        raise CorpusError(f"{wav} is shorter than one hop of {hop_ms:g} ms")
    return Detections(
        recording=wav.name,
        heard=tuple(heard),
        seconds=hops * hop_ms / 1000,
        threshold=detecting.threshold,
        rules=detecting.in_words(hop_ms),
    )


def logits_of(listener: Listener | ModelListener, path: Path) -> Iterator[FloatArray]:
    """Yields logits (hops, c) of a recording block by block; the listener goes on as it stands.

    Raises:
      CorpusError: when a part is reached that cannot be read.
    """
    try:
        for samples in blocks_of(path, listener.spec.rate_hz):
            yield listener.feed(samples)
    except UnusableError as error:
        raise CorpusError(f"{path} cannot be listened to: {error}") from error


def open_listener(file: Path) -> Listener | ModelListener:
    """Opens a file that can listen, or the model of a run folder.

    Raises:
      ExportRefused: if it cannot; names the files beside it that can.
    """
    from tflite_export.interpreter import TfliteModel
    from tflite_export.listening import Listener

    if file.is_dir():
        return ModelListener.of_run(file)
    # Told by its signatures and not by its name, which anybody may change.
    model = TfliteModel(read_model(file))
    if "hop" not in model.signatures:
        beside = sorted(str(path) for path in file.parent.glob("*streaming*.tflite"))
        raise ExportRefused(
            f"listening takes a streaming file, and {file.name} answers whole clips; "
            + (
                f"beside it lies {' and '.join(beside)}"
                if beside
                else "`fedspeech export RUN --formats streaming` makes one, and where the encoder "
                "comes from elsewhere `fedspeech listen RUN` listens with the model itself"
            )
        )
    return Listener(model)

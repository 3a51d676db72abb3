"""The files of one model beside each other while they listen: what its precision costs.

    print(compare_kinds(Path("runs/a"), hours=1.0, seed=0))

Each hears the same synthesized sound and detects by one recipe: that of the streaming file's card.
The trained model and files of whole clips answer every hop for the clip that ends with it; a file
for microcontrollers answers once in a few hops, so the recipe's durations are counted in its calls,
and the trained model that is asked as often stands beside it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.corpora.stream_scenes import with_keywords
from fedspeech.evaluation.streaming import Keyword, ListeningCounts, ListeningRules, OperatingPoint
from fedspeech.extras import MissingExtra
from fedspeech.synthesis.lexicon import speakable
from simulations.artifacts.listening import Detecting, open_listener
from simulations.artifacts.loaded_run import FinishedRun
from simulations.artifacts.stream_evaluation import KEYWORDS_PER_HOUR
from simulations.console import Console, Printed, table

if TYPE_CHECKING:  # LiteRT, which help does without
    from tflite_export.weights import Trained

FloatArray = NDArray[np.float32]
Said = Sequence[tuple[int, int, int]]  # label, first and last sample of each word

TORCH = "torch"
LISTENING = ("streaming", "personal", "streaming-int8")
CLIPS = ("float", "int8")


@dataclass(frozen=True, eq=False)
class Kind:
    """One of the model's forms.

    Attributes:
      answers: logits (answers, c) of a stream of its own, samples (n,).
      stride: hops between two answers.
    """

    answers: Callable[[FloatArray], NDArray[Any]]
    stride: int = 1


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class KindsCompared(Printed):
    """Errors of each form of a model at one threshold.

    Attributes:
      points: kind, "torch" first, to its errors.
      detecting: how scores become detections.
      hop_ms: milliseconds of a hop.
      left_out: kinds that are not compared, with the reason.
    """

    points: dict[str, OperatingPoint]
    detecting: Detecting
    hop_ms: float
    left_out: dict[str, str]

    def apart(self, kind: str) -> float:
        """By how much a kind's FRR is above the trained model's, as a share."""
        found, trained = self.points[kind], self.points[TORCH]
        return (found.rejected - trained.rejected) / trained.keywords

    def record(self) -> dict[str, Any]:
        """Every figure as plain data."""
        return {
            "threshold": self.detecting.threshold,
            "origin": self.detecting.origin,
            "kinds": {
                kind: {
                    **dataclasses.asdict(point), "frr": point.frr,
                    "false_accepts_per_hour": point.false_accepts_per_hour,
                    "frr_above_torch": self.apart(kind),
                }
                for kind, point in self.points.items()
            },
            "left_out": self.left_out,
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """Prints one row for each kind."""
        rows = [
            (
                kind, f"{point.frr:.1%}", f"{100 * self.apart(kind):+.2f}",
                f"{point.false_accepts_per_hour:.2f}",
            )
            for kind, point in self.points.items()
        ]  # fmt: skip
        header = ("kind", "FRR", "points above torch", "false accepts an hour")
        one = self.points[TORCH]
        title = f"{one.keywords} words, {one.hours:.2f} hours without any"
        console.print(table(header, rows, right=header[1:], title=title))
        console.print(self.detecting.in_words(self.hop_ms), highlight=False, soft_wrap=True)
        for kind, why in self.left_out.items():
            console.print(f"{kind} is left out: {why}", highlight=False, soft_wrap=True)


def compare_kinds(run: Path, *, hours: float, seed: int) -> KindsCompared:
    """Has every form of a run's model listen to the same synthesized sound.

    Args:
      run: a finished run; its folder `export` has the files.
      hours: of sound without a target word; `KEYWORDS_PER_HOUR` words are said beside it.
      seed: of the sound, which chose no recipe.

    Raises:
      ExportRefused: if the run has no streaming file, whose recipe is the one for all.
    """
    finished = FinishedRun.open(run)
    folder = finished.folder.export
    listener = open_listener(folder / "model_streaming.tflite")
    detecting = Detecting.of(folder / "model_streaming.tflite", None, None, None)
    trained, _ = finished.trained()
    kinds, left_out = _kinds(folder, trained)
    counts = dict.fromkeys(kinds, ListeningCounts.nothing())
    labels, hop_ms = list(listener.labels), listener.spec.hop_ms
    for sound, said in _sounds(labels, finished.scenario.lexicon, hours, seed):
        marks = [(labels.index(word), start, stop) for word, start, stop in said]
        for kind, form in kinds.items():
            counts[kind] += counted(form, sound, marks, detecting.rules, listener.spec.hop_samples,
                                     hop_ms)  # fmt: skip
    return KindsCompared(
        points={kind: count.at(detecting.threshold) for kind, count in counts.items()},
        detecting=detecting, hop_ms=hop_ms, left_out=left_out,
    )  # fmt: skip


def _sounds(
    labels: Sequence[str], lexicon: Any, hours: float, seed: int
) -> Iterator[tuple[FloatArray, list[tuple[str, int, int]]]]:
    """Scenes without target words, then words."""
    targets = tuple(labels[:-NUM_NEGATIVE_LABELS])
    for scene in negative_scenes(hours * 3600, targets, seed, lexicon):
        yield scene.sound, []
    words = max(1, round(KEYWORDS_PER_HOUR * hours))
    if said := speakable(targets, lexicon):
        for sound, spoken in with_keywords(words, said, seed, lexicon):
            yield sound, [(word.word, word.start, word.stop) for word in spoken]


def counted(
    kind: Kind,
    sound: FloatArray,
    said: Said,
    rules: ListeningRules,
    hop_samples: int,
    hop_ms: float,
) -> ListeningCounts:
    """Counts a stream of its own, in answers of the kind."""
    step = kind.stride
    in_answers = dataclasses.replace(
        rules,
        **{
            name: math.ceil(getattr(rules, name) / step)
            for name in ("smoothing_hops", "cooldown_hops", "patience_hops")
        },
    )
    # Whole answers, so that each ends where as many hops end.
    logits = kind.answers(sound[: len(sound) // (step * hop_samples) * step * hop_samples])
    if not said:
        return ListeningCounts.without_keywords(logits, in_answers, hop_ms * step)
    samples = hop_samples * step
    marks = [Keyword(label, start // samples, stop // samples) for label, start, stop in said]
    return ListeningCounts.of_keywords(logits, marks, in_answers)


def _kinds(folder: Path, trained: Trained) -> tuple[dict[str, Kind], dict[str, str]]:
    """The model's forms by kind, and what is left out with the reason."""
    from tflite_export.evidence import listening_embeddings, scored
    from tflite_export.interpreter import TfliteModel
    from tflite_export.keywords import FILES
    from tflite_export.listening import Listener

    kinds = {TORCH: Kind(lambda sound: scored(trained, listening_embeddings(trained, sound)))}
    left_out = {}
    for kind in (*CLIPS, *LISTENING, "micro"):
        file = folder / FILES[kind]
        if not file.exists():
            left_out[kind] = f"fedspeech export RUN --formats {kind} makes {file.name}"
        elif kind == "micro":
            try:
                kinds[kind] = _micro(file.read_bytes(), trained)
                # What a file loses by its precision, apart from what it loses by looking seldom.
                kinds[f"{TORCH}, as often"] = _seldom(kinds[TORCH], kinds[kind].stride)
            except MissingExtra as error:
                left_out[kind] = str(error)
        elif kind in CLIPS:
            kinds[kind] = _clips(TfliteModel(file.read_bytes()), trained)
        else:
            kinds[kind] = _streaming(Listener(TfliteModel(file.read_bytes())))
    return kinds, left_out


def _seldom(kind: Kind, stride: int) -> Kind:
    """A kind whose last answer of so many hops counts."""
    return Kind(lambda sound: kind.answers(sound)[stride - 1 :: stride], stride)


def _streaming(listener: Any) -> Kind:
    """A file with the signature `hop`."""

    def answers(sound: FloatArray) -> FloatArray:
        listener.reset()
        logits: FloatArray = listener.feed(sound)
        return logits

    return Kind(answers)


def _clips(model: Any, trained: Trained) -> Kind:
    """A file of whole clips, at every hop of a stream: the clip that ends there."""
    from tflite_export.evidence import log_mel

    encoder = trained.base.built_in
    spec = encoder.frontend
    heard = encoder.context_frames + spec.frames_per_clip
    # Frames of a clip that lie behind its last window, and that nothing sees.
    behind = spec.frames_per_clip - 1 - (encoder.num_windows - 1) * encoder.spec.stride

    def answers(sound: FloatArray) -> FloatArray:
        before = (heard - 1 - behind) * spec.hop_samples + spec.window_samples - spec.hop_samples
        padded = np.pad(sound, (before, behind * spec.hop_samples))
        features = log_mel(spec, padded[np.newaxis])[0]
        clips = np.lib.stride_tricks.sliding_window_view(features, heard, axis=0)
        logits: FloatArray = model.run_each("log_mel", clips.transpose(0, 2, 1).copy())
        return logits

    return Kind(answers)


def _micro(content: bytes, trained: Trained) -> Kind:
    """A file for microcontrollers, in TensorFlow Lite Micro, which begins anew with each stream."""
    from tflite_export.micro.checks import MicroStream
    from tflite_export.micro.runtime import MicroModel

    spec = trained.base.built_in.frontend

    def stream() -> MicroStream:
        micro = MicroModel(content)
        return MicroStream(micro.run, micro, spec)

    return Kind(lambda sound: stream().outputs(sound), stream().stride)

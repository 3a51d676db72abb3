"""What the file for microcontrollers must pass, in TensorFlow Lite Micro and in LiteRT.

The network remembers no more than left context and clip, so clips are streamed one after the other
without a reset: what came before a clip changes no bit of its answer, which is checked as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from tflite_export.arrays import FloatArray, Network
from tflite_export.checks import Check, at_least, at_most
from tflite_export.evidence import Evidence, log_mel
from tflite_export.interpreter import TfliteModel
from tflite_export.micro.blueprint import calls_in_reach, multiply_adds_per_second
from tflite_export.micro.runtime import MicroModel, least_arena_bytes
from tflite_export.parity import require_answers

LEAST_AGREEMENT = 0.99
# As of the other integer files: between words and in loud noise torch's own answers are near ties.
LEAST_LISTENING_AGREEMENT = 0.95
LOGIT_LIMIT = 3.0
"""A logit that is further from torch's is a fault, not rounding."""
START_LIMIT = 1.0
"""What a stream begins with is rounded once, what it computes of silence in every layer."""
ARENA_LIMIT_BYTES = 64_000
"""A quarter of a microcontroller of 256 KB."""
MULTIPLY_ADDS_LIMIT = 100e6
"""What 100 MHz do at one a cycle."""
LITERT_CLIPS, MICRO_CLIPS = 1_000, 200
"""Held-out clips, evenly spread: one takes some thirty calls of either interpreter."""
REACH_CLIPS = 24
"""Of the oldest sound in reach the integers keep a trace in some 60 % of clips."""

IntArray = NDArray[np.int8]
Run = Callable[[IntArray], NDArray[Any]]


class MicroStream:
    """A file that takes a few frames a call, run by whatever loaded it.

    Args:
      run: one call: frames (1, stride, mels), int8, to its output (1, c).
      micro: the same file in TensorFlow Lite Micro, which knows scale and zero point.
      spec: of the front end.
    """

    def __init__(self, run: Run, micro: MicroModel, spec: FrontendSpec) -> None:
        (_, self.stride, _), self._scale, self._zero = micro.input
        self._run, self.spec = run, spec

    def outputs(self, samples: FloatArray) -> NDArray[Any]:
        """Goes on with samples (n,) after digital silence: one row for each call, (calls, c)."""
        before = self.spec.window_samples - self.spec.hop_samples
        return self.of_frames(log_mel(self.spec, np.pad(samples, (before, 0))[np.newaxis])[0])

    def of_frames(self, features: FloatArray) -> NDArray[Any]:
        """The same of log-mel (frames, mels); frames that fill no call are left out in front."""
        return self.of_integers(self.quantized(features[len(features) % self.stride :]))

    def of_integers(self, frames: IntArray) -> NDArray[Any]:
        """The same of whole calls of frames that are quantized already, int8."""
        calls = frames.reshape(-1, 1, self.stride, frames.shape[1])
        return np.concatenate([self._run(call) for call in calls])

    def answers(self, waveforms: FloatArray) -> NDArray[Any]:
        """The output at the end of each clip (n, heard_samples), (n, c)."""
        return self.answers_to(log_mel(self.spec, waveforms))

    def answers_to(self, features: FloatArray) -> NDArray[Any]:
        """The same of the clips' log-mel (n, frames, mels)."""
        return np.stack([self.of_frames(clip)[-1] for clip in features])

    def quantized(self, features: FloatArray) -> IntArray:
        """Log-mel as the file takes it; see `fedspeech_quantize` in `front_end.c`."""
        whole = np.round(features / np.float32(self._scale)) + self._zero
        integers: IntArray = np.clip(whole, -128, 127).astype(np.int8)
        return integers


def micro_checks(model: TfliteModel, evidence: Evidence, network: Network) -> Iterator[Check]:
    """The checks of a file that was made of a network.

    Raises:
      ExportRefused: if TensorFlow Lite Micro refuses the file, or a check fails.
    """
    micro = MicroModel(model.content)
    spec = network.frontend
    lite = MicroStream(lambda frames: model.run("frames", log_mel=frames)["logits"], micro, spec)
    stream = MicroStream(micro.run, micro, spec)
    many, few = (evidence.held_out.evenly(most) for most in (LITERT_CLIPS, MICRO_CLIPS))
    features = evidence.held_out_log_mel
    yield from _answers("LiteRT", lite.answers_to(features[many]), many, evidence)
    found, both = stream.answers_to(features[few]), lite.answers_to(features[few])
    yield from _answers("TFLM", found, few, evidence)
    yield at_most(
        "largest difference of a logit between LiteRT and TensorFlow Lite Micro",
        np.abs(found - both).max(), LOGIT_LIMIT, f"{len(few)} held-out clips",
    )  # fmt: skip
    yield _listening(stream, evidence)
    yield from _start(model.content, evidence, spec)
    yield from _reach(stream, evidence, calls_in_reach(network))
    yield from _memory(micro, evidence, spec)
    yield at_most(
        "multiply-adds a second", multiply_adds_per_second(network), MULTIPLY_ADDS_LIMIT,
        "convolutions and head",
    )  # fmt: skip


def _answers(
    runtime: str, found: FloatArray, places: NDArray[np.int64], evidence: Evidence
) -> Iterator[Check]:
    """Predictions on held-out clips at these places, and distance of logits from torch."""
    expected, held_out = evidence.held_out_logits[places], evidence.held_out.rows(places)
    yield from require_answers(
        runtime, expected, found, held_out, least_agreement=LEAST_AGREEMENT,
        sampled=len(places) < len(evidence.held_out.labels),
    )  # fmt: skip
    yield at_most(
        f"{runtime}, largest difference of a logit from torch",
        np.abs(found - expected).max(), LOGIT_LIMIT, f"{len(found)} held-out clips",
    )  # fmt: skip


def _listening(stream: MicroStream, evidence: Evidence) -> Check:
    """Minutes without a reset against torch, at the hops that end a call."""
    expected = evidence.listening_logits
    last = len(expected) % stream.stride + stream.stride - 1
    expected = expected[last :: stream.stride]
    found = stream.outputs(evidence.listening)
    agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    return at_least(
        "listening, same answer", agreement, LEAST_LISTENING_AGREEMENT,
        f"{len(found)} answers over {len(found) * stream.stride} hops without a reset, in "
        "TensorFlow Lite Micro",
    )  # fmt: skip


def _start(content: bytes, evidence: Evidence, spec: FrontendSpec) -> Iterator[Check]:
    """What a stream begins with, and that it forgets what is older than left context and clip."""
    first, other = (MicroModel(content) for _ in range(2))
    streams = [MicroStream(micro.run, micro, spec) for micro in (first, other)]
    silence = np.zeros(evidence.speech.shape[1], dtype=np.float32)
    began = streams[0].outputs(silence)
    yield at_most(
        "start, largest difference of a logit from lasting silence",
        np.abs(began - began[-1]).max(), START_LIMIT, f"{len(began)} calls of digital silence",
    )  # fmt: skip
    again = MicroStream(MicroModel(content).run, first, spec).outputs(silence)
    yield at_most(
        "restart, outputs changed", float((again != began).sum()), 0,
        "the same calls in an interpreter that is made anew",
    )  # fmt: skip
    streams[0].outputs(evidence.speech[1])
    streams[1].outputs(evidence.probes[-2])
    here, there = (stream.answers(evidence.speech[:1]) for stream in streams)
    yield at_most(
        "forgetting, outputs changed", float((here != there).sum()), 0,
        "a clip after its left context, behind another clip and behind what is no speech",
    )  # fmt: skip


def _reach(stream: MicroStream, evidence: Evidence, calls: int) -> Iterator[Check]:
    """How far back a stream remembers, to the call: no average over clips shows one window less.

    Of each clip one call is made the loudest and then the quietest there is.
    """
    clips = log_mel(stream.spec, evidence.speech[: REACH_CLIPS + 1])
    for back, what in ((calls, "oldest call in reach"), (calls + 1, "call before it")):
        changed = 0
        for before, clip in itertools.pairwise(clips):
            sound = np.concatenate([before, clip])[-(calls + 1) * stream.stride :]
            ends = []
            for level in (-128, 127):
                frames = stream.quantized(sound)
                first = len(frames) - back * stream.stride
                frames[first : first + stream.stride] = level
                ends.append(stream.of_integers(frames)[-1])
            changed += bool((ends[0] != ends[1]).any())
        over = f"{len(clips) - 1} clips, {back} calls before the answer"
        if back == calls:
            yield at_least(f"remembering, clips that the {what} changes", changed, 1, over)
        else:
            yield at_most(f"forgetting, clips that the {what} changes", changed, 0, over)


def _memory(micro: MicroModel, evidence: Evidence, spec: FrontendSpec) -> Iterator[Check]:
    """The arena, and that nothing more is needed than it says."""
    arena = least_arena_bytes(micro.content)
    yield at_most(
        "arena, bytes", arena, ARENA_LIMIT_BYTES,
        "TensorFlow Lite Micro with pointers of 64 bits; those of 32 need less",
    )  # fmt: skip
    tight = MicroModel(micro.content, arena)
    clip = evidence.speech[:1]
    here, there = (MicroStream(one.run, one, spec).answers(clip) for one in (micro, tight))
    yield at_most(
        "arena of just that size, outputs changed", float((here != there).sum()), 0, "a clip"
    )

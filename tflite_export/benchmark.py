"""Speed of a file on one thread, beside torch in the same run.

Calls are timed through `TfliteModel`, so Python's share is in the figures; file and torch take
turns, so that both meet the same load of the machine. Only the ratio travels to another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.seeds import stream
from fedspeech.training.objectives import cross_entropy
from fedspeech.training.settings import LocalTraining
from tflite_export.flatbuffer import read_card
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import Trained

# A 95th percentile of 300 calls has 15 above it.
CALLS = 300
LOADS = 5
# The first calls allocate and fill caches.
_WARM_UP = 20


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One kind of call, in the file and in torch.

    Attributes:
      what: which call.
      p50_ms, p95_ms: of the file.
      torch_does: what torch did in turn with it.
      audio_ms: how much audio a call stands for; 0 for training.
    """

    what: str
    p50_ms: float
    p95_ms: float
    torch_does: str
    torch_p50_ms: float
    torch_p95_ms: float
    audio_ms: float

    @property
    def times_faster(self) -> float:
        """Torch's median over the file's."""
        return self.torch_p50_ms / self.p50_ms

    @property
    def real_time_factor(self) -> float | None:
        """Share of real time at the 95th percentile; below 1 keeps up."""
        return self.p95_ms / self.audio_ms if self.audio_ms else None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What one file costs; `load_ms` is the median time until it can be called."""

    kind: str
    size_bytes: int
    load_ms: float
    timings: tuple[Timing, ...]


def measure(content: bytes, trained: Trained, clip: NDArray[np.float32]) -> Benchmark:
    """Times a .tflite file on a clip (clip_samples,), beside the trained model in torch.

    Raises:
      ExportRefused: if the file cannot be read or has no call that is known.
    """
    loads = []
    for _ in range(LOADS):
        started = time.perf_counter()
        model = TfliteModel(content)
        loads.append(time.perf_counter() - started)
    encoder = trained.base.encoder
    one = clip[np.newaxis]
    whole = _torch_clip(trained, one)
    hop = one[:, : encoder.hop_samples]
    clip_ms = 1000 * encoder.clip_samples / encoder.rate_hz
    hop_ms = 1000 * encoder.hop_samples / encoder.rate_hz
    calls: dict[str, tuple[Callable[[], object], float]] = {
        "waveform": (lambda: model.run("waveform", waveform=one), clip_ms),
        "infer": (lambda: model.run("infer", waveform=one), clip_ms),
        "hop": (lambda: model.run("hop", samples=hop), hop_ms),
    }
    if "frames" in model.signatures:  # a microcontroller's, which brings its own front end
        spec = model.signatures["frames"].inputs["log_mel"]
        frames = np.zeros(spec.shape, spec.dtype)
        calls["frames"] = lambda: model.run("frames", log_mel=frames), hop_ms * spec.shape[1]
    before = torch.get_num_threads()
    # The file runs on one thread as well.
    torch.set_num_threads(1)
    try:
        timings = [
            _timing(name, call, "one whole clip", whole, audio_ms)
            for name, (call, audio_ms) in calls.items()
            if name in model.signatures
        ]
        if "train" in model.signatures:
            timings.append(_training(model, trained))
    finally:
        torch.set_num_threads(before)
    if not timings:
        raise ExportRefused(
            f"benchmark: the file has none of {', '.join(calls)} and train, but "
            f"{', '.join(sorted(model.signatures))}"
        )
    return Benchmark(
        kind=str(read_card(content).get("file")),
        size_bytes=len(content),
        load_ms=1000 * float(np.median(loads)),
        timings=tuple(timings),
    )


def _torch_clip(trained: Trained, clip: NDArray[np.float32]) -> Callable[[], object]:
    """Front end, encoder and adapter in torch."""
    tensors = {name: torch.tensor(value)[None] for name, value in trained.parameters.items()}
    adapter, base = trained.adapter, trained.base
    encoder = adapter.encoder(base)

    def call() -> object:
        with torch.inference_mode():
            return adapter.logits(tensors, adapter.embed_frames(base, encoder(clip))[None])

    return call


def _training(model: TfliteModel, trained: Trained) -> Timing:
    """One step of SGD on as many cached embeddings as the file takes."""
    entries = model.signatures["train"].inputs
    rng, settings = stream(0, "benchmark"), LocalTraining(batch_size=64, local_epochs=5)
    clips = entries["labels"].shape[0]
    embeddings = rng.standard_normal(entries["embeddings"].shape).astype(np.float32)
    labels = rng.integers(0, len(trained.base.vocabulary.labels), clips)
    inputs = {
        "embeddings": embeddings,
        "labels": labels.astype(np.int32),
        "present": np.ones(clips, dtype=np.float32),
        "learning_rate": np.array([settings.learning_rate], dtype=np.float32),
        "momentum": np.array([settings.momentum], dtype=np.float32),
        "proximal_mu": np.zeros(1, dtype=np.float32),
    }
    local = {
        name: torch.tensor(value[np.newaxis]).requires_grad_()
        for name, value in trained.parameters.items()
    }
    optimizer = torch.optim.SGD(
        list(local.values()), lr=settings.learning_rate, momentum=settings.momentum
    )
    batch, answers = torch.from_numpy(embeddings[np.newaxis]), torch.from_numpy(labels)

    def step() -> None:
        loss = cross_entropy(trained.adapter.logits(local, batch)[0], answers)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    what = f"train, {clips} clips"
    return _timing(what, lambda: model.run("train", **inputs), "the same step", step, 0.0)


def _timing(
    what: str,
    call: Callable[[], object],
    torch_does: str,
    by_torch: Callable[[], object],
    audio_ms: float,
) -> Timing:
    """Times two calls in turn."""
    seconds = np.empty((CALLS + _WARM_UP, 2))
    for row in seconds:
        # In turn, so that both meet the same load and the same clock of the processor.
        for column, function in enumerate((call, by_torch)):
            started = time.perf_counter()
            function()
            row[column] = time.perf_counter() - started
    p50, p95 = 1000 * np.quantile(seconds[_WARM_UP:], [0.5, 0.95], axis=0)
    return Timing(
        what=what,
        p50_ms=float(p50[0]),
        p95_ms=float(p95[0]),
        torch_does=torch_does,
        torch_p50_ms=float(p50[1]),
        torch_p95_ms=float(p95[1]),
        audio_ms=audio_ms,
    )

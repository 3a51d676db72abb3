"""The front end in words and as NumPy, for the card, and golden vectors to hold a copy against.

Firmware brings its own front end. Conventions differ (a symmetric window, amplitude instead of
power, decibels, Slaney's mel scale, filters of area 1), and each of them costs a third of the
accuracy, so the card says every one of them, and `golden_vectors.json` shows what comes out.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.seeds import stream
from tflite_export.evidence import log_mel, reference_logits
from tflite_export.weights import Trained

GOLDEN_FILE = "golden_vectors.json"


def render(template: str, **context: Any) -> str:
    """Fills in one of `templates/`: Markdown, text or Python, in which nothing is escaped."""
    environment = Environment(
        loader=PackageLoader("tflite_export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(context)


def in_numpy(spec: FrontendSpec) -> str:
    """A program of NumPy alone: `features(samples)` with this front end's numbers, in float64.

    Empty for the kind "pcan", which `pymicro-features` computes to the bit.
    """
    if spec.kind:
        return ""
    return render("front_end.py.jinja", spec=spec, cepstra=spec.cepstra)


def in_words(spec: FrontendSpec) -> tuple[str, ...]:
    """The steps from samples to features, one sentence each."""
    if spec.kind:
        return (
            "The audio front end of TensorFlow Lite Micro with the settings of microWakeWord, to "
            "the bit: windows of 30 ms every 10 ms, 40 bands from 125 to 7500 Hz, noise reduction, "
            "PCAN, logarithm; its integers are multiplied by 10/256.",
            "ESPHome and the package pymicro-features compute it.",
        )
    return tuple(render("front_end.txt", spec=spec, cepstra=spec.cepstra).splitlines())


def golden_waveform(spec: FrontendSpec, num_samples: int) -> NDArray[np.int16]:
    """A synthetic 16-bit waveform: a gliding voice, hiss, a click, digital silence."""
    rng = stream(0, "golden vectors")
    seconds = np.arange(num_samples) / spec.rate_hz
    pitch_hz = 120 + 60 * np.sin(2 * np.pi * seconds)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / spec.rate_hz
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 25))
    waveform = 0.15 * voice * np.sin(np.pi * seconds / seconds[-1]) ** 2
    waveform += 0.003 * rng.standard_normal(num_samples)
    waveform[num_samples // 3] = 0.9
    waveform[-num_samples // 8 :] = 0
    samples: NDArray[np.int16] = np.round(32767 * np.clip(waveform, -1, 1)).astype(np.int16)
    return samples


def golden_vectors(trained: Trained, *, with_logits: bool) -> bytes:
    """A waveform and its features by the front end of training, as JSON; its logits too if asked.

    The logits are torch's, of the waveform as one clip.
    """
    base, spec = trained.base, trained.base.built_in.frontend
    samples = golden_waveform(spec, base.heard_samples)
    waveform = (samples / np.float32(2**15)).astype(np.float32)[np.newaxis]
    golden: dict[str, Any] = {
        "rate_hz": spec.rate_hz,
        "samples_int16": samples.tolist(),
        "features": _rounded(log_mel(spec, waveform)[0]),
    }
    if with_logits:
        golden["logits"] = _rounded(reference_logits(trained, waveform))[0]
    return json.dumps(golden, allow_nan=False).encode()


def _rounded(rows: NDArray[np.float32]) -> list[list[float]]:
    """Rows of numbers with the digits that float32 has."""
    return [[float(f"{value:.7g}") for value in row] for row in rows]

"""The front end in words and as NumPy, for the card, and golden vectors to hold a copy against.

Firmware brings its own front end. Conventions differ (a symmetric window, amplitude instead of
power, decibels, Slaney's mel scale, filters of area 1), and each of them costs a third of the
answers, so the card says every one of them, and `golden_vectors.json` shows what comes out.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.seeds import stream
from tflite_export.evidence import log_mel, reference_logits
from tflite_export.weights import Trained

GOLDEN_FILE = "golden_vectors.json"
_HANN = "np.sin(np.pi * np.arange({window}) / {window}) ** 2  # periodic Hann"
_HAMMING = "np.hamming({window})  # symmetric"
_LOG_MEL = "return log_energies"
_CEPSTRA = """area_hz = filters.sum(axis=0) * {rate} / {fft}
    log_energies += 2 * np.log(window.sum() * 2**15) - np.log(area_hz)
    cosines = np.cos(np.pi * np.outer(np.arange({mels}) + 0.5, np.arange({cepstra})) / {mels})
    cosines[0] /= 2
    return log_energies @ cosines / {mels}"""
_PREEMPHASIS = """
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = frames - {preemphasis} * before"""
_CODE = '''import numpy as np


def features(samples):
    """Features (frames, {features}), not standardized, of samples (n,): {rate} Hz, full scale 1."""
    view = np.lib.stride_tricks.sliding_window_view(samples, {window})
    frames = view[::{hop}].astype(np.float64)  # no padding, no centering{preemphasis_step}
    window = {window_step}
    spectrum = np.fft.rfft(frames * (window / window.sum()), {fft})
    power = np.abs(spectrum) ** 2

    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)  # HTK

    edges = np.linspace(mel({low}), mel({high}), {mels} + 2)
    bins = mel(np.arange({fft} // 2 + 1) * {rate} / {fft})[:, np.newaxis]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))  # height 1 each
    log_energies = np.log(power @ filters + {floor})  # natural logarithm
    {last_step}
'''


def in_numpy(spec: FrontendSpec) -> str:
    """A program of NumPy alone: `features(samples)` with this front end's numbers, in float64."""
    cepstra = spec.cepstra
    numbers: dict[str, Any] = {
        "rate": spec.rate_hz,
        "window": spec.window_samples,
        "hop": spec.hop_samples,
        "fft": spec.fft_samples,
        "mels": spec.num_mels,
        "low": spec.low_hz,
        "high": spec.high_hz,
        "floor": spec.floor,
        "features": spec.num_features,
    }
    if cepstra:
        numbers |= {"cepstra": cepstra.num, "preemphasis": cepstra.preemphasis}
    return _CODE.format(
        **{name: value for name, value in numbers.items() if name != "preemphasis"},
        preemphasis_step=_PREEMPHASIS.format(**numbers) if cepstra else "",
        window_step=(_HAMMING if cepstra else _HANN).format(**numbers),
        last_step=(_CEPSTRA if cepstra else _LOG_MEL).format(**numbers),
    )


def in_words(spec: FrontendSpec) -> tuple[str, ...]:
    """The steps from samples to features, one sentence each."""
    cepstra = spec.cepstra
    window = "the symmetric Hamming window" if cepstra else "the periodic Hann window"
    steps = [
        f"Samples are mono, {spec.rate_hz} Hz, full scale 1: 16-bit samples divided by 32768.",
        f"Frame t is the {spec.window_samples} samples from t * {spec.hop_samples} on; nothing is "
        "padded or centered.",
    ]
    if cepstra:
        steps.append(
            f"Within each frame, {cepstra.preemphasis} times the sample before is taken off each "
            "sample; the first is its own predecessor."
        )
    steps += [
        f"Each frame is multiplied by {window}, divided by the sum of the window.",
        f"Power is the squared magnitude of the {spec.fft_samples}-point Fourier transform, bins 0 "
        f"to {spec.fft_samples // 2}, not divided by anything.",
        f"{spec.num_mels} triangular filters of height 1, not divided by their area, on the HTK "
        "mel scale, 2595 log10(1 + f / 700): edges equally spaced in mel from "
        f"{spec.low_hz:g} to {spec.high_hz:g} Hz, each side linear in mel.",
        f"A feature is the natural logarithm of the filter's energy plus {spec.floor:g}.",
    ]
    if cepstra:
        steps.append(
            "Cepstra: 2 ln(32768 sum of the window) is added to the logarithms and the logarithm "
            "of the filter's area in Hz taken off; then c_i = (sum_j L_j cos(i pi (j + 1/2) / N) "
            f"- L_0 cos(i pi / 2N) / 2) / N over N = {spec.num_mels} bands, i from 0 to "
            f"{cepstra.num - 1}."
        )
    return (*steps, "Features are not standardized: the file does that.")


def golden_waveform(spec: FrontendSpec, num_samples: int) -> NDArray[np.int16]:
    """A made-up sound, 16-bit, (num_samples,): a gliding voice, hiss, a click, digital silence."""
    rng = stream(0, "golden vectors")
    seconds = np.arange(num_samples) / spec.rate_hz
    pitch_hz = 120 + 60 * np.sin(2 * np.pi * seconds)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / spec.rate_hz
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 25))
    sound = 0.15 * voice * np.sin(np.pi * seconds / seconds[-1]) ** 2
    sound += 0.003 * rng.standard_normal(num_samples)
    sound[num_samples // 3] = 0.9
    sound[-num_samples // 8 :] = 0
    samples: NDArray[np.int16] = np.round(32767 * np.clip(sound, -1, 1)).astype(np.int16)
    return samples


def golden_vectors(trained: Trained, *, with_logits: bool) -> bytes:
    """A sound and its features by the front end of training, as JSON.

    Args:
      trained: the model.
      with_logits: whether torch's logits for the sound as one clip are told too.
    """
    base, spec = trained.base, trained.base.frontend
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

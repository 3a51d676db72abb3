"""Does the file compute what the trained model computes? Measured, or refused.

Both sides hear the same clips: speech, and as many that are not speech (noise, tones, clicks,
overload, digital silence), because a phone's microphone hears those most of the day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import Adapter
from fedspeech.models.base import Base
from fedspeech.seeds import stream
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import Parameters

MINIMUM_SPEECH = 250
MAX_LOGIT_DIFFERENCE = 1e-4

_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class Check:
    """One signature of the file against torch; limits are those of this module.

    Attributes:
      signature: "waveform" or "log_mel".
      inputs: clips compared.
      speech_inputs: how many of them are speech.
      max_logit_difference: largest absolute difference of a logit.
      max_logit_difference_limit: what was allowed.
      argmax_agreement: share of clips with the same answer; 1 is required.
      labels_answered: distinct answers that torch gave; agreement says little where this is 1.
    """

    signature: str
    inputs: int
    speech_inputs: int
    max_logit_difference: float
    max_logit_difference_limit: float
    argmax_agreement: float
    labels_answered: int


def probes(speech: NDArray[np.float32], spec: FrontendSpec) -> NDArray[np.float32]:
    """Returns the speech, then as many clips that are not speech.

    Args:
      speech: shape (n, clip_samples), float32, full scale 1; at least 250 clips.
      spec: the front end.

    Returns:
      Shape (2 n, clip_samples), float32; the same for the same speech.

    Raises:
      ValueError: if there are too few clips, or shape, type or a value is wrong.
    """
    if speech.ndim != 2 or speech.shape[1] != spec.clip_samples or speech.dtype != np.float32:
        raise ValueError(
            f"speech must be float32 of shape (n, {spec.clip_samples}), got {speech.dtype} "
            f"{speech.shape}"
        )
    if len(speech) < MINIMUM_SPEECH:
        raise ValueError(f"parity needs at least {MINIMUM_SPEECH} speech clips, got {len(speech)}")
    if not np.isfinite(speech).all():
        raise ValueError("speech must be finite, got NaN or infinity")
    return np.concatenate([speech, _not_speech(len(speech), spec)])


def reference_logits(
    base: Base, adapter: Adapter, parameters: Parameters, waveforms: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Computes in torch what training and evaluation compute.

    Args:
      base: the frozen part.
      adapter: what follows the trunk.
      parameters: its values.
      waveforms: shape (n, clip_samples).

    Returns:
      Logits, shape (n, c).
    """
    tensors = {
        name: torch.tensor(value, dtype=torch.float32)[None] for name, value in parameters.items()
    }
    blocks = []
    for start in range(0, len(waveforms), _BLOCK):
        embeddings = adapter.embed(base.trunk_output(waveforms[start : start + _BLOCK]))
        blocks.append(adapter.logits(tensors, embeddings[None])[0].numpy())
    return np.concatenate(blocks)


def check_parity(
    model: TfliteModel,
    base: Base,
    adapter: Adapter,
    parameters: Parameters,
    speech: NDArray[np.float32],
) -> tuple[Check, ...]:
    """Runs both signatures of the file on every probe, one clip at a time as a phone does.

    Args:
      model: the file.
      base: the frozen part in torch.
      adapter: what follows the trunk.
      parameters: its values.
      speech: shape (n, clip_samples), at least 250 clips.

    Returns:
      One check per signature.

    Raises:
      ExportRefused: if a signature is missing or takes other shapes, a logit differs by more than
        1e-4 or is not finite, or one clip gets another answer; names the check and the figure.
      ValueError: if the speech cannot be used; see `probes`.
    """
    waveforms = probes(speech, base.frontend)
    expected = reference_logits(base, adapter, parameters, waveforms)
    with torch.inference_mode():
        log_mel = LogMel(base.frontend)(torch.from_numpy(waveforms)).numpy()
    checks = []
    for signature, inputs in (("waveform", waveforms), ("log_mel", log_mel)):
        try:
            found = model.run_each(signature, inputs)
        except ValueError as error:
            raise ExportRefused(f"signature {signature}: {error}") from error
        checks.append(compare(signature, expected, found, speech_inputs=len(speech)))
    return tuple(checks)


def compare(
    signature: str,
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    *,
    speech_inputs: int,
) -> Check:
    """Compares logits of torch and of the file, both of shape (n, c).

    Raises:
      ExportRefused: if they are too far apart; names the check and the figure.
    """
    if found.shape != expected.shape:
        raise ExportRefused(
            f"{signature} shape: expected logits of shape {expected.shape}, got {found.shape}"
        )
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    answers = expected.argmax(axis=1)
    agreement = float((found.argmax(axis=1) == answers).mean())
    # Written so that NaN fails: a comparison with NaN is false.
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise ExportRefused(
            f"{signature} logits: at most {MAX_LOGIT_DIFFERENCE} from torch's allowed on "
            f"{len(expected)} inputs, got {difference:.3g} (argmax agreement {agreement:.2%})"
        )
    if agreement != 1.0:
        raise ExportRefused(
            f"{signature} argmax: all {len(expected)} inputs must get torch's answer, got "
            f"{agreement:.2%}"
        )
    return Check(
        signature=signature,
        inputs=len(expected),
        speech_inputs=speech_inputs,
        max_logit_difference=difference,
        max_logit_difference_limit=MAX_LOGIT_DIFFERENCE,
        argmax_agreement=agreement,
        labels_answered=len(np.unique(answers)),
    )


def _not_speech(num_clips: int, spec: FrontendSpec) -> NDArray[np.float32]:
    """Makes clips without speech: five kinds in turn, -70 to 0 dB of full scale; one is silence."""
    rng = stream(0, "parity probes")
    seconds = np.arange(spec.clip_samples) / spec.rate_hz
    clips = np.empty((num_clips, spec.clip_samples), dtype=np.float32)
    for index, clip in enumerate(clips):
        level = 10 ** (rng.uniform(-70, 0) / 20)
        white = rng.standard_normal(spec.clip_samples)
        match index % 5:
            case 0:
                sound = white / 4
            case 1:
                brown = np.cumsum(white)
                sound = (brown - brown.mean()) / np.abs(brown).max()
            case 2:
                sound = np.sin(2 * np.pi * rng.uniform(50, spec.rate_hz / 2) * seconds)
            case 3:
                sound = white * (rng.random(spec.clip_samples) < 1e-3)
            case _:
                sound = np.sign(white) * (rng.random() + 0.5)
        clip[:] = np.clip(level * sound, -1, 1)
    clips[-1] = 0
    return clips

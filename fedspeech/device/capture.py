"""How sound becomes a record: a trigger, a consent, and a clip; nothing else keeps sound.

capture = Capture(heard, vault, area="wake_word")
record = capture.trigger(1.5, purpose="federated_training")     # the last second and a half
samples, rate_hz = decoded(vault.use(record, ...).content)
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

from fedspeech.audio.ring_buffer import RingBuffer, Samples
from fedspeech.device.consent import Purpose
from fedspeech.device.retention import ClipFormat
from fedspeech.device.vault import Vault
from fedspeech.errors import require

OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
"""RFC 6716, section 2."""

_ENCODINGS: dict[ClipFormat, tuple[str, str]] = {
    "flac": ("FLAC", "PCM_16"),
    "opus": ("OGG", "OPUS"),
}
"""Container and encoding."""


class Capture:
    """Between a ring buffer and the records of a phone.

    Args:
      heard: what the microphone heard last.
      vault: of the phone.
      area: part of the product that listens.
    """

    def __init__(self, heard: RingBuffer, vault: Vault, *, area: str) -> None:
        self._heard, self._vault, self._area = heard, vault, area

    def trigger(self, seconds: float, *, purpose: Purpose) -> str:
        """Keeps the last seconds in the format that the retention names; the record's id.

        Raises:
          ConsentMissing: if the user has not agreed; no sample has left the buffer.
          ValueError: if the buffer holds fewer seconds, or Opus does not know its rate.
          StoreFull: if the disk is full; nothing is kept.
        """
        receipt = self._vault.consents.require(purpose, self._area)
        samples = self._heard.last(seconds)
        try:
            return self._vault.keep(
                "debug" if purpose == "debug" else "clip",
                encoded(samples, self._heard.rate_hz, self._vault.store.retention.clip_format),
                purpose=purpose,
                area=self._area,
                begun=receipt.id,
            )
        finally:
            samples[:] = 0


def encoded(samples: Samples, rate_hz: int, clip_format: ClipFormat) -> bytes:
    """A clip of some samples, in memory.

    Args:
      samples: shape (n,).
      rate_hz: of the samples.
      clip_format: "opus" is Opus in Ogg (RFC 7845), near 32 kbit/s at 16 kHz.

    Raises:
      ValueError: of Opus at another rate than 8, 12, 16, 24 or 48 kHz, or of no samples.
    """
    known = clip_format == "flac" or rate_hz in OPUS_RATES_HZ
    require(known, f"Opus takes one of {OPUS_RATES_HZ} Hz", rate_hz=rate_hz)
    require(len(samples) > 0, "a clip has samples", samples=len(samples))
    file, (container, encoding) = io.BytesIO(), _ENCODINGS[clip_format]
    soundfile.write(file, samples, rate_hz, format=container, subtype=encoding)
    return file.getvalue()


def decoded(content: bytes) -> tuple[Samples, int]:
    """Samples of a clip, shape (n,), and their rate in Hz; of FLAC, bit for bit what went in."""
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="int16")
    return np.asarray(samples, dtype=np.int16), int(rate_hz)
